"""Two bounds on the cheapest schedule with enough requests on time: one that nobody can beat, one that was run.

From below: for every price on late requests, (cheapest plan of the relaxed pool) - price x (late requests allowed) is a
lower bound (Lagrangian duality), for every policy that meets the target in `sim.fluid.pool`. From above: plans for a
series of prices, each run through the pool; the cheapest that meets the target there.
"""

from collections.abc import Callable
from math import log
from typing import Final

import numpy as np

from sim.fluid.load import FloatArray
from sim.fluid.pool import Terms
from sim.fluid.runs import Case, Outcome, run_schedule
from sim.fluid.service import TICK_S
from sim.oracle.plan import Prices, cheapest, schedule
from sim.oracle.relaxed import Demand, Grid, demand_of, grid_of, late_with

TARGET: Final = 0.99
"""Share of requests on time."""

SLACK: Final = (1.0, 0.99, 0.97, 0.94, 0.9, 0.8, 0.6)
"""Start costs tried for the lower bound, as shares of the mean cold start."""

PRICES: Final = (0.04, 0.08, 0.15, 0.3, 0.6, 1.2, 2.5)
"""Prices of a late request tried for the lower bound, in parts of `_scale`."""

MARGINS: Final = (1.0, 1.01, 1.02, 1.04, 1.08)
"""Where no price leads to a schedule that meets the target, the plan is made for so much more work."""

FINENESS: Final = ((24, 28, 12), (100, 24, 10), (1 << 30, 20, 7))
"""By the most replicas: fineness of states for the lower bound and for schedules; finer is better and slower."""

SEARCHES: Final = 5
"""Schedules tried before the best is taken; more where none has met the target yet."""

MOST_SEARCHES: Final = 14
SHORT: Final = 5760
"""Ticks of a day. Of a shorter load a schedule may use every replica there may be, and every price is tried; of a
longer one that takes too long."""
HIGHEST_PRICE: Final = 100.0
"""In parts of `_scale`."""


def enough(case: Case, demand: Demand) -> int:
    """Replicas with which no request is late in the relaxed pool, if there may be so many: more are of no use there."""
    low, high = 1, case.terms.max_replicas
    while low < high:
        middle = (low + high) // 2
        never = late_with(demand, float(middle), case.terms.scored_from) <= 0.0
        low, high = (low, middle) if never else (middle + 1, high)
    return low


