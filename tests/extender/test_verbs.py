import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from extender.ledger import Ledger
from extender.placement.allocation import Allocation, MigSlice, MpsShare
from extender.placement.demand import Demand
from extender.placement.model import INVENTORY
from extender.placement.plan import plan
from extender.verbs import KEPT, MAX_SCORE, Filtered, filter_nodes, filter_objects, score_nodes, score_objects, spread
from tests.extender.clusters import demand_of, ledgers, pods
from tests.extender.objects import NOW_S, Json, container, demand, gpu, inventory, ledger, node, pod

NAMES = ["n0", "n1", "n2", "n3", "ghost"]


def twin(made: Ledger, asked: Demand, names: list[str], now_s: float) -> tuple[list[str], set[str], set[str]]:
    """filter_nodes as plain loops over nodes: a plan now, a plan if every pod left, or neither."""
    fit, failed, unresolvable = [], set(), set()
    for name in names:
        state = made.node(name)
        if state is None or made.unusable(name, now_s) is not None:
            unresolvable.add(name)
        elif isinstance(plan(asked, made.view_for(name, asked), made.prices()), Allocation):
            fit.append(name)
        elif isinstance(plan(asked, state.view(frozenset(state.pods)), made.prices()), Allocation):
            failed.add(name)
        else:
            unresolvable.add(name)
    return fit, failed, unresolvable


@given(made=ledgers(), asked=pods("new", priority=1), waiting=st.none() | pods("vip", priority=1, nominated="n1"))
def test_filter_is_its_plain_loop_twin(made: Ledger, asked: Json, waiting: Json | None) -> None:
    if waiting is not None:
        made.put_pod(waiting)
    wanted = demand_of(asked)
    found = filter_nodes(made, wanted, NAMES, NOW_S)
    fit, failed, unresolvable = twin(made, wanted, NAMES, NOW_S)
    assert (found.fit, set(found.failed), set(found.unresolvable)) == (fit, failed, unresolvable)
    assert all(found.failed.values())
    assert all(found.unresolvable.values())


@given(made=ledgers(), asked=pods("new"))
def test_filter_changes_nothing_and_assume_keeps_its_word(made: Ledger, asked: Json) -> None:
    wanted = demand_of(asked)
    before = made.holdings()
    found = filter_nodes(made, wanted, NAMES, NOW_S)
    assert filter_nodes(made, wanted, NAMES, NOW_S) == found
    assert made.holdings() == before
    for name in NAMES:
        got = made.assume("new", wanted.key, wanted, name, NOW_S)
        assert isinstance(got, Allocation) == (name in found.fit)
        made.forget("new")


def full(*profiles: tuple[str, int, int], uuid: str = "GPU-0") -> Allocation:
    return Allocation.of({"m": [MigSlice(uuid, *p) for p in profiles]})


def refusal(made: Ledger, asked: Demand, now_s: float = NOW_S) -> tuple[str, str]:
    found = filter_nodes(made, asked, ["n0"], now_s)
    assert found.fit == []
    return found.failed.get("n0", ""), found.unresolvable.get("n0", "")


WHOLE = {"mode": "exclusive"}


