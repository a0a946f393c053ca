import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from extender.placement import catalog
from extender.placement.model import INVENTORY, Inventory, InventoryError, NoInventory
from extender.placement.profile import Mode, Placement
from tests.extender.objects import gpu, inventory, node, one_gpu, parsed


def instance(profile: str, start: int, size: int, **more: Any) -> dict[str, Any]:  # noqa: ANN401
    return {"profile": profile, "start": start, "size": size, "uuid": "MIG-1", **more}


PLAIN = {"name": "1g.10gb", "size": 1, "slices": 1, "memory_mib": 9856, "starts": [0, 1, 2, 3], "max_count": 4}


def test_a_gpu_as_the_agent_reports_it() -> None:
    found = one_gpu(
        numa=1, healthy=False, instances=[instance("3g.40gb", 4, 4), instance("1g.10gb.me", 0, 1, managed=True)]
    )
    assert (found.uuid, found.index, found.numa, found.mode) == ("GPU-0", 0, 1, Mode.MIG)
    assert not found.usable
    assert [i.placement for i in found.instances] == [Placement("1g.10gb+me", 0, 1), Placement("3g.40gb", 4, 4)]
    assert [i.managed for i in found.instances] == [True, False]


def test_the_catalog_is_used_where_nothing_is_reported() -> None:
    assert one_gpu().model is catalog.load()["a100-80"]
    assert one_gpu(profiles=[]).model is catalog.load()["a100-80"]


def test_what_the_gpu_reports_goes_before_the_catalog() -> None:
    found = one_gpu(profiles=[PLAIN])
    assert [p.name for p in found.model.profiles] == ["1g.10gb"]
    assert found.model.memory_mib == 81920


def test_a_report_that_says_the_same_as_the_catalog_is_the_same_model() -> None:
    known = catalog.load()["a30"]
    reported = [
        {f: getattr(p, f) for f in ("name", "size", "slices", "memory_mib", "max_count")} | {"starts": list(p.starts)}
        for p in known.profiles
    ]
    assert one_gpu(model="a30", memory_mib=24576, profiles=reported).model is known


def test_an_unknown_model_is_used_as_discovered() -> None:
    found = one_gpu(model="z9000", profiles=[PLAIN])
    assert (found.model.name, len(found.model.profiles)) == ("z9000", 1)


def test_an_unknown_model_without_mig_needs_no_profiles() -> None:
    assert one_gpu(model="z9000", mode="mps").model.profiles == ()


def test_instances_of_a_gpu_that_is_not_in_mig_mode_are_left_over() -> None:
    assert one_gpu(mode="mps", instances=[instance("half", 0, 1)]).instances == ()


def test_gpus_stand_in_index_order() -> None:
    assert [g.uuid for g in parsed(gpu("b", index=1), gpu("a", index=0)).gpus] == ["a", "b"]


def test_another_managers_gpu_is_not_usable() -> None:
    assert not one_gpu(owner="mig-manager").usable


BAD = {
    "unknown profile": gpu(instances=[instance("9g.99gb", 0, 1)]),
    "no placement": gpu(instances=[instance("3g.40gb", 1, 4)]),
    "wrong size": gpu(instances=[instance("3g.40gb", 0, 3)]),
    "overlapping instances": gpu(instances=[instance("3g.40gb", 0, 4), instance("1g.10gb", 3, 1)]),
    "one too many": gpu(instances=[instance("1g.10gb+me", 0, 1), instance("1g.10gb+me", 1, 1)]),
    "negative memory": gpu(memory_mib=-1),
    "negative index": gpu(index=-1),
    "no uuid": gpu(""),
    "unknown mode": gpu(mode="timeslice"),
    "not a number": gpu(memory_mib="much"),
    "unknown model": gpu(model="z9000"),
    "not MIG-capable": gpu(model="t4"),
    "the same uuid again": gpu("GPU-good"),
    "a profile twice": gpu(profiles=[PLAIN, PLAIN]),
    "a profile without starts": gpu(profiles=[PLAIN | {"starts": []}]),
    "a profile that starts before 0": gpu(profiles=[PLAIN | {"starts": [-1]}]),
    "a profile of no size": gpu(profiles=[PLAIN | {"size": 0}]),
    "a profile without compute": gpu(profiles=[PLAIN | {"slices": 0}]),
    "a profile without memory": gpu(profiles=[PLAIN | {"memory_mib": 0}]),
    "a profile of which there are none": gpu(profiles=[PLAIN | {"max_count": 0}]),
    "a grid too fine": gpu(profiles=[PLAIN | {"starts": list(range(40))}]),
    "a number": 5,
    "null": None,
}


@pytest.mark.parametrize("bad", BAD.values(), ids=BAD)
def test_a_bad_gpu_is_refused_with_a_reason_and_the_others_are_used(bad: Any) -> None:  # noqa: ANN401
    found, problems = Inventory.parse(json.dumps({"version": 1, "gpus": [gpu("GPU-good", index=9), bad]}))
    assert [g.uuid for g in found.gpus] == ["GPU-good"]
    assert len(problems) == 1
    assert problems[0].why
    assert problems[0].gpu in {"GPU-0", "GPU-good", "gpus[1]"}
    assert str(problems[0]).startswith(f"{problems[0].gpu}: ")


@pytest.mark.parametrize(
    ("text", "why"),
    [
        pytest.param("", "slicewise.dev/inventory", id="empty"),
        pytest.param("5", "want an object", id="not an object"),
        pytest.param('{"version":1}', "want an object with version and gpus", id="no GPUs"),
        pytest.param('{"version":3,"gpus":[]}', "version 3 is not known", id="a later version"),
    ],
)
def test_a_bad_annotation_is_refused_as_a_whole(text: str, why: str) -> None:
    with pytest.raises(InventoryError, match=why):
        Inventory.parse(text)
    found, _ = Inventory.of({"metadata": {"annotations": {INVENTORY: text}}})
    assert isinstance(found, NoInventory)
    assert found.why.startswith("unreadable inventory")


@pytest.mark.parametrize(
    "given",
    [{}, {"metadata": None}, {"metadata": {"annotations": None}}, {"metadata": {"annotations": {INVENTORY: 5}}}],
)
def test_a_node_without_the_annotation_is_not_a_node_without_gpus(given: dict[str, Any]) -> None:
    found, problems = Inventory.of(given)
    assert isinstance(found, NoInventory)
    assert problems == ()


def test_the_inventory_of_a_node_object() -> None:
    found, problems = Inventory.of(node("n", gpu(), gpu("GPU-1", memory_mib=0)))
    assert isinstance(found, Inventory)
    assert (len(found.gpus), len(problems)) == (1, 1)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["uuid", "mode", "x"]), inner, max_size=3)
    ),
    max_leaves=6,
)


@given(st.dictionaries(st.sampled_from(list(gpu(profiles=1, instances=1, healthy=1, numa=1))), JSON))
def test_no_report_of_a_gpu_breaks_the_node(change: dict[str, Any]) -> None:
    found, problems = Inventory.parse(inventory(gpu("GPU-good", index=9), gpu() | change))
    assert found.gpus[-1].uuid == "GPU-good" or len(found.gpus) == 2
    assert len(found.gpus) + len(problems) == 2
