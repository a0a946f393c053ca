"""The cheapest plan of the relaxed pool, for given prices: dynamic programming backwards in time.

A plan pays for every replica-second, for every start, for every drain, and a price for every late request. Its states
are (replicas, pair of x and Q); every replica may be started or removed at every tick.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from sim.fluid.jit import compiled, vectorised
from sim.fluid.load import FloatArray
from sim.fluid.pool import World, remove, serve
from sim.fluid.service import DRAIN_S, TICK_S
from sim.oracle.relaxed import Demand, Grid, IntArray, Moved, advance, pair_of, settle

Choices = NDArray[np.int16]


class Prices(NamedTuple):
    """By plan, equally long: `late` of a request, `start` of a replica, both in replica-seconds."""

    late: FloatArray
    start: FloatArray


class Costs(NamedTuple):
    """To the end, of each state at the beginning of a tick, (replicas, pairs).

    `here`: where it stays. `falling`: where it stays or goes down.
    """

    here: FloatArray
    falling: FloatArray


class Band(NamedTuple):
    """Sizes of a fleet that a schedule may have: `width` of them, from index `lowest` of the grid's on, by tick."""

    lowest: IntArray
    width: int


def cheapest(demand: Demand, grid: Grid, prices: Prices, since: int) -> FloatArray:
    """Replica-seconds from tick `since` on, by plan, late requests included at their price; any fleet may begin.

    With the most replicas of the grid nothing is ever late and nothing left over, so they stand for any larger fleet.
    """
    ahead = np.zeros((len(prices.late), len(grid.replicas), len(grid.running)))
    _backwards(demand, grid, prices, since, ahead)
    return np.asarray(ahead[:, :, 0].min(axis=1))


@compiled
def _backwards(demand: Demand, grid: Grid, prices: Prices, since: int, ahead: FloatArray) -> None:
    moved, costs = _moved(grid), _costs(grid)
    for tick in range(len(demand.prefill_s) - 1, since - 1, -1):
        advance(demand, grid, tick, moved)
        settle(demand, grid, tick, moved)
        moved.late[-1], moved.after[-1] = 0.0, 0
        for plan in range(len(prices.late)):
            stay(grid, prices.late[plan], moved, ahead[plan], costs)
            if tick > since:
                start = min(prices.start[plan], float((tick - since) * TICK_S))
                switch(grid, start, costs, ahead[plan])
            else:
                ahead[plan] = costs.here


@compiled
def _moved(grid: Grid) -> Moved:
    shape = (len(grid.replicas), len(grid.running))
    return Moved(np.empty(shape), np.empty(shape), np.empty(shape), np.empty(shape, np.int64))


@compiled
def _costs(grid: Grid) -> Costs:
    shape = (len(grid.replicas), len(grid.running))
    return Costs(np.empty(shape), np.empty(shape))


@vectorised
def stay(grid: Grid, price: float, moved: Moved, ahead: FloatArray, costs: Costs) -> None:
    """Out: `costs.here`, for states after switching; `ahead`: of states at the beginning of the next tick."""
    for r in range(len(grid.replicas)):
        paid = TICK_S * grid.replicas[r]
        for g in range(len(grid.running)):
            costs.here[r, g] = paid + price * moved.late[r, g] + ahead[r, moved.after[r, g]]


@vectorised
def switch(grid: Grid, start: float, costs: Costs, best: FloatArray) -> None:
    """Out: `best`, the cost of each state before switching: stay, or go down, or go up replica by replica.

    And `costs.falling`. Down: x stays, since what is in service leaves with its replica. Up: it is diluted.
    """
    here, falling = costs.here, costs.falling
    count, pairs = len(grid.replicas), len(grid.running)
    for g in range(pairs):
        falling[0, g] = here[0, g]
        best[count - 1, g] = here[count - 1, g]
    for r in range(1, count):
        cost = DRAIN_S * (grid.replicas[r] - grid.replicas[r - 1])
        for g in range(pairs):
            falling[r, g] = min(here[r, g], falling[r - 1, grid.left[r, g]] + cost)
    for r in range(count - 2, -1, -1):
        cost = start * (grid.replicas[r + 1] - grid.replicas[r])
        for g in range(pairs):
            best[r, g] = min(here[r, g], best[r + 1, grid.joined[r, g]] + cost)
    for r in range(count):
        for g in range(pairs):
            best[r, g] = min(best[r, g], falling[r, g])