@pytest.mark.parametrize(
    ("gpus", "taken", "asked", "why"),
    [
        pytest.param(
            [gpu(), gpu("b", index=1), gpu("c", index=2)],
            [
                full(("3g.40gb", 0, 4), ("1g.10gb", 5, 1)),
                full(("7g.80gb", 0, 8), uuid="b"),
                full(("7g.80gb", 0, 8), uuid="c"),
            ],
            demand(ask={"profile": "3g.40gb"}),
            "3 GPUs: no 3g slot, largest free 1g",
            id="the largest free profile is named",
        ),
        pytest.param(
            [gpu()],
            [full(("7g.80gb", 0, 8))],
            demand(ask={"memory": "20Gi"}),
            "1 GPU: no slot for 20480 MiB, all taken",
            id="a slot for so much memory",
        ),
        pytest.param(
            [gpu()],
            [full(("4g.40gb", 0, 4))],
            demand(ask={"profile": "3g.40gb"}, containers=[container(count=2)]),
            "1 GPU: 1 of 2 3g slots, largest free 3g",
            id="one of two",
        ),
        pytest.param(
            [gpu(mode="mps")],
            [Allocation.of({"m": [MpsShare("GPU-0", 71680, 10)]})],
            demand(ask={"memory": "20Gi"}),
            "1 shared GPU: no room for 20480 MiB, most free 10 GiB",
            id="a shared GPU without memory",
        ),
        pytest.param(
            [gpu(mode="mps")],
            [Allocation.of({"m": [MpsShare("GPU-0", 1024, 90)]})],
            demand(ask={"memory": "1Gi", "compute": "20"}),
            "1 shared GPU: no room for 1024 MiB 20 % compute, most free 10 %",
            id="a shared GPU without compute",
        ),
        pytest.param(
            [gpu(mode="mps")],
            [Allocation.of({"m": [MpsShare("GPU-0", 1024, 10)]})],
            demand(ask={"memory": "1Gi"}, namespace="other"),
            "1 shared GPU: all with other tenants",
            id="a shared GPU of another tenant",
        ),
        pytest.param(
            [gpu(mode="mps")],
            [Allocation.of({"m": [MpsShare("GPU-0", 1, 1, share=i) for i in range(48)]})],
            demand(ask={"memory": "1Gi"}),
            "1 shared GPU: no MPS client left",
            id="a shared GPU without clients",
        ),
        pytest.param(
            [gpu(mode="mps"), gpu("b", index=1, mode="mps")],
            [Allocation.of({"m": [MpsShare("GPU-0", 61440, 10), MpsShare("b", 1024, 90)]})],
            demand(ask={"memory": "40Gi", "compute": "40"}),
            "2 shared GPUs: no room for 1 x 40960 MiB 40 % compute",
            id="memory on one, compute on the other",
        ),
        pytest.param(
            [gpu(mode="exclusive"), gpu("b", index=1, mode="mps")],
            [Allocation.of({"m": [MpsShare("b", 1024, 90)]})],
            demand(ask=WHOLE, containers=[container(count=2)]),
            "2 GPUs: 1 of 2 free as a whole",
            id="whole GPUs",
        ),
    ],
)
def test_a_full_node_says_what_it_lacks(gpus: list[Json], taken: list[Allocation], asked: Demand, why: str) -> None:
    made = ledger([node("n0", *gpus)])
    for i, allocation in enumerate(taken):
        made.put_pod(pod(f"p{i}", on="n0", allocation=allocation))
    assert refusal(made, asked) == (why, "")


@pytest.mark.parametrize(
    ("gpus", "asked", "why"),
    [
        pytest.param([], demand(), "no GPU", id="no GPU at all"),
        pytest.param(
            [gpu()],
            demand(ask={"mode": "exclusive", "gpu-model": "t4,l4"}),
            "no GPU of model l4 or t4",
            id="other models",
        ),
        pytest.param([gpu()], demand(ask=WHOLE), "no GPU in mode mps or exclusive", id="MIG GPUs are not given whole"),
        pytest.param([gpu(mode="mps")], demand(), "no GPU in mode mig", id="MIG is off"),
        pytest.param([gpu(healthy=False)], demand(), "its GPUs are unhealthy or another manager's", id="a broken GPU"),
        pytest.param(
            [gpu()], demand(ask={"profile": "1g.5gb"}), "1 GPU: even empty, none can hold 1g.5gb", id="no such profile"
        ),
        pytest.param(
            [gpu()],
            demand(ask={"profile": "3g.40gb"}, containers=[container(count=3)]),
            "even empty, room for 2 of 3 x 3g.40gb",
            id="more than the node ever has",
        ),
        pytest.param(
            [gpu(instances=[{"profile": "7g.80gb", "start": 0, "size": 8}])],
            demand(),
            "1 GPU: even empty, none can hold 1g.10gb",
            id="somebody else's instance is in the way",
        ),
    ],
)
def test_a_node_that_eviction_cannot_help_says_so(gpus: list[Json], asked: Demand, why: str) -> None:
    assert refusal(ledger([node("n0", *gpus)]), asked) == ("", why)


def test_unknown_stale_and_unreadable_nodes() -> None:
    made = ledger([node("n0", gpu()), {"metadata": {"name": "bare"}}, node("silent", gpu("b"))])
    made.put_node_object({"metadata": {"name": "odd", "annotations": {INVENTORY: "{"}}})
    made.heartbeat("silent", NOW_S - 61)
    found = filter_nodes(made, demand(), ["n0", "bare", "silent", "odd", "ghost"], NOW_S)
    assert found.fit == ["n0"]
    assert found.failed == {}
    assert found.unresolvable["bare"] == "no inventory: the node agent has not reported its GPUs"
    assert found.unresolvable["silent"] == "stale inventory: no heartbeat of the node agent for 60 s"
    assert found.unresolvable["odd"].startswith("unreadable inventory")
    assert found.unresolvable["ghost"] == "no inventory: the node has not been seen"


