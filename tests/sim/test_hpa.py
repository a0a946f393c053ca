"""The HPA stand-in against tables of the real controller's behaviour, and its laws."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sim.cluster.hpa import (
    NO_PAST,
    Behavior,
    Failed,
    Past,
    Policy,
    Rules,
    Scale,
    Spec,
    Target,
    sync,
)

DESIRED = Target("s0-desired_replicas", "AverageValue", 1000)
EXACT = Behavior(
    up=Rules(policies=(Policy("Pods", 1000, 15),), window_s=0.0, tolerance=0.0),
    down=Rules(policies=(Policy("Pods", 1000, 15),), window_s=0.0, tolerance=0.0),
)


def spec(
    behavior: Behavior | None = None, low: int = 1, high: int = 1000, targets: Sequence[Target] = (DESIRED,)
) -> Spec:
    return Spec(min_replicas=low, max_replicas=high, targets=tuple(targets), behavior=behavior)


def scale(count: int, *, status: int | None = None, ready: int | None = None) -> Scale:
    return Scale(spec=count, status=count if status is None else status, ready=count if ready is None else ready)


def want(count: float) -> dict[str, int | Failed]:
    return {DESIRED.name: round(count * 1000)}


def settled(replicas: int, behavior: Behavior | None, past: Past = NO_PAST) -> int:
    """What one sync makes of a demand, long after everything earlier has left its window."""
    verdict, _ = sync(spec(behavior), scale(replicas), want(replicas), past, 0.0)
    return verdict.replicas


FAST = Behavior(
    up=Rules(policies=(Policy("Percent", 1000, 15),), window_s=0.0),
    down=Rules(policies=(Policy("Percent", 100, 15),), window_s=0.0),
)


@pytest.mark.parametrize(
    ("status", "smallest_up", "largest_down"),
    [
        *[pytest.param(n, n + 1, n - 1, id=f"{n}: no dead band") for n in range(1, 10)],
        pytest.param(10, 12, 8, id="10: 9, 10 and 11 are one"),
        pytest.param(20, 23, 17, id="20: 18 to 22 are one"),
        pytest.param(40, 45, 35, id="40: 36 to 44 are one"),
        pytest.param(100, 111, 89, id="100: 90 to 110 are one"),
    ],
)
def test_dead_band_of_the_default_tolerance(status: int, smallest_up: int, largest_down: int) -> None:
    def after(desired: int) -> int:
        return sync(spec(FAST), scale(status), want(desired), NO_PAST, 0.0)[0].replicas

    assert next(d for d in range(status, 2 * status + 2) if after(d) > status) == smallest_up
    lower = [d for d in range(status, 0, -1) if after(d) < status]
    assert (lower[0] if lower else 0) == largest_down


@pytest.mark.parametrize(
    ("behavior", "path"),
    [
        pytest.param(None, [1, 4, 8, 16], id="no behavior: double, or 4"),
        pytest.param(Behavior(), [1, 5, 10, 16], id="default behavior: 4 pods or 100 % of the period's start"),
        pytest.param(EXACT, [1, 16], id="policies that allow it: at once"),
    ],
)
def test_growth_from_1_to_16(behavior: Behavior | None, path: list[int]) -> None:
    seen, past, current = [1], NO_PAST, 1
    for i in range(1, len(path)):
        verdict, past = sync(spec(behavior), scale(current), want(16), past, 15.0 * i)
        seen.append(current := verdict.replicas)
    assert seen == path


@pytest.mark.parametrize(
    ("up", "down", "desired", "after"),
    [
        pytest.param(0.0, 0.0, 101, 101, id="none: one more in a hundred"),
        pytest.param(0.0, 0.0, 99, 99, id="none: one less in a hundred"),
        pytest.param(0.0, None, 99, 100, id="up alone: down keeps the default 10 %"),
        pytest.param(None, 0.0, 101, 100, id="down alone: up keeps the default 10 %"),
        pytest.param(0.05, 0.2, 105, 100, id="5 % up: at the edge nothing happens"),
        pytest.param(0.05, 0.2, 106, 106, id="5 % up: past the edge"),
        pytest.param(0.05, 0.2, 80, 100, id="20 % down: at the edge nothing happens"),
        pytest.param(0.05, 0.2, 79, 79, id="20 % down: past the edge"),
    ],
)
def test_each_direction_has_its_own_tolerance(up: float | None, down: float | None, desired: int, after: int) -> None:
    """KEP-4951: `behavior.scaleUp.tolerance` and `scaleDown.tolerance`, the cluster's default where one is not set."""
    both = Behavior(up=replace(EXACT.up, tolerance=up), down=replace(EXACT.down, tolerance=down))
    past = sync(spec(both), scale(100), want(100), NO_PAST, 0.0)[1]
    assert sync(spec(both), scale(100), want(desired), past, 400.0)[0].replicas == after


