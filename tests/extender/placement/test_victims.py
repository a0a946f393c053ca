from itertools import combinations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from extender.ledger import Ledger
from extender.placement.allocation import Allocation, MigSlice, MpsShare, WholeGpu
from extender.placement.demand import Demand
from extender.placement.plan import plan
from extender.placement.victims import Cost, cheapest, cost
from extender.verbs import Eviction, pick_victims
from tests.extender.clusters import demand_of, ledgers, pods
from tests.extender.objects import NOW_S, Json, container, demand, gpu, ledger, node, pod


def fits(made: Ledger, asked: Demand, name: str, gone: frozenset[str]) -> bool:
    return isinstance(plan(asked, made.view_for(name, asked, gone), made.prices()), Allocation)


def chosen(made: Ledger, asked: Demand, given: Eviction | None = None) -> tuple[str, ...] | None:
    found = pick_victims(made, asked, {"n0": given or Eviction()}, NOW_S)
    return found["n0"].uids if found else None


@given(made=ledgers(max_nodes=2, max_pods=14), asked=pods("new", priority=2), given_uid=st.none() | st.just("p0"))
def test_victims_are_lesser_enough_and_none_can_be_spared(made: Ledger, asked: Json, given_uid: str | None) -> None:
    wanted = demand_of(asked)
    candidates = {name: Eviction((given_uid,) if given_uid else (), 3) for name in ("n0", "n1", "ghost")}
    found = pick_victims(made, wanted, candidates, NOW_S)
    assert "ghost" not in found
    for name in ("n0", "n1"):
        state = made.node(name)
        if state is None or made.unusable(name, NOW_S) is not None:
            assert name not in found
            continue
        lesser = frozenset(u for u, h in state.pods.items() if h.priority < wanted.priority)
        required = frozenset(candidates[name].uids)
        if name not in found:
            assert not fits(made, wanted, name, lesser | required) or (
                not required and fits(made, wanted, name, frozenset())
            )
            continue
        victims = frozenset(found[name].uids)
        assert found[name].pdb_violations == 3
        assert victims >= required
        assert victims - required <= lesser
        assert fits(made, wanted, name, victims)
        assert all(not fits(made, wanted, name, victims - {uid}) for uid in victims - required)


@given(made=ledgers(max_nodes=1, max_pods=9), asked=pods("new", counts=st.just(1), priority=2))
def test_for_one_mig_slice_or_whole_gpu_no_set_is_cheaper(made: Ledger, asked: Json) -> None:
    wanted = demand_of(asked)
    state = made.node("n0")
    uids = chosen(made, wanted)
    if state is None or uids is None or wanted.count != 1 or wanted.shape is None or len(wanted.shape.modes) != 1:
        return
    if wanted.shape.profile is None and wanted.shape.modes != demand(ask={"mode": "exclusive"}).shape.modes:  # type: ignore[union-attr]
        return
    lesser = [h for h in state.pods.values() if h.priority < wanted.priority]
    sets = [s for n in range(1, len(lesser) + 1) for s in combinations(lesser, n)]
    best = min(cost(s) for s in sets if fits(made, wanted, "n0", frozenset(h.uid for h in s)))
    mine = cost(state.pods[u] for u in uids)
    assert (mine.highest, mine.pods, mine.total) == (best.highest, best.pods, best.total)


def slices(*places: tuple[str, int, int]) -> Allocation:
    return Allocation.of({"m": [MigSlice("GPU-0", *p) for p in places]})


def with_pods(*allocations: tuple[str, int, Allocation], gpus: list[Json] | None = None, **fields: bool) -> Ledger:
    made = ledger([node("n0", *(gpus or [gpu()]))])
    for uid, priority, allocation in allocations:
        made.put_pod(pod(uid, on="n0", allocation=allocation, priority=priority, **fields))  # type: ignore[arg-type]
    return made


THREE = {"profile": "3g.40gb"}