def schedule(world: World, demand: Demand, grid: Grid, price: tuple[float, float], band: Band) -> IntArray:
    """Replicas at each tick that is scored. `price`: of a late request, of a start. `world` is written over."""
    since = world.terms.scored_from
    choices = np.zeros((len(demand.prefill_s) - since, band.width, len(grid.running)), np.int16)
    first = _choose(demand, grid, price, band, choices)
    return np.asarray(_follow(world, grid, band.lowest, choices, first))


@compiled
def _choose(demand: Demand, grid: Grid, price: tuple[float, float], band: Band, choices: Choices) -> int:
    """Out: `choices`, index of the replicas to go to from each state at each tick. The index to begin with."""
    since = len(demand.prefill_s) - len(choices)
    here = _part(grid, band, 0)
    moved, costs, best = _moved(here), _costs(here), _costs(here).here
    ahead = np.zeros_like(best)
    for i in range(len(choices) - 1, -1, -1):
        here = _part(grid, band, i)
        advance(demand, here, since + i, moved)
        settle(demand, here, since + i, moved)
        stay(here, price[0], moved, ahead, costs)
        start = min(price[1], float(i * TICK_S))
        switch(here, start, costs, best)
        _directions(here, costs, best, choices[i])
        choices[i] += band.lowest[i]
        if i > 0:
            ahead = _shift(grid, band, i, start, best)
    return int(band.lowest[0] + np.argmin(costs.here[:, 0]))


@compiled
def _part(grid: Grid, band: Band, i: int) -> Grid:
    """Of `grid`, the sizes of a tick."""
    low, high = band.lowest[i], band.lowest[i] + band.width
    return Grid(
        grid.replicas[low:high],
        grid.unit[low:high],
        grid.running,
        grid.waiting,
        grid.joined[low:high],
        grid.left[low:high],
        grid.running_step,
        grid.waiting_scale,
        grid.widening,
        grid.pair_at,
        grid.rounding,
    )


@compiled
def _shift(grid: Grid, band: Band, i: int, start: float, best: FloatArray) -> FloatArray:
    """From `best`, of the sizes of tick i, to those of the tick before; one that is outside goes to the edge."""
    low, before = band.lowest[i], band.lowest[i - 1]
    ahead = np.empty_like(best)
    for r in range(band.width):
        for g in range(len(grid.running)):
            size, pair, cost = before + r, g, 0.0
            while size < low:
                cost += start * (grid.replicas[size + 1] - grid.replicas[size])
                pair = grid.joined[size, pair]
                size += 1
            while size >= low + band.width:
                cost += DRAIN_S * (grid.replicas[size] - grid.replicas[size - 1])
                pair = grid.left[size, pair]
                size -= 1
            ahead[r, g] = best[size - low, pair] + cost
    return ahead


@compiled
def _directions(grid: Grid, costs: Costs, best: FloatArray, choice: Choices) -> None:
    """Out: `choice`, index of the replicas to go to from each state."""
    falling = costs.falling
    count, pairs = len(grid.replicas), len(grid.running)
    for r in range(count):
        for g in range(pairs):
            if best[r, g] < falling[r, g]:
                choice[r, g] = -1  # up, as is said below
            elif r == 0 or costs.here[r, g] <= falling[r, g]:
                choice[r, g] = r
            else:  # down: as far as the next one goes; one that would go up again is where to stay
                lower = choice[r - 1, grid.left[r, g]]
                choice[r, g] = lower if lower >= 0 else r - 1
    for r in range(count - 2, -1, -1):  # up: as far as the next one goes, unless that one is to stay
        for g in range(pairs):
            if choice[r, g] == -1:
                choice[r, g] = max(r + 1, choice[r + 1, grid.joined[r, g]])


@compiled
def _follow(world: World, grid: Grid, lowest: IntArray, choices: Choices, first: int) -> IntArray:
    """In the real pool, empty at first."""
    now, since = world.pool.now[0], world.terms.scored_from
    now.ready, now.running, now.admitted = grid.replicas[first], 0.0, world.load.work_sum[since * TICK_S]
    chosen = np.empty(len(choices), np.int64)
    at = first
    for i in range(len(choices)):
        tick = since + i
        if i > 0:
            waiting = world.load.work_sum[tick * TICK_S] - now.admitted
            inside = min(max(at, lowest[i]), lowest[i] + choices.shape[1] - 1)
            running = now.running / max(now.ready, grid.replicas[inside])
            at = int(choices[i, inside - lowest[i], pair_of(grid, running, waiting / grid.unit[inside])])
            if grid.replicas[at] < now.ready:
                remove(world, tick, now.ready - grid.replicas[at])
            now.ready = grid.replicas[at]
        chosen[i] = int(grid.replicas[at])
        serve(world, tick)
    return chosen