def test_without_behavior_the_highest_of_five_minutes_holds() -> None:
    past, current, seen = NO_PAST, 10, []
    for i, desired in enumerate([10] + [2] * 22):
        verdict, past = sync(spec(), scale(current), want(desired), past, 15.0 * i)
        seen.append(current := verdict.replicas)
    # 10 was wanted at 0 s; a recommendation of exactly 300 s ago still counts
    assert seen == [10] * 21 + [2] * 2


def test_up_window_takes_the_lowest_recommendation() -> None:
    slow = replace(EXACT, up=replace(EXACT.up, window_s=60.0))
    past, current, seen = NO_PAST, 1, []
    for i, desired in enumerate([5, 9, 7, 8, 9, 9]):
        verdict, past = sync(spec(slow), scale(current), want(desired), past, 15.0 * i)
        seen.append(current := verdict.replicas)
    # the replicas at the first sight count as a recommendation
    assert seen == [1, 1, 1, 1, 7, 7]


def test_down_policy_counts_what_went_within_its_period() -> None:
    slow = replace(EXACT, down=replace(EXACT.down, policies=(Policy("Pods", 2, 60),)))
    past, current, seen = NO_PAST, 10, []
    for i in range(9):
        verdict, past = sync(spec(slow), scale(current), want(1), past, 15.0 * i)
        seen.append(current := verdict.replicas)
    assert seen == [8, 8, 8, 8, 6, 6, 6, 6, 4]


PAIR = (Policy("Pods", 1, 60), Policy("Percent", 50, 60))


@pytest.mark.parametrize(
    ("select", "up", "down"),
    [
        pytest.param("Max", 15, 5, id="Max: the larger change"),
        pytest.param("Min", 11, 9, id="Min: the smaller change"),
        pytest.param("Disabled", 10, 10, id="Disabled: none"),
    ],
)
def test_select_policy(select: Literal["Max", "Min", "Disabled"], up: int, down: int) -> None:
    rules = Rules(policies=PAIR, window_s=0.0, select=select, tolerance=0.0)
    behavior = Behavior(up=rules, down=rules)
    assert sync(spec(behavior), scale(10), want(100), NO_PAST, 0.0)[0].replicas == up
    assert sync(spec(behavior), scale(10), want(1), NO_PAST, 0.0)[0].replicas == down


def test_ten_percent_of_a_hundred_is_eleven_for_the_controller() -> None:
    """100 x 1.1 is 110.00000000000001 in floating point, and the controller rounds up: kept as it is."""
    rules = Rules(policies=(Policy("Percent", 10, 60),), window_s=0.0, tolerance=0.0)
    assert sync(spec(Behavior(up=rules)), scale(100), want(900), NO_PAST, 0.0)[0].replicas == 111


@pytest.mark.parametrize(
    ("now", "low", "high", "desired", "after"),
    [
        pytest.param(0, 1, 9, 5, 0, id="zero: KEDA's business"),
        pytest.param(12, 1, 9, 12, 9, id="above max: down to it, whatever is wanted"),
        pytest.param(1, 3, 9, 1, 3, id="below min: up to it, whatever is wanted"),
        pytest.param(5, 1, 9, 50, 9, id="wanted above max"),
        pytest.param(5, 3, 9, 1, 3, id="wanted below min"),
        pytest.param(5, 1, 9, 0, 1, id="nothing wanted: min"),
    ],
)
def test_bounds(now: int, low: int, high: int, desired: int, after: int) -> None:
    for behavior in (EXACT, None):
        past = Past() if behavior else replace(Past(), recommendations=())
        verdict, past = sync(spec(behavior, low, high), scale(now), want(desired), past, 0.0)
        later, _ = sync(spec(behavior, low, high), scale(verdict.replicas), want(desired), past, 400.0)
        assert later.replicas == after


OTHER = Target("s1-queue", "AverageValue", 2000)


@pytest.mark.parametrize(
    ("usage", "after"),
    [
        pytest.param({DESIRED.name: 8000, OTHER.name: 6000}, 8, id="two metrics: the higher proposal"),
        pytest.param({DESIRED.name: 3000, OTHER.name: 20000}, 10, id="the other one is higher"),
        pytest.param({DESIRED.name: Failed("x"), OTHER.name: 20000}, 10, id="one failed: up is allowed"),
        pytest.param({DESIRED.name: Failed("x"), OTHER.name: 2000}, 5, id="one failed: down is not"),
        pytest.param({DESIRED.name: Failed("x"), OTHER.name: Failed("y")}, 5, id="all failed: hold"),
    ],
)
def test_several_metrics(usage: Mapping[str, int | Failed], after: int) -> None:
    verdict, _ = sync(spec(EXACT, targets=(DESIRED, OTHER)), scale(5), usage, NO_PAST, 0.0)
    assert verdict.replicas == after
    assert verdict.reason


