"""Planning for the lead time: what is learnt from the past, and what is never done without it."""

from collections.abc import Iterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from scaler.forecast.headroom import (
    AIM,
    BUDGET_H,
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


def day(hours: float, jump: float, since_s: float = 0.0, arrived: float = 0.0) -> Iterator[Observed]:
    """A demand of 10 that jumps to `jump` for ten minutes of every hour."""
    for i in range(int(hours * 3600 / TICK_S)):
        at_s = since_s + i * TICK_S
        demand = jump if at_s % 3600 < 600 else 10.0
        yield Observed(at_s, demand, demand, arrived)


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


def noisy(hours: int, late: float, since_s: float = 0.0, arrived: float = 100.0) -> Iterator[Observed]:
    """A demand of 10 with peaks of up to 20: the higher, the rarer."""
    for i in range(hours * 60):
        yield Observed(since_s + i * TICK_S, 10.0, 10.0 + 10.0 * (i * 7919 % 1000 / 1000) ** 20, arrived, late)


def test_more_late_requests_than_the_budget_allows_raise_the_headroom_and_fewer_lower_it() -> None:
    kept = 100.0 * 0.01 * AIM
    overspent, spent, left = (after(noisy(24, late)).headroom.times for late in (3.0, kept, 0.0))
    assert overspent > spent > left


def test_where_late_requests_are_not_measured_it_is_as_if_the_budget_were_kept() -> None:
    kept = 100.0 * 0.01 * AIM
    assert after(noisy(24, 0.0, arrived=0.0)).headroom == after(noisy(24, kept)).headroom


def test_of_demand_older_than_the_history_only_what_was_late_counts() -> None:
    calm = list(noisy(HISTORY_H + 1, 0.0, since_s=5 * 3600.0))
    late = after(iter(calm), after(noisy(5, 20.0)))
    on_time = after(iter(calm), after(noisy(5, 0.0)))
    assert late.headroom.times > on_time.headroom.times
    assert late.past.ratios == on_time.past.ratios
    assert len(late.hours) == HISTORY_H + 6


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
    assert len(learnt.hours) <= BUDGET_H
