"""The oracle: its bound lies below every schedule that meets the target, its schedule is one of them."""

from collections.abc import Callable
from itertools import product
from math import log

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sim.baselines import BASELINES
from sim.fluid.load import FloatArray
from sim.fluid.pool import Terms, new_world, serve
from sim.fluid.runs import Case, Outcome, run, run_schedule
from sim.fluid.service import TICK_S
from sim.oracle import bounds as oracle
from sim.oracle.bounds import TARGET, Tried, bounds, search, start_cost
from sim.oracle.grids import Levels, grid_of
from sim.oracle.relaxed import Moved, advance, demand_of
from tests.sim.fluid.loads import SERVICE, case, waves

SLOT_LIMITED = (1100.0, 170.0)
BUDGET_LIMITED = (6000.0, 30.0)
"""Prompt and output tokens of requests."""


@pytest.fixture(params=["short", "long"])
def planning(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """As loads of hours are planned, and as loads of days are."""
    if request.param == "long":
        monkeypatch.setattr(oracle, "SHORT", 0)
    return str(request.param)


def cheapest_of_all(tiny: Case, most: int) -> float:
    """GPU-hours of the cheapest of all schedules that meet the target, by trying each."""
    since = tiny.terms.scored_from
    costs = []
    for replicas in product(range(1, most + 1), repeat=tiny.load.ticks - since):
        before = np.full(since, tiny.terms.max_replicas)
        before[max(0, since - 1) :] = replicas[0]
        outcome = run_schedule(tiny, np.concatenate((before, replicas)))
        if outcome.attainment >= TARGET:
            costs.append(outcome.gpu_hours)
    return min(costs)


@pytest.mark.parametrize("scored_from", [0, 2])
@pytest.mark.parametrize(
    ("tokens", "mean_per_s"), [(SLOT_LIMITED, 12.0), (BUDGET_LIMITED, 2.5)], ids=["slots limit", "the budget limits"]
)
@pytest.mark.parametrize("seed", range(3))
@pytest.mark.usefixtures("planning")
def test_no_schedule_of_a_tiny_load_is_cheaper_than_the_bound(
    seed: int, tokens: tuple[float, float], mean_per_s: float, scored_from: int
) -> None:
    requests = waves(5 + scored_from, seed, mean_per_s)
    tiny = case(requests, cold_start_ticks=1 + seed % 3, most=4, scored_from=scored_from, tokens=tokens)
    best, least = bounds(tiny)
    assert least is not None
    cheapest = cheapest_of_all(tiny, 4)
    assert least <= cheapest + 1e-9
    assert best.attainment >= TARGET
    assert best.gpu_hours >= cheapest - 1e-9


@settings(max_examples=6, deadline=None)
@given(
    seed=st.integers(0, 10_000),
    cold_start_ticks=st.integers(1, 20),
    scored_from=st.sampled_from([0, 10]),
    tokens=st.sampled_from([SLOT_LIMITED, BUDGET_LIMITED]),
    short=st.booleans(),
)
def test_every_policy_that_meets_the_target_costs_at_least_the_bound(
    seed: int, cold_start_ticks: int, scored_from: int, tokens: tuple[float, float], *, short: bool
) -> None:
    mean_per_s = 15.0 if tokens == SLOT_LIMITED else 3.0
    requests = waves(100, seed, mean_per_s)
    some = case(requests, cold_start_ticks=cold_start_ticks, most=10, first=4, scored_from=scored_from, tokens=tokens)
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(oracle, "SHORT", 5760 if short else 0)
        best, least = bounds(some)
    if least is None:
        assert best.attainment < TARGET
        return
    assert best.attainment >= TARGET
    assert 0.0 < least <= best.gpu_hours
    for name in ("static", "rate-hold", "hpa-queue"):
        baseline = BASELINES[name]
        for values in list(baseline.grid(6))[::5]:
            outcome, _ = run(some, baseline.decide, np.array(values, np.float64), baseline.memory)
            if outcome.attainment >= TARGET:
                assert least <= outcome.gpu_hours, (name, values)


@pytest.mark.parametrize("tokens", [SLOT_LIMITED, BUDGET_LIMITED], ids=["slots limit", "the budget limits"])
def test_bound_and_schedule_of_an_hour_are_near_to_each_other(tokens: tuple[float, float]) -> None:
    mean_per_s = 60.0 if tokens == SLOT_LIMITED else 15.0
    best, least = bounds(case(waves(240, 1, mean_per_s), most=40, scored_from=20, tokens=tokens))
    assert least is not None
    assert least > 0.93 * best.gpu_hours


def test_where_the_largest_fleet_misses_the_target_there_is_no_bound() -> None:
    best, least = bounds(case(np.full(900, 100.0), most=3))
    assert least is None
    assert best.attainment < TARGET


def relaxed_tick(demand_case: Case, replicas: float, running: float, waiting_s: float) -> tuple[float, float, float]:
    """x, Q in requests by replica and late requests after the second tick, in the relaxed pool."""
    demand = demand_of(SERVICE, demand_case.load)
    levels = Levels(2, running, 2, waiting_s, log(2.0), (1,))
    grid = grid_of(np.array([replicas]), levels, by_replica=True)
    moved = Moved(np.empty((1, 3)), np.empty((1, 3)), np.empty((1, 3)), np.empty((1, 3), np.int64))
    advance(demand, grid, 1, moved)
    return float(moved.running[0, 2]), float(moved.waiting[0, 2]), float(moved.late[0, 2])


def real_tick(demand_case: Case, replicas: float, running: float, waiting_s: float) -> tuple[float, float, float]:
    """The same in `sim.fluid.pool`."""
    world = new_world(SERVICE, demand_case.load, demand_case.terms)
    now = world.pool.now[0]
    now["ready"], now["running"] = replicas, running * replicas
    now["admitted"] = world.load.work_sum[TICK_S] - waiting_s * replicas
    serve(world, 1)
    request_s = world.load.prefill_s[1] + world.load.output_tokens[1] * SERVICE.decode_s
    left = max(0.0, world.load.work_sum[2 * TICK_S] - now["admitted"]) / request_s / replicas
    return float(now["running"]) / replicas, float(left), float(now["late"])


@st.composite
def moments(draw: st.DrawFn) -> Case:
    """Two ticks of noise."""
    per_s = draw(st.floats(0.1, 300))
    arrivals = np.random.default_rng(draw(st.integers(0, 1000))).gamma(2.0, per_s / 2.0, 2 * TICK_S)
    return case(arrivals, tokens=(draw(st.floats(10, 12_000)), draw(st.floats(2, 800))))


@settings(max_examples=300, deadline=None)
@given(
    moment=moments(),
    replicas=st.integers(1, 20),
    running=st.tuples(st.floats(0.01, 128), st.floats(0, 1)),
    waiting_s=st.tuples(st.floats(0.001, 30), st.floats(0, 30)),
)
def test_the_relaxed_pool_is_never_worse_off_than_the_real_one_with_as_much_or_more_to_do(
    moment: Case, replicas: int, running: tuple[float, float], waiting_s: tuple[float, float]
) -> None:
    """Both that it is relaxed, and that what the grid leaves out when it rounds down can only help."""
    more = running[0] + running[1] * (SERVICE.slots - running[0]), sum(waiting_s)
    relaxed = relaxed_tick(moment, float(replicas), running[0], waiting_s[0])
    for state in ((running[0], waiting_s[0]), more):
        real = real_tick(moment, float(replicas), *state)
        assert all(mine <= its + 1e-6 * (1.0 + its) for mine, its in zip(relaxed, real, strict=True))


@settings(max_examples=100, deadline=None)
@given(
    took=st.lists(st.integers(1, 30), min_size=3, max_size=30),
    first=st.integers(0, 20),
    kept=st.lists(st.booleans(), min_size=1, max_size=40),
    likely=st.integers(0, 100),
)
def test_starts_that_join_cost_what_is_said_of_them_whatever_is_cancelled(
    took: list[int], first: int, kept: list[bool], likely: int
) -> None:
    each_s, less_s = start_cost(Terms(np.array(took), scored_from=20, first_replicas=1, max_replicas=1), likely)
    drawn_s = TICK_S * np.resize(np.array(took), first + len(kept))[first:]
    paid_s = np.where(kept, drawn_s, TICK_S).sum()
    assert paid_s >= sum(kept) * each_s - less_s - 1e-6


class Attempt:
    """Schedules whose late share falls with the price, and falls again by `jump` at one price; dearer as it falls."""

    def __init__(self, late_at_1: float, jump_at: float, jump: float) -> None:
        self.late_at_1, self.jump_at, self.jump = late_at_1, jump_at, jump
        self.prices: list[float] = []

    def __call__(self, price: float) -> Tried:
        self.prices.append(price)
        late = min(1.0, self.late_at_1 / price) * (self.jump if price >= self.jump_at else 1.0)
        return Tried(price, 0, Outcome(1.0 - late, 100.0 + price, 0, 0.0))


@pytest.mark.parametrize("first_price", [0.01, 1.0, 3.0, 500.0])
@pytest.mark.parametrize(
    ("attempt", "price"),
    [
        pytest.param(lambda: Attempt(0.03, 1e9, 1.0), 3.0, id="the share falls smoothly"),
        pytest.param(lambda: Attempt(0.3, 2.0, 0.01), 2.0, id="it jumps over the target"),
    ],
)
def test_a_search_ends_near_the_lowest_price_that_meets_the_target(
    attempt: Callable[[], Attempt], price: float, first_price: float
) -> None:
    found = search(attempt(), first_price)
    assert found.meets
    assert 0.999 * price <= found.price < 1.35 * price


def test_a_search_where_no_price_meets_the_target_ends_with_the_one_that_comes_nearest() -> None:
    never = Attempt(1e9, 1e9, 1.0)
    found = search(never, 1.0)
    assert not found.meets
    assert len(never.prices) < 4 * oracle.TRIES


def flat(ticks: int) -> FloatArray:
    return np.full(ticks * TICK_S, 5.0)


def test_what_a_start_takes_before_scoring_begins_is_not_paid() -> None:
    one = case(flat(10), cold_start_ticks=4, scored_from=5)
    early = run_schedule(one, np.array([1] * 6 + [2] * 4))  # ready a tick after scoring began
    late = run_schedule(one, np.array([1] * 9 + [2]))
    replica_ticks = [round(outcome.gpu_hours / one.gpu_hours_per_s / TICK_S) for outcome in (early, late)]
    assert replica_ticks == [1 + 8 + 1, 4 + 2 + 4]
