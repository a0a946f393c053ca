"""From a recorded load to a case: how much of it, how long starts take, what counts, how many replicas may be."""

from math import ceil
from typing import Final

import numpy as np

from sim.evaluation.traces import Source
from sim.fluid.load import FloatArray, Load, load_of
from sim.fluid.pool import IntArray, Terms
from sim.fluid.runs import Case, run_schedule
from sim.fluid.service import H100_70B_TP4, TICK_S
from sim.streams import stream

DAY_TICKS: Final = 86_400 // TICK_S
SPREAD: Final = 0.1
"""Of a cold start around its median: standard deviation of its logarithm."""

STARTS: Final = 65_536
"""Cold starts drawn; a policy that starts more replicas begins again with the first."""

MOST: Final = 1.6
"""Replicas that there may be, in parts of the busiest 60 s: for every policy the same."""

STATIC_TARGET: Final = 0.995
ROOM: Final = 1.2
"""And at least so many times the fixed fleet that keeps `STATIC_TARGET`: bursts shorter than 60 s need more."""


def load_for(source: Source, peak_replicas: int, seed: int) -> Load:
    return load_of(H100_70B_TP4, source.counts(H100_70B_TP4, peak_replicas, seed))


def most_replicas(load: Load) -> int:
    busiest = float(_minutes(load).max())
    low, high = 1, ceil(MOST * busiest)
    while not _keeps(load, high):
        low, high = high, 2 * high
    while low < high:
        middle = (low + high) // 2
        low, high = (low, middle) if _keeps(load, middle) else (middle + 1, high)
    return max(ceil(MOST * busiest), ceil(ROOM * low))


def case_of(load: Load, most: int, cold_start_s: float, seed: int) -> Case:
    """Of two days or more, the first is not scored: policies learn from it. Of less, the first 5 minutes."""
    scored_from = DAY_TICKS if load.ticks >= 2 * DAY_TICKS else min(20, load.ticks // 4)
    first = ceil(float(_minutes(load)[:10].mean()) / 0.7)
    terms = Terms(cold_starts(cold_start_s, seed), scored_from, max(1, min(first, most)), most)
    return Case(H100_70B_TP4, load, terms)


def cold_starts(median_s: float, seed: int) -> IntArray:
    """Ticks that the first, the second … start takes: lognormal, to the nearest tick, the same for every policy."""
    normal = stream(seed, "fluid-cold-start").standard_normal(STARTS)
    return np.maximum(1, np.rint(median_s * np.exp(SPREAD * normal) / TICK_S)).astype(np.int64)


def _minutes(load: Load) -> FloatArray:
    """Replicas kept busy in each minute."""
    return np.asarray(np.diff(load.work_sum[::60]) / 60.0) if load.ticks > 4 else np.diff(load.work_sum)


def _keeps(load: Load, replicas: int) -> bool:
    terms = Terms(np.ones(1, np.int64), 0, replicas, replicas)
    return run_schedule(Case(H100_70B_TP4, load, terms), np.full(load.ticks, replicas)).attainment >= STATIC_TARGET
