"""The oracle: its bound lies below every schedule that meets the target, its schedule is one of them."""

from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sim.baselines import BASELINES
from sim.fluid.runs import Case, run, run_schedule
from sim.oracle.bounds import TARGET, bounds
from sim.oracle.relaxed import after_tick, demand_of
from tests.sim.fluid.loads import SERVICE, case, load, waves


def brute_force(tiny: Case, most: int) -> float:
    """GPU-hours of the cheapest of all schedules that meet the target."""
    costs = []
    for replicas in product(range(1, most + 1), repeat=tiny.load.ticks):
        outcome = run_schedule(tiny, np.array(replicas))
        if outcome.attainment >= TARGET:
            costs.append(outcome.gpu_hours)
    return min(costs)


@pytest.mark.parametrize("seed", range(3))
def test_no_schedule_of_a_tiny_load_is_cheaper_than_the_bound(seed: int) -> None:
    requests = waves(5, seed, mean_per_s=12.0)
    tiny = case(requests, cold_start_ticks=1 + seed % 3, most=4)
    best, least = bounds(tiny)
    assert least is not None
    cheapest = brute_force(tiny, 4)
    assert least <= cheapest + 1e-9
    assert best.attainment >= TARGET
    assert best.gpu_hours >= cheapest - 1e-9


@settings(max_examples=8, deadline=None)
@given(seed=st.integers(0, 10_000), cold_start_ticks=st.integers(1, 20), scored_from=st.sampled_from([0, 10]))
def test_every_policy_that_meets_the_target_costs_at_least_the_bound(
    seed: int, cold_start_ticks: int, scored_from: int
) -> None:
    some = case(waves(100, seed), cold_start_ticks=cold_start_ticks, most=10, first=4, scored_from=scored_from)
    best, least = bounds(some)
    assert least is not None
    assert best.attainment >= TARGET
    assert 0.0 < least <= best.gpu_hours
    for name in ("static", "rate-hold", "hpa-queue"):
        baseline = BASELINES[name]
        for values in list(baseline.grid(6))[::5]:
            outcome, _ = run(some, baseline.decide, np.array(values, np.float64), baseline.memory)
            if outcome.attainment >= TARGET:
                assert least <= outcome.gpu_hours, (name, values)


def test_where_the_largest_fleet_misses_the_target_there_is_no_bound() -> None:
    best, least = bounds(case(np.full(900, 100.0), most=3))
    assert least is None
    assert best.attainment < TARGET


@settings(max_examples=40, deadline=None)
@given(
    replicas=st.integers(1, 20),
    more=st.floats(0, 50),
    less=st.floats(0, 50),
    per_s=st.floats(0.1, 300),
    prompt=st.floats(10, 8000),
)
def test_more_work_in_the_pool_is_never_less_work_later(
    replicas: int, more: float, less: float, per_s: float, prompt: float
) -> None:
    low, high = sorted((more, less))
    demand = demand_of(SERVICE, load(np.full(30, per_s), prompt))
    assert after_tick(demand, 1, float(replicas), low) <= after_tick(demand, 1, float(replicas), high) + 1e-9
