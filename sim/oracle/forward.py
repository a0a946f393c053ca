"""The cheapest plan in the real pool, for given prices: dynamic programming forwards in time, for short loads.

States that look alike, as many replicas and about as much work in the pool, share a cell; of each cell the cheapest way
is kept, with the very state that it leads to. So what it costs is what it costs in `sim.fluid.pool`; that no other way
is cheaper is likely, not proved.
"""

from math import log
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from sim.fluid.jit import compiled
from sim.fluid.load import FloatArray
from sim.fluid.pool import World, serve
from sim.fluid.service import DRAIN_S, TICK_S
from sim.oracle.relaxed import IntArray

Origins = NDArray[np.int32]

LEVELS: Final = 40
FIRST_S: Final = 0.05
WIDER: Final = log(1.2)
"""Levels: work in the pool in seconds of all replicas; the first ends at `FIRST_S`, each next one is a fifth wider."""


class State(NamedTuple):
    """`replicas` and what `sim.fluid.pool` knows of them."""

    replicas: float
    running: float
    admitted: float


class Cells(NamedTuple):
    """By (size of the fleet, level): `cost` so far, infinite where nothing is; `running` and `admitted` as in the pool.

    `replicas`: by size. `origin`: the cell in which the tick before ended, as one number.
    """

    replicas: FloatArray
    cost: FloatArray
    running: FloatArray
    admitted: FloatArray
    origin: Origins


class Price(NamedTuple):
    """`late` of a request, `start` of a replica, both in replica-seconds."""

    late: float
    start: float


def plan(world: World, replicas: FloatArray, price: Price) -> IntArray:
    """Replicas at each tick that is scored, out of `replicas`, which ascend. `world` is written over."""
    origins = np.zeros((len(world.load.prefill_s) - world.terms.scored_from, len(replicas), LEVELS), np.int32)
    at = int(_forwards(world, replicas, price, origins))
    chosen = np.empty(len(origins), np.int64)
    for i in range(len(origins) - 1, -1, -1):
        chosen[i] = replicas[at // LEVELS]
        at = int(origins[i, at // LEVELS, at % LEVELS])
    return chosen


@compiled
def _forwards(world: World, replicas: FloatArray, price: Price, origins: Origins) -> int:
    """Out: `origins` of the cells after each tick. The cheapest cell at the end."""
    here, there, falling = _cells(replicas), _cells(replicas), _cells(replicas)
    since = world.terms.scored_from
    here.cost[:, 0] = 0.0
    here.admitted[:, 0] = world.load.work_sum[since * TICK_S]
    for i in range(len(origins)):
        for r in range(len(replicas)):
            for level in range(LEVELS):
                here.origin[r, level] = r * LEVELS + level
        if i > 0:
            falling.cost[:], falling.running[:] = here.cost, here.running
            falling.admitted[:], falling.origin[:] = here.admitted, here.origin
            _rise(world, min(price.start, float(i * TICK_S)), since + i, here)
            _fall(world, since + i, falling)
            _join(here, falling)
        there.cost[:] = np.inf
        _serve(world, price.late, since + i, here, there)
        origins[i] = there.origin
        here, there = there, here
    return int(np.argmin(here.cost))


@compiled
def _cells(replicas: FloatArray) -> Cells:
    shape = (len(replicas), LEVELS)
    return Cells(replicas, np.full(shape, np.inf), np.zeros(shape), np.zeros(shape), np.zeros(shape, np.int32))


@compiled
def _offer(cells: Cells, to: tuple[int, int], state: State, cost: float, origin: int) -> None:
    """One more way to the cell `to`."""
    if cost < cells.cost[to]:
        cells.cost[to], cells.origin[to] = cost, origin
        cells.running[to], cells.admitted[to] = state.running, state.admitted


@compiled
def _level(world: World, tick: int, second: int, state: State) -> int:
    """When `second` begins."""
    service = world.service
    decode_s = (service.base_s + service.per_sequence_s * service.slots) / service.slots
    waiting_s = world.load.work_sum[second] - state.admitted
    content_s = (waiting_s + state.running * world.load.output_tokens[tick] * decode_s) / state.replicas
    return min(LEVELS - 1, 1 + int(log(content_s / FIRST_S) / WIDER)) if content_s > FIRST_S else 0


@compiled
def _rise(world: World, start: float, tick: int, cells: Cells) -> None:
    """From each cell on, one step after the other."""
    for r in range(len(cells.replicas) - 1):
        more = start * (cells.replicas[r + 1] - cells.replicas[r])
        for g in range(LEVELS):
            if cells.cost[r, g] < np.inf:
                state = State(cells.replicas[r + 1], cells.running[r, g], cells.admitted[r, g])
                to = (r + 1, _level(world, tick, tick * TICK_S, state))
                _offer(cells, to, state, cells.cost[r, g] + more, cells.origin[r, g])


@compiled
def _fall(world: World, tick: int, cells: Cells) -> None:
    """From each cell down; a replica takes what runs there with it."""
    for r in range(len(cells.replicas) - 1, 0, -1):
        fewer = cells.replicas[r - 1]
        more = DRAIN_S * (cells.replicas[r] - fewer)
        for g in range(LEVELS):
            if cells.cost[r, g] < np.inf:
                state = State(fewer, cells.running[r, g] * fewer / cells.replicas[r], cells.admitted[r, g])
                to = (r - 1, _level(world, tick, tick * TICK_S, state))
                _offer(cells, to, state, cells.cost[r, g] + more, cells.origin[r, g])


@compiled
def _join(here: Cells, others: Cells) -> None:
    """Out: `here`, of both the better."""
    for r in range(len(here.replicas)):
        for g in range(LEVELS):
            state = State(here.replicas[r], others.running[r, g], others.admitted[r, g])
            _offer(here, (r, g), state, others.cost[r, g], others.origin[r, g])


@compiled
def _serve(world: World, price: float, tick: int, here: Cells, there: Cells) -> None:
    """Out: `there`, after the tick."""
    now = world.pool.now[0]
    for r in range(len(here.replicas)):
        for g in range(LEVELS):
            if here.cost[r, g] < np.inf:
                now.ready, now.late = here.replicas[r], 0.0
                now.running, now.admitted = here.running[r, g], here.admitted[r, g]
                serve(world, tick)
                state = State(now.ready, now.running, now.admitted)
                to = (r, _level(world, tick, (tick + 1) * TICK_S, state))
                cost = here.cost[r, g] + TICK_S * here.replicas[r] + price * now.late
                _offer(there, to, state, cost, here.origin[r, g])
