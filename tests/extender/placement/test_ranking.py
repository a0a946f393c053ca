"""The published node formulas by their tables, and what the extender tells them of its nodes."""

from collections import Counter
from collections.abc import Callable
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from extender.ledger import Ledger
from extender.placement.allocation import Allocation
from extender.placement.fleet import Fleet
from extender.placement.ranking import dot_prod, gpu_clustering, gpu_packing
from extender.placement.ranking.nodes import KINDS_OF_POD, NodeRanking, Seen
from extender.placement.ranking.random_fit import RandomFit
from extender.verbs import filter_nodes, score_nodes, what_if
from tests.extender.clusters import demand_of, ledgers, pods
from tests.extender.objects import NOW_S, Json, container, demand, gpu, held, ledger, node, pod

pytestmark = pytest.mark.timeout(300)  # where no machine code is kept, it is made
NAMES = ("dot-prod", "gpu-clustering", "gpu-packing", "random")


def both(function: Callable[..., int]) -> list[Any]:
    """Machine code, and the text that it was made of."""
    compiled: Any = function
    return [compiled, compiled.py_func]


@pytest.mark.parametrize("score", both(dot_prod.dot_prod_score), ids=["compiled", "plain"])
@pytest.mark.parametrize(
    ("seen", "want"),
    [
        pytest.param((0, 0, 0, 1000), 100, id="nothing left: as good as can be"),
        pytest.param((128_000, 8_000, 128_000, 8_000), 0, id="all of the largest node for all of it"),
        pytest.param((64_000, 4_000, 32_000, 1_000), 90, id="half a node for a quarter of the CPU and a GPU"),
        pytest.param((0, 8_000, 64_000, 4_000), 75, id="no CPU left or told of: the GPUs alone"),
    ],
)
def test_dot_prod(score: Any, seen: tuple[int, int, int, int], want: int) -> None:  # noqa: ANN401  # numba's
    """`seen`: CPU and GPU left, CPU and GPU asked for."""
    assert score(*seen) == want


@pytest.mark.parametrize("score", both(gpu_packing.gpu_packing_score), ids=["compiled", "plain"])
@pytest.mark.parametrize(
    ("gpus", "milli", "wanted", "want"),
    [
        pytest.param([1000, 1000], 500, 0, 0, id="a pod without a GPU"),
        pytest.param([1000, 1000], 500, 1, 31, id="a free node of two"),
        pytest.param([1000] * 8, 500, 1, 25, id="a free node of eight: rather a smaller one"),
        pytest.param([1000] * 20, 500, 1, 20, id="a free node of twenty"),
        pytest.param([1000, 500], 500, 1, 95, id="a GPU in use"),
        pytest.param([1000, 900, 200], 500, 1, 91, id="the fullest that holds it"),
        pytest.param([1000, 200], 500, 1, 49, id="a free GPU of a node in use"),
        pytest.param([1000, 1000, 1000, 0], 1000, 3, 47, id="three of them"),
        pytest.param([900, 900, 900, 900, 900, 900], 100, 6, 50, id="many in use: 50 at least"),
    ],
)
def test_gpu_packing(score: Any, gpus: list[int], milli: int, wanted: int, want: int) -> None:  # noqa: ANN401  # numba's
    assert score(np.array(gpus, np.int64), len(gpus), milli, wanted) == want


@pytest.mark.parametrize("score", both(gpu_clustering.gpu_clustering_score), ids=["compiled", "plain"])
@pytest.mark.parametrize(
    ("kinds", "seen", "want"),
    [
        pytest.param((), (8000, 0, 0), 0, id="a pod without a GPU"),
        pytest.param((), (8000, 1, 0), 25, id="a node without GPU pods"),
        pytest.param((0,), (4000, 1, 0), 87, id="this kind only"),
        pytest.param((0, 2), (4000, 1, 0), 62, id="this kind and another"),
        pytest.param((2,), (4000, 1, 0), 12, id="another kind only"),
        pytest.param((8,), (0, 8, 8), 100, id="full of this kind"),
    ],
)
def test_gpu_clustering(score: Any, kinds: tuple[int, ...], seen: tuple[int, int, int], want: int) -> None:  # noqa: ANN401  # numba's
    """`seen`: GPU left, GPUs wanted, kind of the pod."""
    held_kinds = np.isin(np.arange(KINDS_OF_POD), kinds).astype(np.int64)
    assert score(held_kinds, *seen) == want


@pytest.mark.parametrize("kind", both(gpu_clustering.kind_of_pod), ids=["compiled", "plain"])
def test_kinds_of_pods(kind: Any) -> None:  # noqa: ANN401  # numba's
    assert [kind(500, 1), kind(1000, 1), kind(1000, 4)] == [0, 1, 4]