def test_the_half_with_the_lower_priority_goes_even_if_it_has_more_pods() -> None:
    made = with_pods(
        ("a", 1, slices(("1g.10gb", 0, 1))), ("b", 1, slices(("1g.10gb", 2, 1))), ("c", 2, slices(("3g.40gb", 4, 4)))
    )
    assert chosen(made, demand(ask=THREE, priority=5)) == ("a", "b")


def test_of_equal_priorities_the_fewest_pods_go() -> None:
    made = with_pods(
        ("a", 1, slices(("1g.10gb", 0, 1))), ("b", 1, slices(("1g.10gb", 2, 1))), ("c", 1, slices(("3g.40gb", 4, 4)))
    )
    assert chosen(made, demand(ask=THREE, priority=5)) == ("c",)


def test_pods_that_leave_already_cost_nothing() -> None:
    made = with_pods(("a", 0, slices(("3g.40gb", 0, 4))))
    made.put_pod(pod("z", on="n0", allocation=slices(("3g.40gb", 4, 4)), priority=4, leaving=True))
    assert chosen(made, demand(ask=THREE, priority=5)) == ("z",)
    holding = made.holding("z")
    assert holding is not None
    assert cost([holding]) == Cost(float("-inf"), 0, 0, ("z",))


def test_equal_priority_is_never_evicted() -> None:
    made = with_pods(("a", 5, slices(("7g.80gb", 0, 8))))
    assert chosen(made, demand(ask=THREE, priority=5)) is None


def test_a_node_with_room_needs_no_victims_and_is_left_out() -> None:
    assert chosen(with_pods(), demand(ask=THREE, priority=5)) is None


def test_the_schedulers_own_victims_stay_first_and_are_completed() -> None:
    made = with_pods(("a", 0, slices(("3g.40gb", 0, 4))), ("b", 9, slices(("3g.40gb", 4, 4))))
    assert chosen(made, demand(ask=THREE, priority=5), Eviction(("unrelated",))) == ("unrelated", "a")
    assert chosen(made, demand(ask=THREE, priority=5), Eviction(("a",))) == ("a",)
    assert chosen(made, demand(ask=THREE, priority=5), Eviction(("b",))) == ("b",)


def test_unusable_nodes_are_left_out() -> None:
    made = with_pods(("a", 0, slices(("7g.80gb", 0, 8))))
    asked = demand(ask=THREE, priority=5)
    assert pick_victims(made, asked, {"n0": Eviction(), "ghost": Eviction()}, NOW_S + 61) == {}


def share(uuid: str, mib: int, pct: int) -> Allocation:
    return Allocation.of({"m": [MpsShare(uuid, mib, pct)]})


SHARED = [gpu("GPU-0", mode="mps")]


def test_the_largest_share_goes_rather_than_two_small_ones() -> None:
    made = with_pods(
        ("a", 0, share("GPU-0", 10240, 20)),
        ("b", 0, share("GPU-0", 20480, 40)),
        ("c", 0, share("GPU-0", 40960, 40)),
        gpus=SHARED,
    )
    assert chosen(made, demand(ask={"memory": "30Gi", "mode": "mps"}, priority=5)) == ("c",)


def test_all_of_another_tenant_go_at_once() -> None:
    made = with_pods(("a", 0, share("GPU-0", 1024, 1)), ("b", 0, share("GPU-0", 1024, 1)), gpus=SHARED)
    assert chosen(made, demand(ask={"memory": "1Gi", "mode": "mps"}, priority=5, namespace="other")) == ("a", "b")


def test_a_shared_gpu_that_was_given_whole_is_freed_whole() -> None:
    made = with_pods(("a", 0, Allocation.of({"m": [WholeGpu("GPU-0")]})), gpus=SHARED)
    assert chosen(made, demand(ask={"memory": "1Gi", "mode": "mps"}, priority=5)) == ("a",)


def test_several_whole_gpus_are_freed_together() -> None:
    gpus = [gpu(f"g{i}", index=i, mode="exclusive") for i in range(3)]
    made = with_pods(*((f"p{i}", i, Allocation.of({"m": [WholeGpu(f"g{i}")]})) for i in range(3)), gpus=gpus)
    asked = demand(ask={"mode": "exclusive"}, containers=[container(count=2)], priority=5)
    assert chosen(made, asked) == ("p0", "p1")