def test_equal_reasons_are_one_text() -> None:
    made = ledger([node(f"n{i}", gpu(f"g{i}", mode="mps")) for i in range(20)])
    found = filter_nodes(made, demand(), [f"n{i}" for i in range(20)], NOW_S)
    assert len({id(why) for why in found.unresolvable.values()}) == 1


def test_no_nodes_no_answer() -> None:
    made = ledger([node("n0", gpu())])
    assert filter_nodes(made, demand(), [], NOW_S) == Filtered()
    assert score_nodes(made, demand(), [], NOW_S) == []


def test_a_node_where_the_pod_has_a_reservation_fits() -> None:
    made = ledger([node("n0", gpu()), node("n1", gpu("b"))])
    whole = demand(ask={"profile": "7g.80gb"})
    made.assume("u1", "p", whole, "n0", NOW_S)
    assert filter_nodes(made, whole, ["n0", "n1"], NOW_S).fit == ["n0", "n1"]
    assert dict(score_nodes(made, whole, ["n1", "n0"], NOW_S))["n0"] == MAX_SCORE
    assert filter_nodes(made, demand("u2", ask={"profile": "7g.80gb"}), ["n0", "n1"], NOW_S).fit == ["n1"]


def test_a_reservation_on_a_silent_node_does_not_count() -> None:
    made = ledger([node("n0", gpu())])
    made.assume("u1", "p", demand(), "n0", NOW_S)
    assert filter_nodes(made, demand(), ["n0"], NOW_S + 61).fit == []
    assert score_nodes(made, demand(), ["n0"], NOW_S + 61) == [("n0", 0)]


def test_room_that_is_kept_for_a_nominated_pod_is_said() -> None:
    made = ledger([node("n0", gpu())])
    made.put_pod(pod("vip", ask={"profile": "7g.80gb"}, priority=5, nominated="n0"))
    assert refusal(made, demand()) == (KEPT, "")


# ---- static MIG ------------------------------------------------------------------------------------------------


def static(uid: str = "u1", count: int = 1) -> Demand:
    limits = {"nvidia.com/mig-1g.10gb": str(count)}
    return demand(uid, ask={}, containers=[{"name": "m", "resources": {"limits": limits}}])


def instances(count: int) -> Json:
    return {"instances": [{"profile": "1g.10gb", "start": s, "size": 1} for s in range(count)]}


def test_static_mig_is_filtered_and_scored_by_what_exists() -> None:
    made = ledger(
        [
            node("n0", gpu("a", **instances(0))),
            node("n1", gpu("b", **instances(1))),
            node("n2", gpu("c", **instances(2))),
            node("n3", gpu("d", **instances(4))),
            node("silent", gpu("e", **instances(4))),
        ]
    )
    made.heartbeat("silent", 0.0)
    made.assume("u0", "p", static("u0"), "n2", NOW_S)
    names = ["n0", "n1", "n2", "n3", "silent", "ghost"]
    found = filter_nodes(made, static(count=2), names, NOW_S)
    assert found.fit == ["n3"]
    assert found.failed == {"n2": "2 existing 1g.10gb, 1 of 2 free"}
    assert found.unresolvable["n0"] == "no existing 1g.10gb, wants 2"
    assert found.unresolvable["n1"] == "1 existing 1g.10gb, wants 2"
    assert set(found.unresolvable) == {"n0", "n1", "silent", "ghost"}
    both = {"nvidia.com/mig-1g.10gb": "2", "nvidia.com/mig-3g.40gb": "1"}
    two = demand("u2", ask={}, containers=[{"name": "m", "resources": {"limits": both}}])
    assert filter_nodes(made, two, ["n2"], NOW_S) == Filtered(unresolvable={"n2": "no existing 3g.40gb, wants 1"})
    assert score_nodes(made, static(count=1), names, NOW_S) == [
        ("n0", 0), ("n1", 10), ("n2", 10), ("n3", 9), ("silent", 0), ("ghost", 0)
    ]  # fmt: skip


# ---- scores ----------------------------------------------------------------------------------------------------


