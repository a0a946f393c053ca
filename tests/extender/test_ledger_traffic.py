"""The ledger counts each pod once: when it asks, or when it is found bound; and when it leaves."""

from typing import Any

import pytest

from extender import ledger as module
from extender.ledger import Ledger
from extender.placement import asked
from extender.placement.allocation import Allocation, MigSlice
from extender.placement.demand import Shape
from extender.placement.profile import Mode
from extender.placement.traffic import NO_TRAFFIC
from extender.verbs import filter_nodes, filter_objects, score_nodes
from tests.extender.objects import NOW_S, Json, demand, gpu, ledger, node, pod

ONE = [node("n0", gpu())]
SMALL = Shape(frozenset({Mode.MIG}), profile="1g.10gb")
WHOLE = Shape(frozenset({Mode.MIG}), profile="7g.80gb")


def bound(uid: str, start: int, **fields: Any) -> Json:  # noqa: ANN401
    slices = Allocation.of({"main": [MigSlice("GPU-0", "1g.10gb", start, 1)]})
    return pod(uid, on="n0", allocation=slices, phase="Running", **fields)


def place(made: Ledger, uid: str) -> None:
    wanted = demand(uid)
    assert isinstance(made.assume(uid, wanted.key, wanted, "n0", NOW_S), Allocation)


def test_a_pod_that_asks_again_and_again_is_counted_once() -> None:
    made = ledger(ONE)
    for _ in range(3):
        filter_nodes(made, demand("u1"), ["n0"], NOW_S)
        score_nodes(made, demand("u1"), ["n0"], NOW_S)
        place(made, "u1")
    made.forget("u1")
    place(made, "u1")
    made.confirm("u1")
    made.put_pod(bound("u1", 0))
    assert made.traffic.mix == {SMALL: 1}


def test_a_pod_that_fits_nowhere_counts_too() -> None:
    made = ledger([])
    filter_nodes(made, demand("u1", ask={"profile": "7g.80gb"}), [], NOW_S)
    assert made.traffic.mix == {WHOLE: 1}


def test_existing_instances_are_not_what_is_learnt() -> None:
    made = ledger(ONE)
    static = [{"name": "main", "resources": {"limits": {"nvidia.com/mig-1g.10gb": "1"}}}]
    filter_nodes(made, demand("u1", containers=static), ["n0"], NOW_S)
    made.put_pod(pod("u1", containers=static, on="n0", phase="Running"))
    made.drop_pod("u1")
    assert made.traffic == NO_TRAFFIC


def test_after_a_restart_the_mix_is_what_is_bound_in_any_order() -> None:
    pods = [bound("u1", 0), bound("u2", 1), bound("u3", 2)]
    forwards, backwards = ledger(ONE), ledger(ONE)
    forwards.replace_pods(pods, NOW_S)
    forwards.replace_pods(pods, NOW_S)
    backwards.replace_pods(reversed(pods), NOW_S)
    assert forwards.traffic.mix == backwards.traffic.mix == {SMALL: 3}
    assert forwards.traffic.turnover == 0


@pytest.mark.parametrize(
    "ask",
    [
        pytest.param({}, id="no size: the demand cannot be read"),
        pytest.param({"mode": "luck"}, id="an unknown mode"),
    ],
)
def test_a_bound_pod_whose_wish_is_not_known_holds_its_slice_and_teaches_nothing(ask: dict[str, str]) -> None:
    made = ledger(ONE)
    made.put_pod(bound("u1", 0, ask=ask))
    assert made.holding("u1") is not None
    assert made.traffic == NO_TRAFFIC


def test_a_bound_pod_that_asks_for_nothing_teaches_nothing() -> None:
    made = ledger(ONE)
    made.put_pod(bound("u1", 0, containers=[{"name": "main"}]))
    assert made.holding("u1") is not None
    assert made.traffic == NO_TRAFFIC