def test_a_pod_that_can_be_spared_in_the_end_is_spared() -> None:
    made = with_pods(
        ("small", 0, share("g0", 51200, 10)),
        ("large", 1, share("g1", 71680, 10)),
        gpus=[gpu("g0", mode="mps"), gpu("g1", index=1, mode="mps")],
    )
    made.put_pod(pod("fixed", on="n0", allocation=share("g0", 30720, 10), priority=9))
    two = [container("a"), container("b")]
    assert chosen(made, demand(ask={"memory": "40Gi", "mode": "mps"}, containers=two, priority=5)) == ("large",)


def test_where_no_single_place_is_enough_all_lesser_pods_go_and_who_can_be_spared_stays() -> None:
    made = with_pods(*((uid, 0, slices(("1g.10gb", start, 1))) for start, uid in enumerate(("a", "b", "c"))))
    n0 = made.node("n0")
    assert n0 is not None
    assert cheapest(demand(priority=5), n0, frozenset(), lambda gone: gone >= {"a", "c"}) == frozenset({"a", "c"})


def static(uid: str, count: int, **fields: object) -> Json:
    limits = {"nvidia.com/mig-1g.10gb": str(count)}
    return pod(uid, ask={}, containers=[{"name": "m", "resources": {"limits": limits}}], **fields)  # type: ignore[arg-type]


def test_static_pods_make_room_for_static_pods() -> None:
    exists = [{"profile": "1g.10gb", "start": s, "size": 1} for s in range(3)]
    made = ledger([node("n0", gpu(instances=exists))])
    for uid, priority in (("a", 2), ("b", 0), ("c", 1)):
        made.put_pod(static(uid, 1, on="n0", priority=priority))
    made.put_pod(pod("dynamic", on="n0", allocation=slices(("1g.10gb", 5, 1)), priority=0))
    asked = demand_of(static("new", 2, priority=5))
    assert chosen(made, asked) == ("b", "c")


@pytest.mark.parametrize("healthy", [True, False])
def test_gpus_that_are_not_used_are_nobodys_victims(healthy: bool) -> None:
    made = with_pods(("a", 0, slices(("7g.80gb", 0, 8))), gpus=[gpu(healthy=healthy)])
    assert chosen(made, demand(ask=THREE, priority=5)) == (("a",) if healthy else None)


def test_who_wants_all_engines_has_everyone_with_engines_in_the_way() -> None:
    rtx = [gpu("GPU-0", model="rtx-pro-6000"), gpu("GPU-1", index=1, model="rtx-pro-6000")]
    places = {"a": ("1g.24gb", 0, 3), "b": ("1g.24gb", 3, 3), "without": ("1g.24gb-me", 6, 3)}
    made = with_pods(*((uid, 0, slices(place)) for uid, place in places.items()), gpus=rtx)
    made.put_pod(
        pod("whole", on="n0", allocation=Allocation.of({"m": [MigSlice("GPU-1", "4g.96gb", 0, 12)]}), priority=1)
    )
    assert chosen(made, demand(ask={"profile": "1g.24gb+me.all"}, priority=5)) == ("a", "b")


def test_two_shares_may_need_more_than_one_spot_of_a_gpu() -> None:
    made = with_pods(("a", 0, share("GPU-0", 40960, 10)), ("b", 0, share("GPU-0", 40960, 10)), gpus=SHARED)
    two = [container("a"), container("b")]
    asked = demand(ask={"memory": "40Gi", "mode": "mps"}, containers=two, priority=5)
    assert chosen(made, asked) == ("a", "b")


def test_extensions_in_the_way_are_found_although_they_do_not_overlap() -> None:
    made = with_pods(("a", 0, slices(("1g.10gb+me", 0, 1))))
    assert chosen(made, demand(ask={"profile": "1g.10gb+me"}, priority=5)) == ("a",)
