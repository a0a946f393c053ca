"""Two bounds on the cheapest schedule with enough requests on time: one that nobody can beat, one that was run.

From below: for every price on late requests, (cheapest plan of the relaxed pool) - price x (late requests allowed) is a
lower bound (Lagrangian duality), for every policy that meets the target in `sim.fluid.pool`. From above: plans for a
series of prices, each run through the pool; the cheapest that meets the target there.
"""

from collections.abc import Callable
from math import log
from typing import Final, NamedTuple

import numpy as np

from sim.fluid.load import FloatArray
from sim.fluid.pool import Terms
from sim.fluid.runs import Case, Outcome
from sim.fluid.service import TICK_S
from sim.oracle.grids import by_budget, by_slots, fed_by_budget, grid_of
from sim.oracle.plan import Prices, cheapest
from sim.oracle.planners import Far, Near, fixed, request_s, run_planned, unchanged
from sim.oracle.relaxed import demand_of

TARGET: Final = 0.99
"""Share of requests on time."""

SHORT: Final = 5760
"""Ticks of a day. Shorter loads are planned in the real pool, longer ones in the relaxed one."""

TRIES: Final = 7
"""Schedules tried before the best is taken; more where none has met the target yet."""

PRICES: Final = (0.7, 1.0, 1.4, 2.0)
"""Prices of a late request tried for the lower bound, in parts of that of the best schedule, or of the least one."""

LEAST: Final = 1.8
"""That least one, in parts of a request's own work: with less, plans of the relaxed pool would rather be late."""

LOWEST: Final = 1e-4
HIGHEST: Final = 1e4
"""Prices that are tried at all, in replica-seconds."""

NEAREST: Final = 0.003
"""Where two prices, one that misses the target and one that meets it, are so near, in parts, nothing is between."""

EDGE: Final = 0.2
"""How near, in parts of what lies between them, the next price may come to one that was tried."""

NEVER_LATE: Final = 0.9997
"""Share on time with which a fixed fleet is large enough, in the lower bound, to stand for all larger ones."""

MANY: Final = 30
FINENESS: Final = {False: (25, 24), True: (21, 20)}
"""Levels of x and of Q for the lower bound where slots limit, by whether more than `MANY` replicas can be of use."""

START_SHARES: Final = (1.0, 0.995, 0.99, 0.98, 0.97, 0.96, 0.95, 0.94, 0.92, 0.9, 0.88, 0.85, 0.8, 0.7, 0.6)
"""Costs of a start tried for the lower bound, as shares of the mean cold start."""


class Tried(NamedTuple):
    """What came of one price: `starts` of replicas that were planned, and how the plan did in the pool."""

    price: float
    starts: int
    outcome: Outcome

    @property
    def late(self) -> float:
        """Share of requests."""
        return max(1e-6, 1.0 - self.outcome.attainment)

    @property
    def meets(self) -> bool:
        return self.outcome.attainment >= TARGET

    @property
    def rank(self) -> tuple[bool, float]:
        return not self.meets, self.outcome.gpu_hours if self.meets else self.late


def bounds(case: Case) -> tuple[Outcome, float | None]:
    """The outcome of the cheapest schedule found that meets the target, and a lower bound on its GPU-hours.

    Where even the largest fleet misses the target, the schedule is that fleet and there is no bound.
    """
    best = unchanged(case, fixed(case, TARGET))
    if best.attainment < TARGET:
        return best, None
    planner = Near(case) if case.load.ticks <= SHORT else Far(case)
    tried = search(lambda price: Tried(price, *run_planned(case, planner.plan(price))), planner.first_price)
    if tried.meets and tried.outcome.gpu_hours < best.gpu_hours:
        best = tried.outcome
    prices = max(tried.price, LEAST * request_s(case)) * np.array(PRICES)
    return best, min(lower_bound(case, prices, tried.starts), best.gpu_hours)


def search(attempt: Callable[[float], Tried], first_price: float) -> Tried:
    """The best of a series of prices.

    The share that is late falls with the price, about linearly if both are logarithms: regula falsi.
    """
    below: Tried | None = None  # misses the target
    above: Tried | None = None  # meets it
    best = tried = attempt(first_price)
    for number in range(2, 4 * TRIES):
        below, above = (below, tried) if tried.meets else (tried, above)
        price = _next_price(below, above)
        near = below is not None and above is not None and above.price < below.price * (1.0 + NEAREST)
        if near or not LOWEST < price < HIGHEST or (number > TRIES and above is not None):
            break
        tried = attempt(price)
        best = min(best, tried, key=lambda one: one.rank)
    return best


def _next_price(below: Tried | None, above: Tried | None) -> float:
    if above is None:
        return below.price * min(8.0, max(1.3, below.late / (1.0 - TARGET))) if below is not None else 1.0
    if below is None:
        return above.price * max(1 / 8, min(1 / 1.3, above.late / (1.0 - TARGET)))
    part = log((1.0 - TARGET) / below.late) / log(above.late / below.late)
    return float(below.price * (above.price / below.price) ** min(1.0 - EDGE, max(EDGE, part)))


def lower_bound(case: Case, prices: FloatArray, starts: int) -> float:
    """In GPU-hours; the best that one of `prices`, of a late request in replica-seconds, gives.

    `starts`: about so many does the cheapest plan need; any number is valid.
    """
    demand, slots = demand_of(case.service, case.load), case.service.slots
    most, by_replica = fixed(case, NEVER_LATE), fed_by_budget(demand) > slots
    levels = by_slots(slots, *FINENESS[most > MANY]) if by_replica else by_budget(slots, most)
    grid = grid_of(np.arange(1.0, most + 2.0), levels, by_replica=by_replica)
    cost_s, error_s = start_cost(case.terms, starts)
    costs = cheapest(demand, grid, Prices(prices, np.full(len(prices), cost_s)), case.terms.scored_from)
    allowed = (1.0 - TARGET) * case.asked
    return max(0.0, float((costs - prices * allowed).max()) - error_s) * case.gpu_hours_per_s


def start_cost(terms: Terms, likely: int) -> tuple[float, float]:
    """(l, d): whatever a policy starts once scoring has begun, m replicas that join cost m l - d seconds at least.

    Starts come off a list in its order. One that is cancelled, to draw a better one, is paid for a tick at least.
    Before scoring begins at most `max_replicas` starts a tick can have been drawn. Of the pairs tried, all of which are
    valid, the best for `likely` starts.
    """
    took_s = terms.cold_starts.astype(np.float64) * TICK_S
    drawn = min(len(took_s), terms.scored_from * terms.max_replicas)
    pairs = [(float(took_s.min()), 0.0)]
    for cost_s in (share * float(took_s.mean()) for share in START_SHARES):
        over_s = np.minimum(took_s - cost_s, float(TICK_S))
        sums = np.cumsum(np.concatenate(([0.0], np.tile(over_s, 2))))  # the list repeats itself
        if sums[len(took_s)] >= 0.0:
            least = np.minimum.accumulate(sums[::-1])[::-1]  # of those that follow
            pairs.append((cost_s, float((sums - least)[: drawn + 1].max())))
    return max(pairs, key=lambda pair: likely * pair[0] - pair[1])
