"""The cheapest plan of the relaxed pool, for given prices: dynamic programming backwards in time.

A plan pays for every replica-second, for every start, for every drain, and a price for every late request. Its states
are (replicas, level of work in the pool); every replica may be started or removed at every tick.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from sim.fluid.jit import compiled, vectorised
from sim.fluid.load import FloatArray
from sim.fluid.service import DRAIN_S, TICK_S
from sim.oracle.relaxed import Demand, Grid, IntArray, Moved, advance, after_tick, level_of, settle

Choices = NDArray[np.int16]


class Prices(NamedTuple):
    """By plan, equally long: `late` of a request, `start` of a replica, both in replica-seconds."""

    late: FloatArray
    start: FloatArray


class Costs(NamedTuple):
    """To the end, of each state at the beginning of a tick, (replicas, levels).

    `here`: where it stays. `falling`: where it stays or goes down.
    """

    here: FloatArray
    falling: FloatArray


def cheapest(demand: Demand, grid: Grid, prices: Prices, since: int) -> FloatArray:
    """Replica-seconds from tick `since` on, by plan, late requests included at their price; any fleet may begin."""
    ahead = np.zeros((len(prices.late), len(grid.replicas), len(grid.levels)))
    _backwards(demand, grid, prices, since, ahead)
    return np.asarray(ahead[:, :, 0].min(axis=1))


@compiled
def _backwards(demand: Demand, grid: Grid, prices: Prices, since: int, ahead: FloatArray) -> None:
    shape = (len(grid.replicas), len(grid.levels))
    moved = Moved(np.empty(shape), np.empty(shape), np.empty(shape, np.int64))
    costs = Costs(np.empty(shape), np.empty(shape))
    for tick in range(len(demand.slot_s) - 1, since - 1, -1):
        advance(demand, grid, tick, moved)
        settle(demand, grid, tick, moved)
        for plan in range(len(prices.late)):
            stay(grid, prices.late[plan], moved, ahead[plan], costs)
            if tick > since:
                start = min(prices.start[plan], float((tick - since) * TICK_S))
                switch(grid, start, costs, ahead[plan])
            else:
                ahead[plan] = costs.here


@vectorised
def stay(grid: Grid, price: float, moved: Moved, ahead: FloatArray, costs: Costs) -> None:
    """Out: `costs.here`, for states after switching; `ahead`: of states at the beginning of the next tick."""
    for r in range(len(grid.replicas)):
        paid = TICK_S * grid.replicas[r]
        for g in range(len(grid.levels)):
            costs.here[r, g] = paid + price * moved.late[r, g] + ahead[r, moved.after[r, g]]


@vectorised
def switch(grid: Grid, start: float, costs: Costs, best: FloatArray) -> None:
    """Out: `best`, the cost of each state before switching: stay, or go down, or go up replica by replica.

    And `costs.falling`. Down: the level stays, since work leaves with its replica. Up: it is diluted.
    """
    here, falling = costs.here, costs.falling
    count, levels = len(grid.replicas), len(grid.levels)
    for g in range(levels):
        falling[0, g] = here[0, g]
        best[count - 1, g] = here[count - 1, g]
    for r in range(1, count):
        for g in range(levels):
            falling[r, g] = min(here[r, g], falling[r - 1, g] + DRAIN_S)
    for r in range(count - 2, -1, -1):
        for g in range(levels):
            best[r, g] = min(here[r, g], best[r + 1, grid.diluted[r, g]] + start)
    for r in range(count):
        for g in range(levels):
            best[r, g] = min(best[r, g], falling[r, g])


def schedule(demand: Demand, grid: Grid, prices: Prices, since: int) -> IntArray:
    """Replicas at each tick from `since` on, of the first plan of `prices`."""
    shape = (len(demand.slot_s) - since, len(grid.replicas), len(grid.levels))
    choices = np.zeros(shape, np.int16)
    first = _choose(demand, grid, prices, since, choices)
    return _follow(demand, grid, since, choices, first)


@compiled
def _choose(demand: Demand, grid: Grid, prices: Prices, since: int, choices: Choices) -> int:
    """Out: `choices`, index of the replicas to go to from each state at each tick. The index to begin with."""
    shape = (len(grid.replicas), len(grid.levels))
    moved = Moved(np.empty(shape), np.empty(shape), np.empty(shape, np.int64))
    costs, ahead = Costs(np.empty(shape), np.empty(shape)), np.zeros(shape)
    for tick in range(len(demand.slot_s) - 1, since - 1, -1):
        advance(demand, grid, tick, moved)
        settle(demand, grid, tick, moved)
        stay(grid, prices.late[0], moved, ahead, costs)
        start = min(prices.start[0], float((tick - since) * TICK_S))
        switch(grid, start, costs, ahead)
        _directions(grid, costs, ahead, choices[tick - since])
    return int(np.argmin(costs.here[:, 0]))


@compiled
def _directions(grid: Grid, costs: Costs, best: FloatArray, choice: Choices) -> None:
    """Out: `choice`, index of the replicas to go to from each state."""
    here, falling = costs.here, costs.falling
    count, levels = len(grid.replicas), len(grid.levels)
    lowest = np.zeros(levels, np.int16)  # where to go down to from here
    for r in range(count):
        for g in range(levels):
            if r == 0 or here[r, g] <= falling[r - 1, g] + DRAIN_S:
                lowest[g] = r
            if best[r, g] >= falling[r, g]:
                choice[r, g] = lowest[g]
            else:
                choice[r, g] = -1
    for r in range(count - 2, -1, -1):
        for g in range(levels):
            if choice[r, g] < 0:  # up: as far as the next one goes, unless that one is to stay
                target = choice[r + 1, grid.diluted[r, g]]
                choice[r, g] = max(r + 1, target)


@compiled
def _follow(demand: Demand, grid: Grid, since: int, choices: Choices, first: int) -> IntArray:
    ticks = len(choices)
    chosen = np.empty(ticks, np.int64)
    at, content = first, 0.0
    for i in range(ticks):
        tick = since + i
        if i > 0:
            target = int(choices[i, at, level_of(grid, content, at + 1.0)])
            if target < at:
                content -= (at - target) * min(demand.slot_s[tick], content / (at + 1))
            at = target
        chosen[i] = at + 1
        content = after_tick(demand, tick, float(at + 1), content)
    return chosen