@pytest.mark.parametrize("module", [dot_prod, gpu_packing, gpu_clustering], ids=lambda m: m.__name__.rsplit(".", 1)[1])
@given(data=st.data())
def test_all_nodes_at_once_are_each_node_by_itself(module: ModuleType, data: st.DataObject) -> None:
    m = data.draw(st.integers(1, 5))
    milli = st.integers(0, 1000)
    gpus = np.sort(np.array(data.draw(st.lists(st.lists(milli, min_size=8, max_size=8), min_size=m, max_size=m))))
    seen = Seen(
        cpu_free_milli=np.array(data.draw(st.lists(st.integers(0, 128_000), min_size=m, max_size=m))),
        gpus=np.ascontiguousarray(gpus[:, ::-1]),
        gpu_count=np.full(m, 8),
        held=np.array(data.draw(st.lists(st.lists(st.integers(0, 1), min_size=9, max_size=9), min_size=m, max_size=m))),
        cpu_milli=4_000,
        milli=np.array(data.draw(st.lists(st.integers(1, 1000), min_size=m, max_size=m))),
        wanted=data.draw(st.integers(1, 8)),
        kind=data.draw(st.integers(0, 8)),
    )
    (ranking,) = [c for c in vars(module).values() if isinstance(c, type) and c.__module__ == module.__name__]
    compiled = ranking(Fleet()).score(seen)
    loop = module._score_nodes
    module._score_nodes = loop.py_func  # type: ignore[attr-defined]
    try:
        assert (ranking(Fleet()).score(seen) == compiled).all()
    finally:
        module._score_nodes = loop  # type: ignore[attr-defined]


@pytest.mark.parametrize("scorer", NAMES)
@given(made=ledgers(), asked=pods("new"))
def test_a_price_is_finite_exactly_where_a_pod_fits(scorer: str, made: Ledger, asked: Json) -> None:
    wanted = demand_of(asked)
    again = like(made, scorer)
    names = list(made.nodes())
    fit = filter_nodes(made, wanted, names, NOW_S).fit
    assert filter_nodes(again, wanted, names, NOW_S).fit == fit
    scores = dict(score_nodes(again, wanted, names, NOW_S))
    assert all(scores[name] >= 0 for name in names)
    assert (max(scores.values(), default=0) == 10) == bool(fit) == any(scores[name] for name in fit)
    for name in fit:
        assert isinstance(again.assume("new", "p", wanted, name, NOW_S), Allocation)
        again.forget("new")


def like(made: Ledger, scorer: str) -> Ledger:
    """The same nodes and pods under another scorer."""
    new = Ledger(scorer=scorer)
    for name in made.nodes():
        state = made.node(name)
        assert state is not None
        new.put_node(name, state.inventory)
        new.heartbeat(name, float(made.fleet.renewed_s[made.fleet.slots[name]]))
        for holding in state.pods.values():
            new.put_pod(pod(holding.uid, on=name, allocation=holding.allocation, namespace=holding.tenant))
    return new


def sharing(name: str, count: int, memory_mib: int = 81920) -> Json:
    return node(name, *(gpu(f"{name}-{i}", index=i, mode="mps", memory_mib=memory_mib) for i in range(count)))


HALF = {"mode": "mps", "compute": "50"}
WHOLE = {"mode": "exclusive"}


@pytest.mark.parametrize(
    ("scorer", "before", "ask", "best"),
    [
        pytest.param("gpu-packing", [("n2", HALF, 1)], HALF, ["n2"], id="the GPU in use"),
        pytest.param("gpu-packing", [], HALF, ["n1"], id="the smallest free node"),
        pytest.param("gpu-packing", [("n2", HALF, 1)], WHOLE, ["n2"], id="a free GPU of a node in use"),
        pytest.param("gpu-clustering", [("n1", WHOLE, 1), ("n2", HALF, 1)], HALF, ["n2"], id="shares by shares"),
        pytest.param("gpu-clustering", [("n4", WHOLE, 1), ("n2", HALF, 1)], WHOLE, ["n4"], id="whole by whole"),
        pytest.param("gpu-clustering", [("n4", WHOLE, 2)], WHOLE, ["n1"], id="two whole: another kind"),
        pytest.param("dot-prod", [], WHOLE, ["n1"], id="the node with least free"),
    ],
)
def test_which_node_is_best(
    scorer: str, before: list[tuple[str, dict[str, str], int]], ask: dict[str, str], best: list[str]
) -> None:
    made = ledger([sharing("n4", 4), sharing("n2", 2), sharing("n1", 1)], scorer=scorer)
    for i, (name, asked, count) in enumerate(before):
        made.assume(f"b{i}", "p", demand(f"b{i}", ask=asked, containers=[container(count=count)]), name, NOW_S)
    fit = filter_nodes(made, demand(ask=ask), ["n4", "n2", "n1"], NOW_S).fit
    scores = dict(score_nodes(made, demand(ask=ask), fit, NOW_S))
    assert [name for name in fit if scores[name] == 10] == best