@pytest.mark.parametrize(
    ("counts", "usage", "after"),
    [
        pytest.param(scale(4, ready=4), 2000, 8, id="twice the target: twice the ready"),
        pytest.param(scale(4, ready=2), 2000, 4, id="only ready pods are multiplied"),
        pytest.param(scale(4, ready=2), 1000, 4, id="on target: what the spec says"),
        pytest.param(scale(4, ready=0), 2000, 1, id="nothing ready: nothing to multiply, so min"),
    ],
)
def test_value_target(counts: Scale, usage: int, after: int) -> None:
    target = Target("s0-latency", "Value", 1000)
    assert sync(spec(EXACT, targets=(target,)), counts, {target.name: usage}, NO_PAST, 0.0)[0].replicas == after


def test_in_tolerance_average_value_proposes_the_status() -> None:
    """During a rolling update status is above spec, and the controller follows it (kubernetes #138505)."""
    verdict, _ = sync(spec(FAST), scale(10, status=12), want(12), NO_PAST, 0.0)
    assert verdict.replicas == 12


def test_steps_tell_what_limited() -> None:
    past = sync(spec(Behavior()), scale(10), want(10), NO_PAST, 0.0)[1]
    down, _ = sync(spec(Behavior()), scale(10), want(3), past, 15.0)
    assert [str(s) for s in down.steps] == ["stabilization: 3 -> 10 (recommendations of the last 300 s)"]
    up, _ = sync(spec(Behavior()), scale(2), want(50), NO_PAST, 0.0)
    assert [str(s) for s in up.steps] == ["limit: 50 -> 6 (policies allow 6, max is 1000)"]


BEHAVIORS = st.none() | st.builds(
    Behavior,
    up=st.builds(
        Rules,
        policies=st.lists(
            st.builds(Policy, st.sampled_from(["Pods", "Percent"]), st.integers(1, 200), st.integers(1, 120)),
            min_size=1,
            max_size=3,
        ).map(tuple),
        window_s=st.sampled_from([0.0, 30.0, 300.0]),
        select=st.sampled_from(["Max", "Min", "Disabled"]),
        tolerance=st.none() | st.floats(0, 0.5),
    ),
    down=st.builds(
        Rules,
        policies=st.lists(
            st.builds(Policy, st.sampled_from(["Pods", "Percent"]), st.integers(1, 100), st.integers(1, 120)),
            min_size=1,
            max_size=3,
        ).map(tuple),
        window_s=st.sampled_from([0.0, 60.0, 300.0]),
        select=st.sampled_from(["Max", "Min", "Disabled"]),
        tolerance=st.none() | st.floats(0, 0.5),
    ),
)
DEMANDS = st.lists(st.none() | st.integers(0, 200), min_size=1, max_size=40)


def walk(behavior: Behavior | None, start: int, demands: Sequence[int | None], low: int, high: int) -> list[int]:
    seen, past = [start], NO_PAST
    for i, demand in enumerate(demands):
        usage = {DESIRED.name: Failed("not read")} if demand is None else want(demand)
        verdict, past = sync(spec(behavior, low, high), scale(seen[-1]), usage, past, 15.0 * i)
        seen.append(verdict.replicas)
    return seen


@given(behavior=BEHAVIORS, start=st.integers(1, 150), demands=DEMANDS, low=st.integers(1, 20), more=st.integers(0, 100))
def test_laws(behavior: Behavior | None, start: int, demands: list[int | None], low: int, more: int) -> None:
    seen = walk(behavior, start, demands, low, low + more)
    assert all(low <= n <= low + more for n in seen[1:]), "always within bounds after one sync"
    for before, after, demand in zip(seen[:-1], seen[1:], demands, strict=True):
        if low <= before <= low + more:
            assert not (demand is None and after != before), "nothing known: nothing done"
            if behavior is not None and after > before:
                assert behavior.up.select != "Disabled"
            if behavior is not None and after < before:
                assert behavior.down.select != "Disabled"


@given(demands=DEMANDS, start=st.integers(1, 100))
def test_the_history_that_is_kept_is_bounded(demands: list[int | None], start: int) -> None:
    past = NO_PAST
    for i, demand in enumerate(demands * 5):
        usage = {DESIRED.name: Failed("not read")} if demand is None else want(demand)
        _, past = sync(spec(Behavior()), scale(start), usage, past, 15.0 * i)
    assert len(past.recommendations) <= 300 / 15 + 2
    assert len(past.ups) <= 2
