"""The fluid pool: what it must conserve, and what follows from its formulas by hand."""

from math import exp, expm1

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sim.baselines import static
from sim.fluid.pool import admission, join, new_world, scale, serve
from sim.fluid.runs import Limits, run, run_schedule, run_stepwise
from tests.sim.fluid.loads import SERVICE, case, load, waves


@settings(max_examples=60, deadline=None)
@given(
    ready=st.integers(1, 40),
    full=st.floats(0, 1),
    waiting=st.floats(0, 5000),
    prompt=st.floats(1, 20_000),
    output=st.floats(1, 2000),
)
def test_a_second_of_prefill_and_decode_never_exceeds_the_replicas_work(
    ready: int, full: float, waiting: float, prompt: float, output: float
) -> None:
    small = case(np.ones(15))
    world = new_world(SERVICE, load(np.ones(15), prompt, output), small.terms)
    slots = ready * SERVICE.slots
    world.pool.now["ready"], world.pool.now["running"] = ready, full * slots
    admitted, after = admission(world, 0, waiting)
    assert 0.0 <= admitted <= waiting * (1 + 1e-12)
    assert 0.0 <= after <= slots * (1 + 1e-12)
    ended = full * slots + admitted - after
    done_s = admitted * world.load.prefill_s[0] + ended * world.load.output_tokens[0] * SERVICE.decode_s
    assert done_s <= ready * (1 + 1e-9)


@settings(max_examples=200, deadline=None)
@given(
    ready=st.integers(1, 40),
    full=st.floats(0, 1),
    waiting=st.floats(0, 1.2),
    prompt=st.floats(1, 20_000),
    output=st.floats(1, 2000),
)
def test_admission_is_what_waits_what_the_slots_allow_and_what_the_token_budget_allows_whichever_is_least(
    ready: int, full: float, waiting: float, prompt: float, output: float
) -> None:
    """`waiting`: in parts of the free slots. The compiled function takes a short way where all are admitted."""
    world = new_world(SERVICE, load(np.ones(15), prompt, output), case(np.ones(15)).terms)
    slots = ready * SERVICE.slots
    running, asked = full * slots, waiting * (1 - full) * slots
    world.pool.now["ready"], world.pool.now["running"] = ready, running
    admitted, after = admission(world, 0, asked)
    batch = min(slots, running + asked) / ready
    iteration_s = SERVICE.base_s + SERVICE.per_sequence_s * batch
    ends, share = 1 / (iteration_s * output), prompt * SERVICE.prefill_s / ready
    by_slots = (slots * ends + (slots - running) * ends / expm1(ends)) / (1 + slots * ends * share)
    chunk_s = (SERVICE.budget_tokens - batch) * SERVICE.prefill_s
    by_budget = chunk_s / (iteration_s + chunk_s) / share
    least = min(asked, by_slots, by_budget)
    rate = ends * (1 - least * share)
    then = running * exp(-rate) + least * -expm1(-rate) / rate
    assert admitted == pytest.approx(least - max(0.0, then - slots), rel=1e-9, abs=1e-9)
    assert after == pytest.approx(min(then, slots), rel=1e-9, abs=1e-9)


def test_with_too_few_replicas_nobody_is_on_time_in_the_end_and_with_many_everybody_is() -> None:
    steady = np.full(3600, 30.0)  # 3 replicas' work
    assert run_schedule(case(steady), np.full(240, 2)).attainment < 0.05
    assert run_schedule(case(steady), np.full(240, 5)).attainment == 1.0


def test_what_runs_settles_where_littles_law_says() -> None:
    world = new_world(SERVICE, load(np.full(1800, 20.0)), case(np.ones(15), first=4).terms)
    for tick in range(120):
        serve(world, tick)
    running = world.pool.running_sum[-1] - world.pool.running_sum[-2]
    iteration_s = SERVICE.base_s + SERVICE.per_sequence_s * running / 4
    busy = 20.0 * world.load.prefill_s[0] / 4
    assert running == pytest.approx(20.0 * 170.0 * iteration_s / (1 - busy), rel=0.02)


def test_gpu_hours_count_replicas_that_start_and_that_drain() -> None:
    calm = case(np.full(600, 1.0), cold_start_ticks=10, first=2)
    up = run_stepwise(calm, lambda seen: 3.0 if seen.now_s >= 150.0 else 2.0)
    assert up.gpu_hours == pytest.approx((2 * 600 + 450) * 4 / 3600)
    down = run_stepwise(calm, lambda seen: 1.0 if seen.now_s >= 300.0 else 2.0)
    assert down.gpu_hours == pytest.approx((2 * 300 + 300 + 15) * 4 / 3600)


def test_a_replica_joins_after_its_cold_start_and_those_that_still_start_go_first() -> None:
    world = new_world(SERVICE, load(np.full(600, 1.0)), case(np.ones(15), cold_start_ticks=3, first=2).terms)
    scale(world, 0, 4.0)
    for tick, ready in ((1, 2), (2, 2), (3, 4)):
        join(world, tick)
        assert world.pool.now["ready"][0] == ready
    scale(world, 4, 6.0)
    scale(world, 5, 3.0)
    assert (world.pool.now["ready"][0], world.pool.now["pending"][0]) == (3, 0)
    assert world.pool.now["reversals"][0] == 1


def test_the_fewest_and_the_most_replicas_hold_for_every_policy() -> None:
    small = case(np.full(600, 1.0), most=5, cold_start_ticks=1)
    assert run_stepwise(small, lambda _: 0.0).gpu_hours < run_stepwise(small, lambda _: 1e9).gpu_hours
    assert run_stepwise(small, lambda _: 1e9).gpu_hours <= 5 * 600 * 4 / 3600


def test_a_run_stops_at_its_limits_and_says_how_far_it_came() -> None:
    busy = case(np.full(3600, 60.0))
    _, ticks = run(busy, static.decide, np.array([2.0]), static.MEMORY, Limits(late=100.0))
    assert 0 < ticks < 240
    _, ticks = run(busy, static.decide, np.array([2.0]), static.MEMORY)
    assert ticks == 240


def test_stepwise_and_compiled_runs_are_the_same() -> None:
    some = case(waves(80, 3), first=3)
    compiled, _ = run(some, static.decide, np.array([4.0]), static.MEMORY)
    assert run_stepwise(some, lambda _: 4.0) == compiled
