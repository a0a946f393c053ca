"""The best setting of a baseline in hindsight: what it could do if somebody had known the load when it was set up."""

from collections.abc import Sequence
from typing import Final

import numpy as np

from sim.baselines.base import Baseline, Settings
from sim.fluid.runs import NO_LIMITS, Case, Limits, Outcome, run
from sim.oracle.bounds import TARGET

LONG: Final = 11_520
"""Ticks of two days. Over longer loads a setting is given up as soon as too much is late."""

NEAR: Final = 0.004
"""A setting that misses the target with the first seed by no more may meet it on average."""


def outcome_of(baseline: Baseline, settings: Settings, case: Case, limits: Limits = NO_LIMITS) -> tuple[Outcome, int]:
    return run(case, baseline.decide, np.array(settings, np.float64), baseline.memory, limits)


def tuned(baseline: Baseline, peak_replicas: int, cases: Sequence[Case]) -> Settings:
    """Of the grid, the cheapest setting whose mean attainment over `cases` (seeds) meets the target.

    Every setting runs with the first seed, and on the others in the order of its cost there. Where none meets the
    target: the one that came nearest to the end before it had spent twice what may be late.
    """
    first = cases[0]
    late = (1.0 - TARGET + NEAR) * first.asked if first.load.ticks > LONG else np.inf
    cheapest_s = np.inf
    candidates: list[tuple[float, Settings]] = []
    farthest: tuple[int, float, Settings] | None = None
    for settings in baseline.grid(peak_replicas):
        result, ticks = outcome_of(baseline, settings, first, Limits(late, cheapest_s))
        replica_s = result.gpu_hours / first.gpu_hours_per_s
        if ticks == first.load.ticks and result.attainment >= TARGET - NEAR:
            candidates.append((replica_s, settings))
            if result.attainment >= TARGET:
                cheapest_s = min(cheapest_s, 1.03 * replica_s)
        elif replica_s <= cheapest_s and (farthest is None or (ticks, result.attainment) > farthest[:2]):
            farthest = ticks, result.attainment, settings
    for _, settings in sorted(candidates):
        if np.mean([outcome_of(baseline, settings, case)[0].attainment for case in cases]) >= TARGET:
            return settings
    if candidates or farthest is None:
        return max(candidates)[1] if candidates else next(iter(baseline.grid(peak_replicas)))
    return farthest[2]
