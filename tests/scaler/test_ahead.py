"""Planning for the lead time: what is learnt from the past, and what is never done without it."""

from collections.abc import Iterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from scaler.forecast.headroom import (
    HISTORY_H,
    LEAST,
    MOST,
    NOTHING_LEARNT,
    PRIOR,
    Learnt,
    Observed,
    holds_s,
    learn,
)
from scaler.policy.ahead import Ahead, Pressure

TICK_S = 60.0
CALM = Pressure(queued=0.0, running=0.0, backlog_s=0.0, current=10)
POLICY = Ahead(cold_start_s=180.0, slots=128.0)


def day(hours: float, jump: float, since_s: float = 0.0, late: float = 0.0) -> Iterator[Observed]:
    """A demand of 10 that jumps to `jump` for ten minutes of every hour."""
    for i in range(int(hours * 3600 / TICK_S)):
        at_s = since_s + i * TICK_S
        demand = jump if at_s % 3600 < 600 else 10.0
        yield Observed(at_s, demand, demand, arrived=100.0, late=late)


def after(seen: Iterator[Observed], learnt: Learnt = NOTHING_LEARNT) -> Learnt:
    for observed in seen:
        learnt = learn(learnt, observed, cold_start_s=180.0, late_share=0.01)
    return learnt


def test_steady_demand_needs_no_headroom_and_jumps_need_their_size() -> None:
    assert after(day(24, 10.0)).headroom.times == pytest.approx(1.0, abs=0.05)
    # either the hold bridges the hour between two jumps, or the headroom is the jump
    jumps = after(day(24, 25.0)).headroom
    assert jumps.hold_s > 1500 or jumps.times == pytest.approx(2.5, rel=0.05)


def test_in_the_first_hours_the_headroom_is_at_least_the_prior_and_the_highest_ratio_seen() -> None:
    assert after(day(3, 10.0)).headroom.times == PRIOR
    assert after(day(3, 30.0)).headroom.times >= 2.9


def test_more_late_requests_than_aimed_at_raise_the_headroom() -> None:
    jumps = [Observed(i * TICK_S, 10.0, 10.0 + (i * 7919 % 100) / 10, arrived=100.0) for i in range(1440)]
    late = [Observed(o.at_s, o.slow, o.fast, o.arrived, late=3.0) for o in jumps]
    assert after(iter(late)).headroom.times > after(iter(jumps)).headroom.times


def test_two_that_have_read_the_same_for_the_whole_history_answer_the_same() -> None:
    whole = HISTORY_H * 3600.0
    same = list(day(HISTORY_H + 1, 18.0, since_s=2 * whole))
    one = after(iter(same), after(day(5, 90.0, since_s=2 * whole - 5 * 3600.0)))
    other = after(iter(same))
    assert one.headroom == other.headroom
    assert POLICY.recommend(same[-1], CALM, one)[0] == POLICY.recommend(same[-1], CALM, other)[0]


def test_asking_twice_at_one_instant_changes_nothing() -> None:
    learnt = after(day(2, 15.0))
    again = Observed(learnt.at_s[-1], 99.0, 99.0)
    assert learn(learnt, again, cold_start_s=180.0, late_share=0.01) is learnt


def test_a_new_process_never_lowers_before_its_hold_is_filled() -> None:
    learnt, answers = NOTHING_LEARNT, []
    for observed in day(1, 1.0):
        wish, learnt = POLICY.recommend(Observed(observed.at_s, 1.0, 1.0), CALM, learnt)
        answers.append((observed.at_s, wish.replicas))
    hold_s = NOTHING_LEARNT.headroom.hold_s
    assert all(replicas == 10 for at_s, replicas in answers if at_s < hold_s)
    assert answers[-1][1] is not None
    assert answers[-1][1] < 10


@pytest.mark.parametrize(
    ("now", "rule", "replicas"),
    [
        pytest.param(Pressure(queued=5.0, running=0.0, backlog_s=0.0, current=40), "busy", 40, id="requests wait"),
        pytest.param(Pressure(queued=0.0, running=4900.0, backlog_s=0.0, current=40), "busy", 40, id="slots are taken"),
        pytest.param(Pressure(queued=0.0, running=0.0, backlog_s=3000.0, current=1), "backlog", 61, id="work waits"),
    ],
)
def test_what_waits_and_runs_is_a_floor(now: Pressure, rule: str, replicas: int) -> None:
    learnt = after(day(24, 10.0))
    wish, _ = POLICY.recommend(Observed(24 * 3600.0, 10.0, 10.0), now, learnt)
    assert (wish.steps[-1].rule, wish.replicas) == (rule, replicas)
    assert wish.steps[-1].why


@settings(max_examples=50, deadline=None)
@given(
    demands=st.lists(st.floats(0, 1e6), min_size=1, max_size=200),
    cold_start_s=st.floats(0, 3600),
    step_s=st.floats(1, 4000),
)
def test_whatever_was_seen_the_headroom_stays_within_its_clamps(
    demands: list[float], cold_start_s: float, step_s: float
) -> None:
    learnt = NOTHING_LEARNT
    for i, demand in enumerate(demands):
        learnt = learn(learnt, Observed(i * step_s, demand, demand), cold_start_s=cold_start_s, late_share=0.01)
    assert LEAST <= learnt.headroom.times <= MOST * 1.05
    assert learnt.headroom.hold_s in holds_s(cold_start_s)
    assert len(learnt.hours) <= HISTORY_H
