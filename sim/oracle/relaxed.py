"""A pool that is never worse than the real one, small enough to plan with.

Its only state is the work V that is in the pool, in replica-seconds. In a second in which w arrives and R replicas
serve, at most R (p + (1 - p) h) of it is done, as in `sim.fluid.pool`: p, the share of the time that prefill takes, is
at most what has arrived and what the token budget lets through; h is the speed of the largest batch that V and w make,
in parts of a full one's. At the end of a second at most sigma R of V is in slots (sigma: what a full batch has to
decode) and w may have arrived just now; what is more has waited for more than a second and is late, and so has prefill
that the token budget has not let through. A replica that is removed takes its share of what is in slots with it. All
this is monotone in V: rounding V down keeps it a lower bound.

One thing is taken for granted: where slots are free, prompts wait for the token budget for a second at most. Waiting
longer means being late with slots free, which costs the real pool more than it could save.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from sim.fluid.jit import compiled, vectorised
from sim.fluid.load import FloatArray, Load
from sim.fluid.service import TICK_S, Service

IntArray = NDArray[np.int64]


class Grid(NamedTuple):
    """States of a plan: `replicas` 1, 2 … and `levels` of V / R in seconds, both ascending; level 0 is 0.

    `level_at`: of V / R = i `step_s`, the level below or at it. `diluted`: the level after one replica joined.
    `rounding`: of V / R to a step: 0 down, for bounds; 0.5 to the nearest, for schedules.
    """

    replicas: FloatArray
    levels: FloatArray
    level_at: IntArray
    step_s: float
    diluted: IntArray
    rounding: float


class Demand(NamedTuple):
    """What the relaxed pool needs of a load.

    By second: `work`, `prefill` (its part that is prefill) and `lateness`, requests for each second of work. By tick:
    `slot_s`, sigma; `prefill_share`, of the work.

    `base`: of the time of a full batch's iteration, the part that an empty one takes too. `least_prefill`,
    `most_prefill`: the token budget's share of the time, with a full and with an empty batch.
    """

    work: FloatArray
    prefill: FloatArray
    lateness: FloatArray
    slot_s: FloatArray
    prefill_share: FloatArray
    base: float
    least_prefill: float
    most_prefill: float


def demand_of(service: Service, load: Load) -> Demand:
    work = np.diff(load.work_sum)
    lateness = np.where(work > 0.0, load.requests / np.where(work > 0.0, work, 1.0), 0.0)
    share = load.prefill_s / (load.prefill_s + load.output_tokens * service.decode_s)
    full_s = service.slots * service.decode_s
    smallest_s = (service.budget_tokens - service.slots) * service.prefill_s
    largest_s = service.budget_tokens * service.prefill_s
    return Demand(
        work=work,
        prefill=work * np.repeat(share, TICK_S),
        lateness=lateness,
        slot_s=full_s * load.output_tokens,
        prefill_share=share,
        base=service.base_s / full_s,
        least_prefill=smallest_s / (full_s + smallest_s),
        most_prefill=largest_s / (service.base_s + largest_s),
    )


def grid_of(demand: Demand, most: int, fineness: int, rounding: float = 0.0) -> Grid:
    """Levels are finest around V / R = sigma + 1, where requests begin to be late: `fineness` steps lead there."""
    step_s = (float(np.median(demand.slot_s)) + 1.0) / fineness
    multiples = [*range(0, fineness // 2, max(1, fineness // 8)), *range(fineness // 2, fineness * 5 // 4)]
    while multiples[-1] < (3 if rounding else 10) * fineness:
        multiples.append(max(multiples[-1] + 1, multiples[-1] * 5 // 4))
    replicas, at = np.arange(1.0, most + 1.0), np.array(multiples) * step_s
    level_at = np.searchsorted(np.array(multiples), np.arange(multiples[-1] + 1), side="right") - 1
    shrunk = at[None, :] * (replicas / (replicas + 1.0))[:, None]
    diluted = level_at[(shrunk / step_s + rounding).astype(np.int64)]
    return Grid(replicas, at, level_at, step_s, diluted, rounding)


class Moved(NamedTuple):
    """Where a tick leads from every state, (replicas, levels): V at its end, requests that become late, level after."""

    content: FloatArray
    late: FloatArray
    after: IntArray


@vectorised
def advance(demand: Demand, grid: Grid, tick: int, moved: Moved) -> None:
    """One tick from every state. Out: `moved.content` and `moved.late`."""
    content, late = moved.content, moved.late
    sigma = demand.slot_s[tick]
    for r in range(len(grid.replicas)):
        for g in range(len(grid.levels)):
            content[r, g] = grid.levels[g] * grid.replicas[r]
            late[r, g] = 0.0
    for r in range(len(grid.replicas)):
        replicas = grid.replicas[r]
        unfilled, left_over = waiting_before(demand, tick * TICK_S, replicas), 0.0
        for second in range(tick * TICK_S, (tick + 1) * TICK_S):
            work = demand.work[second]
            before = demand.work[second - 1] if second > 0 else 0.0
            lateness = demand.lateness[second - 1] if second > 0 else 0.0
            due = unfilled + demand.prefill[second]
            share = min(demand.most_prefill, due / replicas)
            unfilled = max(0.0, due - demand.least_prefill * replicas)
            left_over = max(0.0, left_over + demand.prefill[second] - demand.most_prefill * replicas)
            unstarted = max(0.0, left_over - demand.prefill[second]) / demand.prefill_share[tick]
            joining = (work - demand.prefill[second]) / (sigma * replicas)
            allowed = sigma * replicas + work
            for g in range(len(grid.levels)):
                batch = min(1.0, content[r, g] / (sigma * replicas) + joining)
                speed = batch / (demand.base + (1.0 - demand.base) * batch)
                left = max(0.0, content[r, g] + work - replicas * (share + (1.0 - share) * speed))
                content[r, g] = left
                late[r, g] += lateness * min(max(unstarted, left - allowed), before)


@vectorised
def waiting_before(demand: Demand, second: int, replicas: float) -> float:
    """Prefill that may wait for the token budget when a tick begins; half as many replicas may have served before."""
    if second == 0 or demand.prefill[second - 1] < 0.5 * demand.least_prefill * replicas:
        return 0.0
    return float(demand.prefill[second - 1])


@vectorised
def after_tick(demand: Demand, tick: int, replicas: float, content: float) -> float:
    """As `advance`, for one state that is no point of the grid."""
    sigma = demand.slot_s[tick]
    unfilled = waiting_before(demand, tick * TICK_S, replicas)
    for second in range(tick * TICK_S, (tick + 1) * TICK_S):
        due = unfilled + demand.prefill[second]
        share = min(demand.most_prefill, due / replicas)
        unfilled = max(0.0, due - demand.least_prefill * replicas)
        batch = min(1.0, (content + demand.work[second] - demand.prefill[second]) / (sigma * replicas))
        speed = batch / (demand.base + (1.0 - demand.base) * batch)
        content = max(0.0, content + demand.work[second] - replicas * (share + (1.0 - share) * speed))
    return content


@compiled
def level_of(grid: Grid, content: float, replicas: float) -> int:
    step = int(content / (replicas * grid.step_s) + grid.rounding)
    return int(grid.level_at[min(len(grid.level_at) - 1, step)])


@compiled
def settle(demand: Demand, grid: Grid, tick: int, moved: Moved) -> None:
    """Out: `moved.after`, the level of each content at the end of the tick; what is in slots is valued anew."""
    sigma = demand.slot_s[tick]
    following = demand.slot_s[min(tick + 1, len(demand.slot_s) - 1)]
    shrinks = max(0.0, 1.0 - following / sigma)
    for r in range(len(grid.replicas)):
        replicas = grid.replicas[r]
        for g in range(len(grid.levels)):
            left = moved.content[r, g]
            left -= shrinks * min(left, sigma * replicas)
            moved.after[r, g] = level_of(grid, left, replicas)


@compiled
def late_with(demand: Demand, replicas: float, since: int) -> float:
    """Requests that become late from tick `since` on, with so many replicas all the time."""
    content = 0.0
    total = 0.0
    for tick in range(since, len(demand.slot_s)):
        sigma = demand.slot_s[tick]
        unfilled, left_over = waiting_before(demand, tick * TICK_S, replicas), 0.0
        for second in range(tick * TICK_S, (tick + 1) * TICK_S):
            work, prefill = demand.work[second], demand.prefill[second]
            due = unfilled + prefill
            share = min(demand.most_prefill, due / replicas)
            unfilled = max(0.0, due - demand.least_prefill * replicas)
            left_over = max(0.0, left_over + prefill - demand.most_prefill * replicas)
            unstarted = max(0.0, left_over - prefill) / demand.prefill_share[tick]
            batch = min(1.0, (content + work - prefill) / (sigma * replicas))
            speed = batch / (demand.base + (1.0 - demand.base) * batch)
            content = max(0.0, content + work - replicas * (share + (1.0 - share) * speed))
            if second > 0:
                late = min(max(unstarted, content - sigma * replicas - work), demand.work[second - 1])
                total += demand.lateness[second - 1] * late
    return total
