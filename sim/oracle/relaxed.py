"""A pool that is never worse than the real one, small enough to plan with.

Its state is that of `sim.fluid.pool`: x, sequences in service by replica, and Q, the work that waits, in
replica-seconds. A second is what `sim.fluid.pool.admission` makes of it, with what is not certain taken from the cheap
side: series for the exponentials, cut off there, and for what stays in service the token budget that a full batch
leaves. More of x or Q at the beginning of a second is never less of either at its end, nor fewer late requests: so a
grid that rounds states down keeps the cost of a plan a lower bound.
"""

from math import log1p
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from sim.fluid.jit import compiled, vectorised
from sim.fluid.load import FloatArray, Load
from sim.fluid.service import TICK_S, Service

IntArray = NDArray[np.int64]


class Demand(NamedTuple):
    """What the relaxed pool needs of a load. By second: `work`, and `lateness`, requests for each second of work."""

    service: Service
    work: FloatArray
    lateness: FloatArray
    prefill_s: FloatArray
    output_tokens: FloatArray


class Grid(NamedTuple):
    """States of a plan: `replicas`, ascending, and pairs of x, `running`, and Q in `unit`s, `waiting`.

    `unit`: by replicas, in replica-seconds. `joined`, `left`: (replicas, pairs), the pair after one step of `replicas`
    up or down. The k-th level of x is k `running_step`, that of Q is `waiting_scale` (e^(k `widening`) - 1); `pair_at`
    has the pair of (level of Q, level of x). `rounding`: 0 down, for bounds; 0.5 to the nearest, for schedules.
    """

    replicas: FloatArray
    unit: FloatArray
    running: FloatArray
    waiting: FloatArray
    joined: IntArray
    left: IntArray
    running_step: float
    waiting_scale: float
    widening: float
    pair_at: IntArray
    rounding: float


class Moved(NamedTuple):
    """Where a tick leads from every state, (replicas, pairs): x, Q by replica, requests that become late, pair after.

    Q is in requests.
    """

    running: FloatArray
    waiting: FloatArray
    late: FloatArray
    after: IntArray


def demand_of(service: Service, load: Load) -> Demand:
    work = np.diff(load.work_sum)
    lateness = np.where(work > 0.0, load.requests / np.where(work > 0.0, work, 1.0), 0.0)
    return Demand(service, work, lateness, load.prefill_s, load.output_tokens)


@vectorised
def advance(demand: Demand, grid: Grid, tick: int, moved: Moved) -> None:
    """One tick from every state. Out: `moved`, but for `moved.after`."""
    service = demand.service
    slots, budget = service.slots, service.budget_tokens
    prefill_s, output_tokens = demand.prefill_s[tick], demand.output_tokens[tick]
    request_s = prefill_s + output_tokens * (service.base_s + service.per_sequence_s * slots) / slots
    smallest_s = (budget - slots) * service.prefill_s
    fewest = smallest_s / (service.base_s + service.per_sequence_s * slots + smallest_s) / prefill_s
    pairs = len(grid.running)
    for r in range(len(grid.replicas)):
        replicas = grid.replicas[r]
        running, waiting, late = moved.running[r], moved.waiting[r], moved.late[r]
        for i in range(pairs):
            running[i] = grid.running[i]
            waiting[i] = grid.waiting[i] * grid.unit[r] / (replicas * request_s)
            late[i] = 0.0
        for second in range(tick * TICK_S, (tick + 1) * TICK_S):
            arrived = demand.work[second] / (replicas * request_s)
            before = demand.work[second - 1] / (replicas * request_s) if second > 0 else 0.0
            lateness = demand.lateness[second - 1] * replicas * request_s if second > 0 else 0.0
            for i in range(pairs):
                due = waiting[i] + arrived
                iteration_s = service.base_s + service.per_sequence_s * min(slots, running[i] + due)
                chunk_s = (budget - min(slots, running[i] + due)) * service.prefill_s
                by_budget = chunk_s / ((iteration_s + chunk_s) * prefill_s)
                alone_s = iteration_s * output_tokens
                end = 1.0 / alone_s
                refill_s = alone_s - 0.5 + end * (1.0 / 12.0)
                by_slots = (slots + (slots - running[i]) * refill_s) / (alone_s + slots * prefill_s)
                admitted = min(due, by_slots, by_budget)
                stays = min(admitted, fewest)
                rate = end * (1.0 - stays * prefill_s)
                kept = max(0.0, 1.0 - rate * (1.0 - rate * (0.5 - rate * (1.0 / 6.0))))
                mean = max(0.0, 1.0 - rate * (0.5 - rate * (1.0 / 6.0 - rate * (1.0 / 24.0))))
                after = running[i] * kept + stays * mean
                left = max(0.0, due - admitted + max(0.0, after - slots))
                running[i] = min(slots, after)
                waiting[i] = left
                late[i] += lateness * min(max(0.0, left - arrived), before)


@compiled
def settle(demand: Demand, grid: Grid, tick: int, moved: Moved) -> None:
    """Out: `moved.after`."""
    service = demand.service
    decode_s = (service.base_s + service.per_sequence_s * service.slots) / service.slots
    request_s = demand.prefill_s[tick] + demand.output_tokens[tick] * decode_s
    for r in range(len(grid.replicas)):
        scale = grid.replicas[r] * request_s / grid.unit[r]
        for i in range(len(grid.running)):
            moved.after[r, i] = pair_of(grid, moved.running[r, i], moved.waiting[r, i] * scale)


@compiled
def pair_of(grid: Grid, running: float, waiting: float) -> int:
    """`waiting`: in units."""
    levels_of_waiting, levels_of_running = grid.pair_at.shape
    x = int(running / grid.running_step + grid.rounding)
    q = int(log1p(waiting / grid.waiting_scale) / grid.widening + grid.rounding) if waiting > 0.0 else 0
    return int(grid.pair_at[min(levels_of_waiting - 1, q), min(levels_of_running - 1, x)])
