"""Room that is kept for important pods: low ones never undercut it, whatever comes and goes."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from extender.ledger import Ledger, Refusal
from extender.placement.allocation import Allocation, MigSlice
from extender.placement.model import Mode
from extender.placement.reserve import KEPT, MOST_SLICES, Guarded, Reserve, ReserveError, parse, room, room_of
from extender.verbs import Eviction, filter_nodes, pick_victims, score_nodes, why_scores
from tests.extender.clusters import demand_of, ledgers, pods
from tests.extender.objects import NOW_S, Json, container, demand, gpu, held, node, pod

NAMES = ["n0", "n1", "n2", "n3", "ghost"]


@pytest.mark.parametrize(
    ("text", "shapes"),
    [
        pytest.param("", [], id="nothing"),
        pytest.param("priority>=1000: 4 x 1g.10gb", [(1000, "4 x 1g.10gb", {Mode.MIG})], id="a profile"),
        pytest.param(
            " priority >= -5 :2 x 20Gi on L40S ; priority>=7:1 x whole",
            [(-5, "2 x 20480 MiB on l40s", {Mode.MIG, Mode.MPS}), (7, "1 x whole GPU", {Mode.EXCLUSIVE})],
            id="a memory on a model, and whole GPUs",
        ),
    ],
)
def test_a_reserve_is_read(text: str, shapes: list[tuple[int, str, set[Mode]]]) -> None:
    assert [(r.priority, str(r), set(r.shape.modes)) for r in parse(text)] == shapes


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        pytest.param("4 x 1g.10gb", "entry 1 ('4 x 1g.10gb'): want `priority>=P: N x SIZE`", id="no priority"),
        pytest.param("priority>=1: 4 x big", "SIZE 'big': want a MIG profile", id="no size"),
        pytest.param("priority>=1: 0 x whole", f"N 0: want 1 to {MOST_SLICES} slices", id="none of it"),
        pytest.param("priority>=1: 1 x whole;", "entry 2 ('')", id="an empty entry"),
        pytest.param(
            "priority>=1: 1 x whole; priority>=1: 2 x whole", "the same priority and size", id="the same twice"
        ),
        pytest.param("priority>=1: 0 x big; x", "SIZE 'big'", id="all faults at once: the first"),
        pytest.param("priority>=1: 0 x big; x", "entry 2 ('x')", id="all faults at once: the last"),
    ],
)
def test_what_is_no_reserve_is_refused_with_its_rule(text: str, fault: str) -> None:
    with pytest.raises(ReserveError) as told:
        parse(text)
    assert fault in str(told.value)


def cluster(text: str, *nodes: Json) -> Ledger:
    made = Ledger(scorer="fragmentation", reserves=parse(text))
    for one in nodes:
        made.put_node_object(one)
        made.heartbeat(one["metadata"]["name"], NOW_S)
    return made


def refused(made: Ledger, **fields: object) -> dict[str, str]:
    names = [f"n{i}" for i in range(3) if made.knows(f"n{i}")]
    answer = filter_nodes(made, demand("new", **fields), names, NOW_S)
    assert not answer.unresolvable, "evicting pods could help"
    return answer.failed


def take(made: Ledger, uid: str, on: str = "n0", **fields: object) -> Allocation | Refusal:
    asked = demand(uid, **fields)
    return made.assume(uid, asked.key, asked, on, NOW_S)


SEVEN = "priority>=1000: 7 x 1g.10gb"
WHY = "headroom: 7 x 1g.10gb are kept for priority 1000 and above"


def test_low_pods_are_refused_where_less_than_the_reserve_would_be_left() -> None:
    made = cluster(SEVEN, node("n0", gpu("a"), gpu("b", index=1)))
    for i in range(7):
        assert refused(made) == {}
        assert isinstance(take(made, f"u{i}", priority=999), Allocation)
    assert refused(made) == {"n0": WHY}
    assert take(made, "u7", priority=999) == Refusal(WHY)


def test_important_pods_use_the_room_freely_and_low_ones_wait_until_it_is_back() -> None:
    made = cluster(SEVEN, node("n0", gpu("a")))
    assert refused(made) == {"n0": WHY}
    for i in range(7):
        assert refused(made, priority=1000) == {}
        assert isinstance(take(made, f"vip{i}", priority=1000), Allocation)
    assert "no 1g slot" in refused(made)["n0"]
    made.forget("vip0")
    assert refused(made) == {"n0": WHY}


def test_two_low_pods_that_were_filtered_at_once_do_not_both_get_the_last_room() -> None:
    made = cluster("priority>=1000: 6 x 1g.10gb", node("n0", gpu("a")))
    assert refused(made) == {}
    assert isinstance(take(made, "u0"), Allocation)
    assert isinstance(take(made, "u1"), Refusal)
    assert isinstance(take(made, "u0"), Allocation), "the same pod gets the same answer"


def test_a_place_that_takes_nothing_of_the_reserve_is_free_for_everybody() -> None:
    made = cluster("priority>=1000: 2 x 3g.40gb", node("n0", gpu("a")), node("n1", gpu("b")))
    take(made, "u0", "n0", priority=1000, ask={"profile": "3g.40gb"})
    take(made, "u1", "n1", priority=1000, ask={"profile": "4g.40gb"})
    assert room(made.fleet, parse("priority>=1: 1 x 3g.40gb")[0].shape).sum() == 2
    made.put_node_object(node("n2", gpu("c", model="a30", memory_mib=24576)))
    made.heartbeat("n2", NOW_S)
    assert filter_nodes(made, demand("new"), ["n0", "n1"], NOW_S).failed.keys() == {"n0", "n1"}
    small = demand("new", ask={"memory": "5Gi", "mode": "mig"})
    assert filter_nodes(made, small, ["n0", "n1", "n2"], NOW_S).fit == ["n2"], "an a30 gives no 3g.40gb"


def test_the_place_is_chosen_that_keeps_the_reserve() -> None:
    """Beside a 1g on one half there is room for one 3g; a 1g more belongs beside the first."""
    made = cluster("priority>=1000: 1 x 3g.40gb", node("n0", gpu("a")))
    starts = []
    for i in range(7):
        got = take(made, f"u{i}")
        if isinstance(got, Allocation):
            starts += [grant.start for grant in got.grants() if isinstance(grant, MigSlice)]
    assert max(starts) < 4 or min(starts) >= 4
    assert len(starts) in {3, 4}


def test_a_silent_node_has_no_room_that_counts() -> None:
    made = cluster("priority>=1000: 7 x 1g.10gb", node("n0", gpu("a")), node("n1", gpu("b")))
    made.heartbeat("n1", NOW_S - 100)
    answer = filter_nodes(made, demand(), ["n0", "n1"], NOW_S)
    assert answer.failed == {"n0": WHY}


def test_a_cordoned_node_has_no_room_that_counts_until_it_is_open_again() -> None:
    made = cluster(SEVEN, node("n0", gpu("a")), node("n1", gpu("b")))
    made.put_node_object({**node("n1", gpu("b")), "spec": {"unschedulable": True}})
    assert filter_nodes(made, demand(), ["n0"], NOW_S).failed == {"n0": WHY}
    made.put_node_object({**node("n1", gpu("b")), "spec": {}})
    assert filter_nodes(made, demand(), ["n0"], NOW_S).failed == {}


def test_a_shared_gpu_counts_while_nobody_uses_it() -> None:
    """The first share of a GPU takes all of it from the reserve, the second nothing."""
    share = {"memory": "20Gi", "mode": "mps"}
    made = cluster("priority>=1000: 4 x 20Gi", node("n0", gpu("a", mode="mps"), gpu("b", index=1, mode="mps")))
    assert isinstance(take(made, "u0", ask=share), Allocation)
    for i in range(1, 4):
        assert refused(made, ask=share) == {}
        assert isinstance(take(made, f"u{i}", ask=share), Allocation)
        assert held(made, f"u{i}").grants()[0].uuid == held(made, "u0").grants()[0].uuid
    assert refused(made, ask=share) == {"n0": "headroom: 4 x 20480 MiB are kept for priority 1000 and above"}
    assert refused(made, ask={"mode": "exclusive"}).keys() == {"n0"}


def test_a_node_is_scored_by_a_share_that_may_be_taken() -> None:
    """n0 has an unused GPU, which is kept, beside a used one; n1 has a used one with more room."""
    share = {"memory": "20Gi", "mode": "mps"}
    gpus = [gpu("a", mode="mps"), gpu("b", index=1, mode="mps")]
    made = cluster("", node("n0", *gpus), node("n1", gpu("c", mode="mps")))
    for uid, on, size in (("u0", "n0", 60), ("u1", "n1", 20)):
        take(made, uid, on, ask={"memory": f"{size}Gi", "mode": "mps"})
    asked = demand("new", ask=share)
    made.reserves = parse("priority>=1000: 4 x 20Gi")
    assert refused(made, ask=share) == {}
    kept = made.prices(made.guard(asked, NOW_S))
    assert isinstance(kept, Guarded)
    assert kept.guard.spared()[:, made.fleet.slots["n0"]].tolist()[:2] == [True, False]
    best = why_scores(made, asked, ["n0", "n1"], NOW_S)
    assert [one.node for one in best] == ["n0", "n1"], "beside the larger share less is lost"
    free = [held(made, uid).grants()[0].uuid for uid in ("u0", "u1")]
    for on, uuid in zip(("n0", "n1"), free, strict=True):
        got = take(made, "new", on, ask=share)
        assert isinstance(got, Allocation)
        assert got.grants()[0].uuid == uuid, "beside the other share"
        made.forget("new")


def test_of_whole_gpus_the_exclusive_ones_are_taken_before_the_reserve_is() -> None:
    whole = {"mode": "exclusive"}
    made = cluster("priority>=1000: 4 x 20Gi", node("n0", gpu("a", mode="mps"), gpu("b", index=1, mode="exclusive")))
    assert refused(made, ask=whole) == {}
    assert refused(made, ask=whole, containers=[container(count=2)]).keys() == {"n0"}


def test_whole_gpus_are_kept_too() -> None:
    made = cluster(
        "priority>=1000: 2 x whole", node("n0", *(gpu(f"g{i}", index=i, mode="exclusive") for i in range(3)))
    )
    whole = {"mode": "exclusive"}
    assert refused(made, ask=whole, containers=[container(count=2)]).keys() == {"n0"}
    assert isinstance(take(made, "u0", ask=whole), Allocation)
    assert refused(made, ask=whole).keys() == {"n0"}


def test_several_slices_of_one_pod_are_counted_together() -> None:
    made = cluster("priority>=1000: 5 x 1g.10gb", node("n0", gpu("a")))
    assert refused(made, containers=[container(count=2)]) == {}
    assert refused(made, containers=[container(count=3)]).keys() == {"n0"}


def test_of_several_reserves_the_one_in_the_way_is_named() -> None:
    text = "priority>=10: 1 x 7g.80gb; priority>=20: 7 x 1g.10gb"
    made = cluster(text, node("n0", gpu("a")), node("n1", gpu("b")))
    take(made, "u0", "n0", priority=30)
    assert refused(made, priority=15) == {}
    take(made, "u1", "n0", priority=15)
    take(made, "u2", "n0", priority=15)
    assert refused(made, priority=5) == {"n1": "headroom: 1 x 7g.80gb are kept for priority 10 and above"}
    for i in range(4):
        take(made, f"v{i}", "n0", priority=15)
    assert refused(made, priority=15)["n1"] == "headroom: 7 x 1g.10gb are kept for priority 20 and above"
    assert refused(made, priority=20).keys() == {"n0"}, "which is full"


def test_where_a_nominated_pod_goes_first_a_node_is_planned() -> None:
    made = cluster("priority>=1000: 5 x 1g.10gb", node("n0", gpu("a")))
    made.put_pod(pod("vip", priority=2000, nominated="n0"))
    assert refused(made) == {}
    take(made, "u0")
    take(made, "u1")
    assert refused(made) == {"n0": "headroom: 5 x 1g.10gb are kept for priority 1000 and above"}


def test_a_pod_keeps_the_reservation_that_it_has() -> None:
    made = cluster("priority>=1000: 6 x 1g.10gb", node("n0", gpu("a")))
    assert isinstance(take(made, "new"), Allocation)
    assert refused(made) == {}
    assert refused(made, containers=[container(count=1)]) == {}


def test_nobody_is_evicted_for_a_place_that_is_kept() -> None:
    made = cluster("priority>=1000: 6 x 1g.10gb", node("n0", gpu("a")))
    take(made, "u0", priority=-1)
    one, half = demand("new", priority=500), demand("new", priority=500, ask={"profile": "3g.40gb"})
    assert refused(made, priority=500) == {"n0": "headroom: 6 x 1g.10gb are kept for priority 1000 and above"}
    assert pick_victims(made, one, {"n0": Eviction()}, NOW_S)["n0"].uids == ("u0",), "one for one takes nothing"
    assert pick_victims(made, half, {"n0": Eviction()}, NOW_S) == {}, "the evicted pod's place is too small for it"
    for i in range(6):
        take(made, f"vip{i}", priority=2000)
    assert pick_victims(made, one, {"n0": Eviction()}, NOW_S)["n0"].uids == ("u0",)
    important = demand("new", priority=1000)
    assert pick_victims(made, important, {"n0": Eviction()}, NOW_S)["n0"].uids == ("u0",)


def test_static_mig_takes_none_of_the_room_that_is_kept() -> None:
    instances = [{"profile": "1g.10gb", "start": 0, "size": 1}]
    made = cluster("priority>=1000: 7 x 1g.10gb", node("n0", gpu("a", instances=instances)))
    static = [{"name": "main", "resources": {"limits": {"nvidia.com/mig-1g.10gb": "1"}}}]
    assert refused(made, ask={}, containers=static) == {}


# ---- laws ------------------------------------------------------------------------------------------------------

RESERVES = st.lists(
    st.builds(
        Reserve,
        st.sampled_from([1, 2]),
        st.integers(1, 12),
        st.sampled_from(
            [
                r.shape
                for r in parse(
                    "priority>=0: 1 x 1g.10gb; priority>=0: 1 x 3g.40gb; priority>=0: 1 x 9Gi; "
                    "priority>=0: 1 x 20Gi on a100-80; priority>=0: 1 x whole"
                )
            ]
        ),
    ),
    min_size=1,
    max_size=2,
)


@given(made=ledgers(), reserves=RESERVES)
def test_room_is_its_plain_twin(made: Ledger, reserves: list[Reserve]) -> None:
    for reserve in reserves:
        counted = room(made.fleet, reserve.shape)
        for name, column in made.fleet.slots.items():
            state = made.node(name)
            assert state is not None
            usable = [room_of(gpu, left, reserve.shape) for gpu, left in state.view().gpus]
            assert counted[:, column].sum() == sum(usable)


def total(made: Ledger, reserve: Reserve) -> int:
    fresh = made.fleet.renewed_s >= NOW_S - made.stale_after_s
    return int(np.where(fresh, room(made.fleet, reserve.shape), 0).sum())


@given(
    made=ledgers(),
    reserves=RESERVES,
    steps=st.lists(st.tuples(pods("x"), st.integers(0, 2), st.sampled_from(NAMES[:4]), st.booleans()), max_size=6),
)
def test_no_sequence_of_binds_undercuts_a_reserve(
    made: Ledger, reserves: list[Reserve], steps: list[tuple[Json, int, str, bool]]
) -> None:
    made.reserves = tuple(reserves)
    for i, (one, priority, name, ends) in enumerate(steps):
        uid = f"new{i}"
        one["metadata"] |= {"uid": uid, "name": uid}
        one["spec"]["priority"] = priority
        asked = demand_of(one)
        before = [total(made, r) for r in reserves]
        got = made.assume(uid, asked.key, asked, name, NOW_S)
        for reserve, was in zip(reserves, before, strict=True):
            if isinstance(got, Allocation) and priority < reserve.priority:
                assert total(made, reserve) >= min(was, reserve.count)
        if ends:
            made.forget(uid)


@given(
    made=ledgers(),
    reserves=RESERVES,
    asked=pods("new"),
    priority=st.integers(0, 2),
    waiting=st.none() | pods("vip", priority=1, nominated="n1"),
)
def test_filter_keeps_its_word_and_pods_that_are_important_enough_see_no_reserve(
    made: Ledger, reserves: list[Reserve], asked: Json, priority: int, waiting: Json | None
) -> None:
    if waiting is not None:
        made.put_pod(waiting)
    asked["spec"]["priority"] = priority
    wanted = demand_of(asked)
    plain = filter_nodes(made, wanted, NAMES, NOW_S)
    made.reserves = tuple(reserves)
    found = filter_nodes(made, wanted, NAMES, NOW_S)
    assert set(found.fit) <= set(plain.fit)
    assert found.unresolvable == plain.unresolvable
    kept = {name: why for name, why in found.failed.items() if name not in plain.failed}
    assert kept.keys() == set(plain.fit) - set(found.fit)
    assert all(why.startswith(KEPT) for why in kept.values())
    if priority >= max(r.priority for r in reserves):
        assert found == plain
    scored = dict(score_nodes(made, wanted, NAMES, NOW_S))
    for name in NAMES:
        got = made.assume("new", wanted.key, wanted, name, NOW_S)
        assert isinstance(got, Allocation) == (name in found.fit), (name, got)
        made.forget("new")
        assert 0 <= scored[name] <= 10
