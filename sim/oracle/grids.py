"""Grids of states, finer and coarser."""

from typing import Final, NamedTuple

import numpy as np

from sim.fluid.load import FloatArray
from sim.oracle.relaxed import Demand, Grid, pair_of

NEARLY_FULL: Final = 0.985
"""Batches count as full from this share of the slots on: where slots limit admissions, x comes so near to them."""

EXACT: Final = 1e-9
"""Added where a value that is a level is looked up, so that it is found again."""


class Levels(NamedTuple):
    """`running`: how many of x, and the highest. `waiting`: how many of Q; `scale` and `widening` as in `Grid`.

    `deep`: levels of x with which work may wait, ascending; x between them goes down to one of them, and with less x
    than the first what waits is left out.
    """

    running: int
    highest: float
    waiting: int
    scale: float
    widening: float
    deep: tuple[int, ...]


def fed_by_budget(demand: Demand) -> float:
    """Sequences that the token budget can keep in service: in a batch, prompts come in as fast as outputs end."""
    prefill_s, output_tokens = float(np.median(demand.prefill_s)), float(np.median(demand.output_tokens))
    return demand.service.budget_tokens * demand.service.prefill_s * output_tokens / prefill_s


def by_slots(slots: float, running: int, waiting: int) -> Levels:
    """For loads that slots limit: work waits where batches are full. Q is in seconds of all replicas."""
    return Levels(running, NEARLY_FULL * slots, waiting, 2.0, 0.12 * 24 / waiting, (running - 1,))


def by_budget(slots: float, most: float) -> Levels:
    """For loads that the token budget limits: what is in service matters little. Q is in replica-seconds."""
    return Levels(2, slots / 2.0, 56, most * 1e-2, 0.19, (0, 1))


def for_plans(slots: float) -> Levels:
    """For loads that slots limit, to be rounded to the nearest. Q is in seconds of all replicas."""
    return Levels(13, slots, 10, 2.0, 0.24, (9, 12))


def grid_of(replicas: FloatArray, levels: Levels, *, by_replica: bool, nearest: bool = False) -> Grid:
    """`by_replica`: waiting work is in seconds of all replicas, and not in replica-seconds.

    Values between levels are rounded down, for bounds, or to the `nearest`, for schedules.
    """
    deep, count = np.array(levels.deep), levels.running
    x = np.linspace(0.0, levels.highest, count)
    q = levels.scale * np.expm1(levels.widening * np.arange(levels.waiting))
    lower = np.searchsorted(deep, np.arange(count), side="right") - 1  # the deep level below or at it
    pair_at = np.tile(np.arange(count), (levels.waiting, 1))
    for level in range(1, levels.waiting):
        pair_at[level] = np.where(lower >= 0, count + (level - 1) * len(deep) + lower, pair_at[0])
    shape = (len(replicas), count + (levels.waiting - 1) * len(deep))
    grid = Grid(
        replicas=replicas,
        unit=replicas if by_replica else np.ones(len(replicas)),
        running=np.concatenate((x, np.tile(x[deep], levels.waiting - 1))),
        waiting=np.concatenate((np.zeros(count), np.repeat(q[1:], len(deep)))),
        joined=np.zeros(shape, np.int64),
        left=np.zeros(shape, np.int64),
        running_step=levels.highest / (count - 1),
        waiting_scale=levels.scale,
        widening=levels.widening,
        pair_at=pair_at,
        rounding=0.5 if nearest else 0.0,
    )
    last = len(replicas) - 1
    for r, i in np.ndindex(*shape):
        up, down = min(r + 1, last), max(r - 1, 0)
        running = float(grid.running[i] * replicas[r] / replicas[up])
        waiting = float(grid.waiting[i] * grid.unit[r]) * (1.0 + EXACT)
        grid.joined[r, i] = pair_of(grid, running + EXACT, waiting / float(grid.unit[up]))
        grid.left[r, i] = pair_of(grid, float(grid.running[i]) + EXACT, waiting / float(grid.unit[down]))
    return grid
