"""MIG instances that are shared through MPS: devices of their own, with the compute of their slices."""

from typing import Any

import pytest

from extender.ledger import Ledger
from extender.placement.allocation import Allocation, MigSlice, MpsShare
from extender.placement.model import Inventory, Mode, Part
from extender.placement.scorers import SCORERS
from extender.placement.usage import MPS_CLIENTS
from extender.verbs import Eviction, filter_nodes, pick_victims, score_nodes
from tests.extender.objects import NOW_S, Json, container, demand, gpu, held, inventory, ledger, node, pod


def cut(profile: str = "3g.40gb", start: int = 4, size: int = 4, uuid: str = "MIG-a", **more: Any) -> Json:  # noqa: ANN401  # fields of the inventory
    return {"profile": profile, "start": start, "size": size, "uuid": uuid, "mps": True, **more}


def with_part(*instances: Json, **more: Any) -> Ledger:  # noqa: ANN401  # fields of the inventory
    return ledger([node("n0", gpu(instances=list(instances or [cut()]), **more))])


def fits(made: Ledger, ask: dict[str, str], **fields: Any) -> bool:  # noqa: ANN401  # as for demand
    return filter_nodes(made, demand("new", ask=ask, **fields), ["n0"], NOW_S).fit == ["n0"]


def test_a_shared_instance_is_a_device_beside_its_gpu() -> None:
    found, problems = Inventory.parse(
        inventory(gpu(index=3, numa=1, instances=[cut(), cut("1g.10gb", 0, 1, "", mps=False)]))
    )
    assert problems == ()
    parent, part = found.gpus
    assert (part.uuid, part.index, part.numa, part.mode) == ("MIG-a", 3, 1, Mode.MPS)
    assert (part.memory_mib, part.part, part.model) == (40192, Part("GPU-0", 3, 7), parent.model)
    assert [i.mps for i in parent.instances] == [False, True]


@pytest.mark.parametrize(
    ("instances", "why"),
    [
        pytest.param([cut(uuid="")], "want a MIG UUID to share, got ''", id="no MIG device"),
        pytest.param([cut(uuid="GPU-7")], "want a MIG UUID to share, got 'GPU-7'", id="a GPU's UUID"),
        pytest.param([cut(managed=True)], "want one that nobody may destroy", id="one that our agent may destroy"),
        pytest.param([cut(mps="yes")], "Expected `bool`", id="a word"),
        pytest.param([cut(), cut("1g.10gb", 0, 1)], "want each once", id="one UUID twice"),
    ],
)
def test_an_instance_that_cannot_be_shared_costs_the_gpu(instances: list[Json], why: str) -> None:
    found, problems = Inventory.parse(inventory(gpu(instances=instances)))
    assert found.gpus == ()
    assert why in problems[0].why


def test_one_uuid_on_two_gpus_is_used_once() -> None:
    found, problems = Inventory.parse(inventory(*(gpu(f"GPU-{i}", index=i, instances=[cut()]) for i in range(2))))
    assert [g.uuid for g in found.gpus] == ["GPU-0", "GPU-1", "MIG-a"]
    assert [p.gpu for p in problems] == ["MIG-a"]


@pytest.mark.parametrize(
    ("ask", "want"),
    [
        pytest.param({"compute": "42", "mode": "mps"}, MpsShare("MIG-a", 39388, 98), id="42 % of a GPU is 98 % of 3/7"),
        pytest.param({"compute": "43", "mode": "mps"}, None, id="43 % is more than 3/7"),
        pytest.param(
            {"memory": "20Gi", "mode": "mps"}, MpsShare("MIG-a", 20480, 51), id="half the memory, half of its slices"
        ),
        pytest.param(
            {"memory": "20Gi", "compute": "10", "mode": "mps"}, MpsShare("MIG-a", 20480, 24), id="both asked for"
        ),
        pytest.param({"memory": "40Gi", "mode": "mps"}, None, id="more memory than the instance has"),
        pytest.param({"memory": "1Gi", "mode": "mps", "gpu-model": "h100-80"}, None, id="of another model"),
        pytest.param({"mode": "exclusive"}, None, id="an instance is no whole GPU"),
        pytest.param({"profile": "3g.40gb"}, MigSlice("GPU-0", "3g.40gb", 0, 4), id="its place on the GPU is taken"),
    ],
)
def test_shares_of_an_instance(ask: dict[str, str], want: MpsShare | MigSlice | None) -> None:
    made = with_part()
    assert fits(made, ask) == (want is not None)
    got = made.assume("u1", "p", demand(ask=ask), "n0", NOW_S)
    assert isinstance(got, Allocation) == (want is not None)
    if want is not None:
        assert held(made, "u1").grants() == (want,)
        assert held(made, "u1") == Allocation.decode(held(made, "u1").encode())