def test_pods_leave_when_they_end_or_are_gone_and_once_only() -> None:
    made = ledger(ONE)
    made.replace_pods([bound("u1", 0), bound("u2", 1)], NOW_S)
    made.put_pod(pod("u1", on="n0", phase="Succeeded"))
    once = made.traffic
    made.drop_pod("u1")
    assert made.traffic == once
    assert once.left == 1
    made.drop_pod("u2")
    assert made.traffic.left > 1


def test_a_reservation_that_ends_is_no_departure() -> None:
    made = ledger(ONE)
    place(made, "u1")
    made.forget("u1")
    place(made, "u1")
    made.drop_pod("u1")
    assert made.traffic.left == 0


def test_the_memory_of_who_asked_is_bounded_and_those_who_hold_are_known_anyway(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(asked, "MOST", 2)
    made = ledger(ONE)
    place(made, "holder")
    for uid in ("u1", "u2", "u1", "u3"):
        filter_nodes(made, demand(uid), ["n0"], NOW_S)
    assert sum(made.traffic.weights) == pytest.approx(4, rel=1e-2)
    filter_nodes(made, demand("u1"), ["n0"], NOW_S)
    filter_nodes(made, demand("holder"), ["n0"], NOW_S)
    assert sum(made.traffic.weights) == pytest.approx(4, rel=1e-2)
    filter_nodes(made, demand("u2"), ["n0"], NOW_S)
    assert sum(made.traffic.weights) == pytest.approx(5, rel=1e-2)


def test_what_if_nodes_are_compared_by_what_was_learnt_and_teach_nothing() -> None:
    made = ledger(ONE)
    objects = {"new": node("new", gpu("GPU-9"))}
    filter_objects(made, demand("u1"), objects, NOW_S)
    filter_objects(made, demand("u1"), objects, NOW_S)
    assert made.traffic.mix == {SMALL: 1}


def test_pods_that_the_api_shows_without_a_place_wait_until_they_ask_are_bound_or_gone() -> None:
    made = ledger(ONE)
    made.replace_pods([pod(uid) for uid in ("u1", "u2", "u3", "u4")], NOW_S)
    assert sum(made.traffic.waiting) == 4
    place(made, "u1")
    assert sum(made.traffic.waiting) == 3
    made.put_pod(bound("u2", 3))
    made.drop_pod("u3")
    assert sum(made.traffic.waiting) == 1
    filter_nodes(made, demand("u4"), ["n0"], NOW_S)
    assert sum(made.traffic.waiting) == 0, "it is being placed now"
    made.put_pod(pod("u4"))
    assert sum(made.traffic.waiting) == 1, "it found no place, and waits again"
    made.replace_pods([], NOW_S)
    assert sum(made.traffic.waiting) == 0


@pytest.mark.parametrize(
    "fields",
    [
        pytest.param({"ask": {"mode": "luck"}}, id="a demand that cannot be read"),
        pytest.param({"containers": [{"name": "main"}]}, id="nothing of ours asked for"),
        pytest.param({"gates": [{"name": "quota"}]}, id="held back by a scheduling gate"),
    ],
)
def test_who_cannot_ask_does_not_wait(fields: dict[str, Any]) -> None:
    made, gates = ledger(ONE), fields.pop("gates", None)
    shown = pod("u1", **fields)
    if gates:
        shown["spec"]["schedulingGates"] = gates
    made.put_pod(shown)
    assert made.traffic.waiting == ()


def test_who_holds_a_place_does_not_wait_whatever_a_late_watch_says(monkeypatch: pytest.MonkeyPatch) -> None:
    made = ledger(ONE)
    place(made, "u1")
    made.put_pod(pod("u1"))
    assert sum(made.traffic.waiting) == 0
    monkeypatch.setattr(module, "MAX_WAITING", 1)
    made.replace_pods([pod("u2"), pod("u3")], NOW_S)
    assert sum(made.traffic.waiting) == 1, "what is remembered is bounded"