def test_a_share_goes_to_the_fullest_gpu_that_holds_it() -> None:
    made = ledger([sharing("n0", 3)], scorer="gpu-packing")
    for uid, pct, want in (("a", "60", "n0-0"), ("b", "30", "n0-0"), ("c", "30", "n0-1"), ("d", "10", "n0-0")):
        made.assume(uid, "p", demand(uid, ask={"mode": "mps", "compute": pct}), "n0", NOW_S)
        assert [g.uuid for g in held(made, uid).grants()] == [want]


def test_another_tenants_gpu_offers_nothing() -> None:
    made = ledger([sharing("n0", 1), sharing("n1", 2)], scorer="gpu-packing")
    made.assume("a", "p", demand("a", ask={"mode": "mps", "compute": "10"}, namespace="red"), "n1", NOW_S)
    assert dict(score_nodes(made, demand(ask=HALF), ["n0", "n1"], NOW_S)) == {"n0": 9, "n1": 10}


def test_a_pod_that_leaves_takes_its_kind_along() -> None:
    made = ledger([sharing("n0", 4)])
    slot = made.fleet.slots["n0"]
    for uid, ask, count in (("a", HALF, 1), ("b", HALF, 1), ("c", WHOLE, 2)):
        made.assume(uid, "p", demand(uid, ask=ask, containers=[container(count=count)]), "n0", NOW_S)
    seen = [int(made.fleet.pod_kinds[slot])]
    for uid in ("a", "c", "b"):
        made.forget(uid)
        seen.append(int(made.fleet.pod_kinds[slot]))
    assert seen == [0b101, 0b101, 0b001, 0]
    made.put_node_object(sharing("n0", 9))
    nine = demand("d", ask=WHOLE, containers=[container(count=9)])
    made.assume("d", "p", nine, "n0", NOW_S)
    assert int(made.fleet.pod_kinds[slot]) == 1 << 8


def test_nothing_fits_on_no_node() -> None:
    made = ledger([], scorer="dot-prod")
    assert filter_nodes(made, demand(ask=HALF), [], NOW_S).fit == []
    assert score_nodes(made, demand(ask=HALF), ["ghost"], NOW_S) == [("ghost", 0)]


# ---- random ----------------------------------------------------------------------------------------------------


def drawn(made: Ledger, uid: str, names: list[str]) -> str:
    scores = score_nodes(made, demand(uid, ask=HALF), names, NOW_S)
    return max(scores, key=lambda s: s[1])[0]


def test_random_nodes_and_gpus_have_equal_chances() -> None:
    names = [f"n{i}" for i in range(4)]
    made = ledger([sharing(name, 4) for name in names], scorer="random")
    nodes = Counter(drawn(made, f"u{i}", names) for i in range(2000))
    assert set(nodes) == set(names)
    assert all(430 < seen < 570 for seen in nodes.values())  # 500 +- 3.6 standard deviations
    gpus: Counter[str] = Counter()
    for i in range(400):
        got = made.assume(f"g{i}", "p", demand(f"g{i}", ask=HALF), "n0", NOW_S)
        assert isinstance(got, Allocation)
        gpus.update(g.uuid for g in got.grants())
        made.forget(f"g{i}")
    assert len(gpus) == 4
    assert all(65 < seen < 135 for seen in gpus.values())  # 100 +- 4


def test_random_is_told_by_seed_pod_and_node_alone() -> None:
    names = [f"n{i}" for i in range(8)]
    one = ledger([sharing(name, 2) for name in names], scorer="random")
    other = ledger([sharing(name, 3) for name in reversed(names)], scorer="random")
    first = [drawn(one, f"u{i}", names) for i in range(50)]
    assert [drawn(one, f"u{i}", names) for i in range(50)] == first
    assert [drawn(other, f"u{i}", names) for i in range(50)] == first
    other.node_scorer = RandomFit(other.fleet, seed=1)
    assert [drawn(other, f"u{i}", names) for i in range(50)] != first


def test_what_if_nodes_are_ranked_too() -> None:
    made = ledger([sharing("n0", 1)], scorer="random")
    made.node_scorer.freeze()  # type: ignore[union-attr]
    new = what_if(made, {"new": sharing("new", 1)}, NOW_S)
    assert score_nodes(new, demand(ask=HALF), ["new"], NOW_S) == [("new", 10)]
    new.put_pod(pod("cpu-only", on="new", ask={}, containers=[{"name": "m"}]))


def test_a_ranking_without_a_formula_ranks_nothing() -> None:
    with pytest.raises(NotImplementedError):
        NodeRanking(Fleet()).score(None)  # type: ignore[arg-type]
