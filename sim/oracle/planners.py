"""Schedules that are run: from the price of a late request to replicas by tick, and what came of them in the pool."""

from typing import Final, Protocol

import numpy as np

from sim.fluid.load import FloatArray
from sim.fluid.pool import Terms
from sim.fluid.runs import Case, Outcome, run_schedule
from sim.fluid.service import TICK_S
from sim.oracle import forward
from sim.oracle.grids import for_plans, grid_of
from sim.oracle.plan import Band, schedule
from sim.oracle.relaxed import Grid, IntArray, demand_of

SIZES: Final = 130
"""Sizes of a fleet that schedules of a short load choose from, about."""

ROUGH: Final = 24
"""And first schedules of a long one."""

NARROWEST: Final = 7
"""Sizes between which a later schedule of a long load chooses, at least."""


class Planner(Protocol):
    """`first_price`: of a late request, where a search may begin."""

    first_price: float

    def plan(self, price: float) -> IntArray:
        """Replicas at each tick that is scored, for a price of a late request in replica-seconds."""
        ...


class Near:
    """Of short loads, in the real pool."""

    def __init__(self, case: Case) -> None:
        most = fixed(case, 1.0)
        self._case = case
        self._replicas = np.arange(1.0, most + 1.0, max(1, round(most / SIZES)))
        self.first_price = 25.0 * request_s(case)

    def plan(self, price: float) -> IntArray:
        prices = forward.Price(price, _start_s(self._case.terms))
        return forward.plan(self._case.world(), self._replicas, prices)


class Far:
    """Of long loads, in the relaxed pool: the first plan is a rough one, every other is made near the one before.

    The first price is a high one: a plan near one that serves a burst can let it go, but not the other way round.
    """

    def __init__(self, case: Case) -> None:
        self._case = case
        self._demand = demand_of(case.service, case.load)
        self._most = fixed(case, 1.0)
        self._step = max(1, round(self._most / ROUGH))
        self._grid = self._grid_of(np.arange(1.0, self._most + 1.0))
        self._before: IntArray | None = None
        self.first_price = 8.0 * request_s(case)

    def plan(self, price: float) -> IntArray:
        if self._before is None:
            grid = self._grid_of(np.arange(1.0, self._most + 1.0, self._step))
            ticks = self._case.load.ticks - self._case.terms.scored_from
            self._before = self._planned(grid, price, Band(np.zeros(ticks, np.int64), len(grid.replicas)))
        width = min(self._most, max(NARROWEST, self._step + 5))
        lowest = np.clip(self._before - 1 - width // 2, 0, self._most - width)
        self._before = self._planned(self._grid, price, Band(lowest, width))
        return self._before

    def _grid_of(self, replicas: FloatArray) -> Grid:
        return grid_of(replicas, for_plans(self._case.service.slots), by_replica=True, nearest=True)

    def _planned(self, grid: Grid, price: float, band: Band) -> IntArray:
        return schedule(self._case.world(), self._demand, grid, (price, _start_s(self._case.terms)), band)


def fixed(case: Case, share: float) -> int:
    """The smallest fleet that has this share on time without ever changing; the largest one where none has."""
    low, high = 1, case.terms.max_replicas
    while low < high:
        middle = (low + high) // 2
        low, high = (low, middle) if unchanged(case, middle).attainment >= share else (middle + 1, high)
    return low


def unchanged(case: Case, replicas: int) -> Outcome:
    return run_schedule(case, np.full(case.load.ticks, replicas))


def run_planned(case: Case, planned: IntArray) -> tuple[int, Outcome]:
    """Starts that are `planned` for the ticks that are scored, and what came of it; before, the fleet was the largest.

    So nothing waits when scoring begins.
    """
    since = case.terms.scored_from
    before = np.full(since, case.terms.max_replicas)
    before[max(0, since - 1) :] = planned[0]
    starts = int(np.maximum(np.diff(planned), 0).sum())
    return starts, run_schedule(case, np.concatenate((before, planned)))


def _start_s(terms: Terms) -> float:
    return float(terms.cold_starts.mean()) * TICK_S


def request_s(case: Case) -> float:
    """Work of a request, replica-seconds."""
    return float(case.load.work_sum[-1] / case.load.requests_sum[-1])