@pytest.mark.timeout(300)  # where no machine code is kept, it is made
@pytest.mark.parametrize("scorer", SCORERS)
def test_every_scorer_places_on_instances_and_gpus_alike(scorer: str) -> None:
    both = node("n0", gpu(instances=[cut()]), gpu("GPU-1", index=1, mode="mps"))
    made = ledger([both, node("n1", gpu("GPU-2", instances=[cut(uuid="MIG-b")]))], scorer=scorer)
    placed = 0
    for i in range(20):
        asked = demand(f"u{i}", ask={"compute": "20", "mode": "mps"})
        fit = filter_nodes(made, asked, ["n0", "n1"], NOW_S).fit
        if not fit:
            break
        best = max(score_nodes(made, asked, fit, NOW_S), key=lambda s: s[1])[0]
        assert isinstance(made.assume(asked.uid, "p", asked, best, NOW_S), Allocation)
        placed += 1
    assert placed == 9  # five on the GPU, two on each instance of three sevenths
    assert made.problems() == ()


def test_shares_fill_an_instance_and_not_more() -> None:
    made = with_part()
    for i in range(4):
        asked = demand(f"u{i}", ask={"compute": "10", "memory": "9Gi", "mode": "mps"})
        assert isinstance(made.assume(f"u{i}", "p", asked, "n0", NOW_S), Allocation) == (i < 4)
    found = filter_nodes(made, demand("more", ask={"compute": "10", "memory": "9Gi", "mode": "mps"}), ["n0"], NOW_S)
    assert found.failed == {"n0": "1 shared GPU: no room for 9216 MiB 10 % compute, most free 3 GiB"}
    assert made.problems() == ()


@pytest.mark.parametrize(
    ("profile", "size", "clients"),
    [pytest.param("1g.10gb", 1, 6, id="a seventh"), pytest.param("3g.40gb", 4, 20, id="three sevenths")],
)
def test_an_instance_has_fewer_clients(profile: str, size: int, clients: int) -> None:
    made = with_part(cut(profile, 0, size))
    assert clients == MPS_CLIENTS * int(profile[0]) // 7
    tiny = {"memory": "1Mi", "compute": "1", "mode": "mps"}
    for i in range(clients):
        assert isinstance(made.assume(f"u{i}", "p", demand(f"u{i}", ask=tiny), "n0", NOW_S), Allocation)
    assert not fits(made, tiny)


def test_tenants_do_not_meet_in_an_instance() -> None:
    made = with_part()
    made.assume("u1", "p", demand("u1", ask={"memory": "1Gi", "mode": "mps"}, namespace="red"), "n0", NOW_S)
    assert fits(made, {"memory": "1Gi", "mode": "mps"}, namespace="red")
    assert not fits(made, {"memory": "1Gi", "mode": "mps"}, namespace="blue")


def test_a_shared_instance_is_not_there_for_nvidias_plugin() -> None:
    made = with_part(cut(), cut("3g.40gb", 0, 4, "MIG-b", mps=False))
    assert made.static_room("n0").free == {"3g.40gb": 1}
    asked = demand("s", ask={}, containers=[{"name": "m", "resources": {"limits": {"nvidia.com/mig-3g.40gb": "2"}}}])
    assert filter_nodes(made, asked, ["n0"], NOW_S).unresolvable == {"n0": "1 existing 3g.40gb, wants 2"}


@pytest.mark.parametrize(
    ("fields", "want"),
    [
        pytest.param({"owner": "mig-manager"}, True, id="whoever cut the GPU: the operator gave us this instance"),
        pytest.param({"healthy": False}, False, id="of a GPU that is not healthy nothing is used"),
    ],
)
def test_instances_of_gpus_that_are_not_ours(fields: Json, want: bool) -> None:
    assert fits(with_part(**fields), {"memory": "1Gi", "mode": "mps"}) == want


def test_eviction_makes_room_in_an_instance() -> None:
    made = with_part()
    for uid, priority, pct in (("a", 1, 70), ("b", 3, 30)):
        made.put_pod(
            pod(uid, on="n0", priority=priority, allocation=Allocation.of({"m": [MpsShare("MIG-a", 9000, pct)]}))
        )
    asked = demand("new", ask={"compute": "20", "memory": "1Gi", "mode": "mps"}, priority=5)
    assert pick_victims(made, asked, {"n0": Eviction()}, NOW_S)["n0"].uids == ("a",)


def test_several_shares_of_a_container_are_on_several_instances() -> None:
    made = with_part(cut(), cut("3g.40gb", 0, 4, "MIG-b"))
    asked = demand(ask={"memory": "1Gi", "mode": "mps"}, containers=[container(count=2)])
    made.assume("u1", "p", asked, "n0", NOW_S)
    assert {g.uuid for g in held(made, "u1").grants()} == {"MIG-a", "MIG-b"}