def bounds(case: Case) -> tuple[Outcome, float | None]:
    """The outcome of the cheapest schedule found that meets the target, and a lower bound on its GPU-hours.

    Where even the largest fleet misses the target, the schedule is that fleet and there is no bound.
    """
    demand = demand_of(case.service, case.load)
    most = enough(case, demand)
    fine, coarse = next((fine, coarse) for limit, fine, coarse in FINENESS if most <= limit)
    short = case.load.ticks <= SHORT
    widest = case.terms.max_replicas if short else min(case.terms.max_replicas, most + most // 8)
    found = _constant(case)
    for margin in MARGINS:
        more = demand._replace(work=demand.work * margin, prefill=demand.prefill * margin)
        planned = _clairvoyant(case, more, grid_of(more, max(most, widest), coarse, rounding=0.5), short=short)
        found = _cheaper(planned, found)
        if planned.attainment >= TARGET:
            break
    if found.attainment < TARGET:
        return found, None
    prices = _scale(case) * (np.geomspace(1e-3, 1e3, 25) if short else np.array(PRICES))
    return found, min(_lower(case, demand, grid_of(demand, most, fine), prices), found.gpu_hours)


def _cheaper(one: Outcome, other: Outcome) -> Outcome:
    """Of two outcomes the better: one that meets the target, then the cheaper."""
    return min(one, other, key=_rank)


def _rank(outcome: Outcome) -> tuple[bool, float]:
    meets = outcome.attainment >= TARGET
    return not meets, outcome.gpu_hours if meets else -outcome.attainment


def _scale(case: Case) -> float:
    """Ten replica-seconds for a second of late work: about what the last per cent costs."""
    return 10.0 * float(case.load.work_sum[-1] / case.load.requests_sum[-1])


def _constant(case: Case) -> Outcome:
    """The smallest fleet that meets the target without ever changing; the largest one where none does."""
    low, high = 1, case.terms.max_replicas
    while low < high:
        middle = (low + high) // 2
        meets = run_schedule(case, np.full(case.load.ticks, middle)).attainment >= TARGET
        low, high = (low, middle) if meets else (middle + 1, high)
    return run_schedule(case, np.full(case.load.ticks, low))


def _lower(case: Case, demand: Demand, grid: Grid, prices: FloatArray) -> float:
    cost, error = _start_cost(case.terms, case.load.ticks)
    costs = cheapest(demand, grid, Prices(prices, np.full(len(prices), cost)), case.terms.scored_from)
    return max(0.0, float((costs - prices * (1.0 - TARGET) * case.asked).max()) - error) * case.gpu_hours_per_s


def _start_cost(terms: Terms, ticks: int) -> tuple[float, float]:
    """(l, d) such that any m starts in a row take at least m l - d seconds in all, whatever m."""
    took_s = terms.cold_starts.astype(np.float64) * TICK_S
    likely = 0.01 * ticks  # only a guess of m, to choose between pairs that are all valid
    pairs = [(float(took_s.min()), 0.0)]
    for cost in (share * float(took_s.mean()) for share in SLACK):
        sums = np.cumsum(np.concatenate(([0.0], cost - np.tile(took_s, 2))))  # the list of starts repeats itself
        if sums[len(took_s)] <= 0.0:
            pairs.append((cost, float((sums - np.minimum.accumulate(sums)).max())))
    return max(pairs, key=lambda pair: likely * pair[0] - pair[1])


def _clairvoyant(case: Case, demand: Demand, grid: Grid, *, short: bool) -> Outcome:
    """The best outcome of a series of prices of a late request.

    Over a long load the share that is late falls about linearly with the price, both in logarithms: regula falsi. Over
    a short one it jumps: all prices are tried.
    """
    since = case.terms.scored_from
    start = np.array([float(case.terms.cold_starts.mean()) * TICK_S])

    def tried(price: float) -> Outcome:
        planned = schedule(demand, grid, Prices(np.array([price]), start), since)
        before = np.full(since, case.terms.max_replicas)
        before[max(0, since - 1) :] = planned[0]
        return run_schedule(case, np.concatenate((before, planned)))

    if short:
        return min((tried(price) for price in _scale(case) * np.geomspace(0.03, 1e4, 24)), key=_rank)
    return _searched(tried, _scale(case))


def _searched(tried: Callable[[float], Outcome], scale: float) -> Outcome:
    below: tuple[float, float] | None = None  # (price, late share) that misses the target
    above: tuple[float, float] | None = None  # and that meets it
    price = scale
    best = outcome = tried(price)
    for search in range(MOST_SEARCHES):
        pair = price, max(1e-6, 1.0 - outcome.attainment)
        below, above = (below, pair) if outcome.attainment >= TARGET else (pair, above)
        price = _next_price(below, above)
        if price > HIGHEST_PRICE * scale or (search >= SEARCHES and best.attainment >= TARGET):
            break
        outcome = tried(price)
        best = _cheaper(outcome, best)
    return best


def _next_price(below: tuple[float, float] | None, above: tuple[float, float] | None) -> float:
    """`below`, `above`: (price, late share) of a schedule that misses the target, and of one that meets it."""
    if below is None or above is None:
        price, late = below or above or (1.0, 1.0 - TARGET)
        factor = (late / (1.0 - TARGET)) ** 2
        return price * (min(16.0, max(1.4, factor)) if above is None else max(1 / 16, min(1 / 1.4, factor)))
    part = log((1.0 - TARGET) * 0.998 / below[1]) / log(above[1] / below[1])
    return float(below[0] * (above[0] / below[0]) ** min(0.95, max(0.05, part)))
