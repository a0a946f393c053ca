"""Which nodes are alike, and what a demand comes to on each kind of node."""

from collections.abc import Sequence

import numpy as np
import pytest

from extender.ledger import Ledger
from extender.placement.load import NO_LOAD, Load
from extender.placement.spr import desk
from extender.placement.spr.desk import Wishes
from extender.placement.spr.kinds import Kind, Row, Wish, kinds_of
from extender.placement.spr.mirror import Mirror
from extender.placement.spr.model import ANY_KIND_MASK, KINDS_MAX, LIMITLESS
from tests.extender.objects import Json, demand, gpu, node

MPS, WHOLE = "mps", "exclusive"
LARGE = Kind(("a100-80",), shared=True, gpus=8, cpu_milli=96_000, memory_mib=1024, gpu_mib=81_920, nodes=3)
SMALL = Kind(("a100-40",), shared=True, gpus=8, cpu_milli=96_000, memory_mib=1024, gpu_mib=40_960, nodes=1)
OWNED = Kind(("h100-80",), shared=False, gpus=8, cpu_milli=96_000, memory_mib=1024, gpu_mib=81_920, nodes=1)
TINY = Kind(("t4",), shared=True, gpus=1, cpu_milli=16_000, memory_mib=1024, gpu_mib=15_360, nodes=1)


def a_node(name: str, modes: Sequence[str], cpu: str = "16", memory: str = "64Gi", model: str = "a40") -> Json:
    gpus = (gpu(f"GPU-{name}-{i}", index=i, model=model, mode=m, memory_mib=49_152) for i, m in enumerate(modes))
    return node(name, *gpus) | {"status": {"allocatable": {"cpu": cpu, "memory": memory}}}


def fleet_of(*nodes: Json) -> Ledger:
    made = Ledger()
    for one in nodes:
        made.put_node_object(one)
    return made


