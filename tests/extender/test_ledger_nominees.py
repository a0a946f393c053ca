"""Room that is kept for nominated pods, which the scheduler does not tell an extender about."""

import pytest

from extender.ledger import Ledger, Refusal
from extender.placement.allocation import Allocation, MigSlice, MpsShare, WholeGpu
from tests.extender.objects import NOW_S, Json, demand, gpu, ledger, node, pod

ONE = [node("n0", gpu())]
SEVEN = {"profile": "7g.80gb"}


def slice_at(start: int) -> Allocation:
    return Allocation.of({"main": [MigSlice("GPU-0", "1g.10gb", start, 1)]})


def assume(made: Ledger, uid: str, **fields: object) -> Allocation | Refusal:
    wanted = demand(uid, **fields)
    return made.assume(uid, wanted.key, wanted, "n0", NOW_S)


def static(uid: str, count: int, **fields: object) -> Json:
    limits = {"nvidia.com/mig-1g.10gb": str(count)}
    return pod(uid, ask={}, containers=[{"name": "m", "resources": {"limits": limits}}], **fields)  # type: ignore[arg-type]


def test_room_is_kept_for_nominated_pods_of_at_least_the_priority() -> None:
    made = ledger(ONE)
    made.put_pod(pod("vip", ask=SEVEN, priority=5, nominated="n0"))
    assert isinstance(assume(made, "low", priority=4), Refusal)
    assert isinstance(assume(made, "same", priority=5), Refusal)
    assert isinstance(assume(made, "high", priority=6), Allocation)


def test_a_nominated_pod_does_not_stand_in_its_own_way() -> None:
    made = ledger(ONE)
    made.put_pod(pod("vip", ask=SEVEN, priority=5, nominated="n0"))
    assert isinstance(assume(made, "vip", ask=SEVEN, priority=5), Allocation)
    assert made.special_nodes(demand("x")) == set()


@pytest.mark.parametrize("leaving", [pytest.param(True, id="leaving"), pytest.param(False, id="to be evicted")])
def test_a_place_is_kept_among_the_pods_that_make_room(leaving: bool) -> None:
    """The nominee waits for the upper half, which its victim still has: the lower half is not its concern."""
    made = ledger(ONE)
    made.put_pod(
        pod("high", on="n0", allocation=Allocation.of({"m": [MigSlice("GPU-0", "2g.20gb", 0, 2)]}), priority=9)
    )
    made.put_pod(pod("victim", on="n0", allocation=slice_at(4), leaving=leaving))
    made.put_pod(pod("vip", ask={"profile": "3g.40gb"}, priority=5, nominated="n0"))
    starts = []
    for uid in ("a", "b", "c"):
        found = assume(made, uid)
        starts += [g.start for g in found.grants() if isinstance(g, MigSlice)] if isinstance(found, Allocation) else []
    assert sorted(starts) == [2, 3]


def test_nominees_with_higher_priority_choose_first() -> None:
    made = ledger([node("n0", gpu("a", mode="exclusive"), gpu("b", index=1, mode="exclusive"))])
    for uid, priority in (("v1", 5), ("v2", 7)):
        made.put_pod(pod(uid, ask={"mode": "exclusive"}, priority=priority, nominated="n0"))
    assert [d.uid for d in made.nominees("n0", demand("x"))] == ["v2", "v1"]
    assert isinstance(assume(made, "x", ask={"mode": "exclusive"}), Refusal)
    assert isinstance(assume(made, "y", ask={"mode": "exclusive"}, priority=6), Allocation)


def test_a_nominee_that_can_never_have_room_keeps_nothing() -> None:
    made = ledger(ONE)
    made.put_pod(pod("vip", ask={"mode": "exclusive"}, priority=5, nominated="n0"))
    assert isinstance(assume(made, "low"), Allocation)


def test_static_nominees_keep_instances() -> None:
    made = ledger([node("n0", gpu(instances=[{"profile": "1g.10gb", "start": 0, "size": 1}]))])
    made.put_pod(static("vip", 1, nominated="n0", priority=3))
    assert made.view_for("n0", demand("x")).static == {}


def test_a_nomination_ends_with_the_pod_or_when_it_is_withdrawn_or_makes_no_sense() -> None:
    made = ledger(ONE)
    nominated = pod("vip", ask=SEVEN, priority=5, nominated="n0")
    made.put_pod(nominated)
    made.put_pod(pod("vip2", ask=SEVEN, priority=5, nominated="n0"))
    made.drop_pod("vip")
    made.put_pod(pod("vip2", ask=SEVEN, priority=5))
    made.put_pod(pod("web", containers=[{"name": "web"}], nominated="n0"))
    made.put_pod(pod("odd", ask={"profile": "half"}, nominated="n0"))
    assert made.special_nodes(demand("x")) == set()
    assert isinstance(assume(made, "low"), Allocation)


def test_views_without_pods_and_with_pods_that_are_not_there() -> None:
    made = ledger([node("n0", gpu("a", mode="mps"), gpu("b", index=1, mode="exclusive"))])
    made.put_pod(pod("u1", on="n0", allocation=Allocation.of({"m": [MpsShare("a", 1024, 10)], "w": [WholeGpu("b")]})))
    view = made.view_for("n0", demand("x"), frozenset({"u1", "nobody"}))
    assert [u.whole for _, u in view.gpus] == [True, True]
    assert [u.whole for _, u in made.view_for("n0", demand("x")).gpus] == [False, False]