@given(st.lists(st.one_of(st.floats(-10, 10), st.just(np.inf), st.just(-np.inf)), max_size=40))
def test_scores_fall_as_prices_rise(prices: list[float]) -> None:
    scores = spread(np.array(prices, np.float64)).tolist()
    finite = sorted({p for p in prices if p < np.inf})
    assert all(0 <= s <= MAX_SCORE for s in scores)
    for p, s in zip(prices, scores, strict=True):
        if p == np.inf:
            assert s == 0
        else:
            assert s >= MAX_SCORE - finite.index(p) if len(finite) <= 11 or finite.index(p) < 6 else s < 5
        for q, t in zip(prices, scores, strict=True):
            if p == q:
                assert s == t
            if p < q:
                assert s >= t


def test_the_best_levels_differ_however_many_there_are() -> None:
    scores = spread(np.arange(1000.0)).tolist()
    assert scores[:7] == [10, 9, 8, 7, 6, 5, 4]
    assert scores[-1] == 0
    assert set(scores) == set(range(11))


def loop_price(made: Ledger, asked: Demand, name: str) -> float:
    """The price of one slice by planning on every node: the twin of the array form."""
    state = made.node(name)
    if state is None or made.unusable(name, NOW_S) is not None:
        return np.inf
    return plan_price(asked, made, name)


def plan_price(asked: Demand, made: Ledger, name: str) -> float:
    from extender.placement import plan as module  # noqa: PLC0415 — the prices behind a plan are its own affair

    assert asked.shape is not None
    view, prices = made.view_for(name, asked), made.prices()
    found = [module._WAYS[mode](asked, asked.shape, view, prices) for mode in asked.shape.modes]
    return min((f[0] for f in found if f is not None), default=np.inf)


@given(made=ledgers(), asked=pods("new", counts=st.just(1)))
def test_scores_are_those_of_the_plain_loop(made: Ledger, asked: Json) -> None:
    wanted = demand_of(asked)
    if wanted.count == 1:
        price = np.array([loop_price(made, wanted, name) for name in NAMES])
        scores = score_nodes(made, wanted, NAMES, NOW_S)
        assert [name for name, _ in scores] == NAMES
        assert [s for _, s in scores] == spread(price).tolist()


@given(made=ledgers(), asked=pods("new"))
def test_nodes_without_room_have_score_0_and_a_fitting_one_has_10(made: Ledger, asked: Json) -> None:
    wanted = demand_of(asked)
    fit = set(filter_nodes(made, wanted, NAMES, NOW_S).fit)
    scores = dict(score_nodes(made, wanted, NAMES, NOW_S))
    assert all(scores[name] == 0 for name in NAMES if name not in fit)
    if fit:
        assert max(scores[name] for name in fit) == MAX_SCORE


def test_the_fuller_node_is_better() -> None:
    made = ledger([node("empty", gpu("a")), node("started", gpu("b"))])
    made.put_pod(pod("p", on="started", allocation=full(("1g.10gb", 6, 1), uuid="b")))
    assert dict(score_nodes(made, demand(), ["empty", "started"], NOW_S)) == {"empty": 9, "started": 10}


# ---- whole Node objects ----------------------------------------------------------------------------------------


def test_nodes_that_do_not_exist_are_answered_from_their_objects() -> None:
    made = ledger([node("n0", gpu())])
    made.put_pod(pod("p", on="n0", allocation=full(("7g.80gb", 0, 8))))
    objects = {
        "template": node(
            "template", gpu("t", instances=[{"profile": "7g.80gb", "start": 0, "size": 8, "managed": True}])
        ),
        "n0": node("n0", gpu()),
        "bare": {"metadata": {"name": "bare"}},
    }
    found = filter_objects(made, demand(), objects, NOW_S)
    assert found.fit == ["template"]
    assert set(found.failed) == {"n0"}
    assert found.unresolvable == {"bare": "no inventory: the node agent has not reported its GPUs"}
    assert score_objects(made, demand(), objects, NOW_S) == [("template", 10), ("n0", 0), ("bare", 0)]
    assert made.nodes() == ("n0",)


def test_whole_objects_of_known_nodes_are_answered_from_the_ledger() -> None:
    made = ledger([node("n0", gpu())])
    stale = {"n0": {"metadata": {"name": "n0", "annotations": {INVENTORY: inventory()}}}}
    assert filter_objects(made, demand(), stale, NOW_S).fit == ["n0"]
    assert score_objects(made, demand(), stale, NOW_S) == [("n0", 10)]