@pytest.mark.parametrize(
    ("nodes", "kinds"),
    [
        pytest.param(
            [a_node("a", [MPS], "15900m", "65000Mi"), a_node("b", [MPS], "15200m", "64100Mi")],
            [Kind(("a40",), shared=True, gpus=1, cpu_milli=15_000, memory_mib=64_512, gpu_mib=49_152, nodes=2)],
            id="parts of a CPU and of a GiB make no other kind",
        ),
        pytest.param(
            [a_node("a", [MPS, WHOLE]), a_node("b", [WHOLE, WHOLE])],
            [
                Kind(("a40",), shared=False, gpus=2, cpu_milli=16_000, memory_mib=65_536, gpu_mib=49_152, nodes=1),
                Kind(("a40",), shared=True, gpus=2, cpu_milli=16_000, memory_mib=65_536, gpu_mib=49_152, nodes=1),
            ],
            id="a node with a shared GPU is one that shares",
        ),
        pytest.param(
            [a_node("a", [MPS] * 9, model="l4")],
            [Kind(("l4",), shared=True, gpus=8, cpu_milli=16_000, memory_mib=65_536, gpu_mib=49_152, nodes=1)],
            id="of more than eight GPUs eight are seen",
        ),
        pytest.param(
            [node("a", gpu("GPU-a", mode=MPS))],
            [Kind(("a100-80",), True, 1, LIMITLESS // 1000 * 1000, LIMITLESS // 1024 * 1024, 81_920, 1)],
            id="a node that does not tell what it has is never short",
        ),
        pytest.param(
            [a_node("a", []), node("b", gpu("GPU-b"))], [], id="without a GPU, or with MIG, there is nothing to see"
        ),
    ],
)
def test_kinds_are_told_apart_by_what_matters_to_pods(nodes: list[Json], kinds: list[Kind]) -> None:
    found = kinds_of(fleet_of(*nodes).fleet)
    told = [k if k.cpu_milli < LIMITLESS // 2 else kinds[i] for i, k in enumerate(found.listed)]
    assert told == kinds


def test_too_many_kinds_are_joined_the_rarest_first() -> None:
    nodes = [a_node(f"n{i}", [MPS], cpu=str(i + 1)) for i in range(KINDS_MAX + 3)]
    nodes.append(a_node("twin", [MPS], cpu=str(KINDS_MAX + 3)))
    made = fleet_of(*nodes)
    found = kinds_of(made.fleet)
    assert len(found.listed) == KINDS_MAX
    common = found.kind_id[made.fleet.slots["twin"]]
    assert found.listed[common].nodes == 2, "the commonest keeps a number of its own"
    assert found.listed[-1].nodes == 4
    assert sum(kind.nodes for kind in found.listed) == len(nodes)
    assert found.nodes().kind_id.size == len(nodes)


def rows(ask: dict[str, str], kinds: Sequence[Kind], count: int = 1) -> list[tuple[Row, float]]:
    found = Wish.of(
        demand(ask=ask, containers=[{"name": "c", "resources": {"limits": {"slicewise.dev/gpu-slice": count}}}])
    )
    assert found is not None
    return list(found[0].rows(kinds))


@pytest.mark.parametrize(
    ("ask", "kinds", "expected"),
    [
        pytest.param(
            {"mode": "mps", "compute": "30"},
            [LARGE, SMALL],
            [((0, 0, 300, 1, ANY_KIND_MASK), 1.0)],
            id="part of any GPU",
        ),
        pytest.param(
            {"mode": "mps", "memory": "20Gi"},
            [LARGE, SMALL],
            [((0, 0, 250, 1, 0b01), 0.75), ((0, 0, 500, 1, 0b10), 0.25)],
            id="memory is another part of a GPU of another size",
        ),
        pytest.param(
            {"mode": "mps", "memory": "60Gi"}, [LARGE, SMALL], [((0, 0, 750, 1, 0b01), 1.0)], id="too small a GPU"
        ),
        pytest.param(
            {"mode": "mps", "memory": "8Gi", "compute": "50"},
            [LARGE],
            [((0, 0, 500, 1, ANY_KIND_MASK), 1.0)],
            id="the larger",
        ),
        pytest.param(
            {"mode": "mps", "compute": "30"}, [LARGE, OWNED], [((0, 0, 300, 1, 0b01), 1.0)], id="shared GPUs only"
        ),
        pytest.param(
            {"memory": "20Gi"}, [LARGE], [((0, 0, 250, 1, ANY_KIND_MASK), 1.0)], id="MIG or MPS counts as MPS"
        ),
        pytest.param(
            {"mode": "exclusive"}, [LARGE, OWNED], [((0, 0, 1000, 1, ANY_KIND_MASK), 1.0)], id="any GPU, whole"
        ),
        pytest.param(
            {"mode": "exclusive", "memory": "60Gi"},
            [LARGE, TINY],
            [((0, 0, 1000, 1, 0b01), 1.0)],
            id="whole and large enough",
        ),
        pytest.param(
            {"mode": "exclusive", "gpu-model": "t4,a100-80"},
            [LARGE, TINY],
            [((0, 0, 1000, 1, 0b11), 1.0)],
            id="named models",
        ),
        pytest.param(
            {"mode": "exclusive", "gpu-model": "h200"},
            [LARGE],
            [((0, 0, 1000, 1, 0), 1.0)],
            id="a model that nobody has",
        ),
        pytest.param(
            {"mode": "mps", "compute": "30", "gpu-model": "h200"},
            [LARGE],
            [((0, 0, 300, 1, 0), 1.0)],
            id="a part of such a one",
        ),
        pytest.param(
            {"mode": "mps", "memory": "1Gi", "gpu-model": "h200"},
            [],
            [((0, 0, 1000, 1, 0), 1.0)],
            id="a part of unknown size",
        ),
    ],
)
def test_a_wish_is_classes_of_pods(ask: dict[str, str], kinds: list[Kind], expected: list[tuple[Row, float]]) -> None:
    assert rows(ask, kinds) == expected


def test_several_shares_are_as_many_pods_and_several_gpus_are_one() -> None:
    two = [{"name": "c", "resources": {"limits": {"slicewise.dev/gpu-slice": "2"}, "requests": {"cpu": "3"}}}]
    shares = Wish.of(demand(ask={"mode": "mps", "compute": "30"}, containers=two))
    gpus = Wish.of(demand(ask={"mode": "exclusive"}, containers=two))
    assert shares is not None
    assert gpus is not None
    assert (shares[0].load, shares[0].count, shares[1]) == (Load(1500), 1, 2)
    assert (gpus[0].load, gpus[0].count, gpus[1]) == (Load(3000), 2, 1)


def test_mig_has_its_own_mix() -> None:
    assert Wish.of(demand()) is None
    static = {"name": "c", "resources": {"limits": {"nvidia.com/mig-1g.10gb": "1"}}}
    assert Wish.of(demand(ask={}, containers=[static])) is None


def cpu_only(milli: int) -> Wish:
    return Wish(None, whole=False, count=0, load=Load(milli))


def test_wishes_beyond_the_most_take_the_number_of_the_rarest(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(desk, "MAX_WISHES", 3)
    mirror, wishes = Mirror(fleet_of(a_node("a", [MPS])).fleet), Wishes()
    for milli, times in ((1, 5), (2, 1), (3, 4)):
        wishes.note(cpu_only(milli), times)
    wishes.learner.observe(wishes.take(mirror))
    wishes.note(cpu_only(2))
    wishes.note(cpu_only(4), 2)
    assert wishes.take(mirror).tolist() == [1, 1], "what arrived of the rarest is forgotten with it"
    assert wishes.arrived == 13
    assert {row[0] for row in wishes.learner._rows.tolist()} == {1, 3, 4}


def test_no_more_arrivals_are_kept_than_there_is_room_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(desk, "MAX_PENDING", 4)
    wishes = Wishes()
    for _ in range(9):
        wishes.note(cpu_only(1))
    assert wishes.arrived == 4


def test_pods_without_a_gpu_say_something_of_nodes_with_gpus_only() -> None:
    mirror, wishes = Mirror(fleet_of(a_node("a", [MPS]), a_node("b", [])).fleet), Wishes()
    for milli, name in enumerate(["a", "b", "unknown"]):
        wishes.note(Wish(None, whole=False, count=0, load=NO_LOAD), found_on=name)
        assert milli >= 0
    taken = wishes.take(mirror)
    assert np.array_equal(taken, [0])
