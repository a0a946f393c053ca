"""Keeps the longest run of free cells, then the most free places. For comparison, in the manner of HAMi."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from extender.placement.masks import Tables
from extender.placement.scorers.base import Floats, ties, where_fits
from extender.placement.scorers.best_fit import BestFit
from extender.placement.traffic import NO_TRAFFIC, Traffic


@dataclass(frozen=True, slots=True)
class LongestRun(BestFit):
    def mig(
        self, tables: Tables, profile: int, _census: NDArray[np.int64], _traffic: Traffic = NO_TRAFFIC, /
    ) -> Floats:
        run, longest = np.zeros((2, tables.states), np.int64)
        for cell in range(tables.cells):
            run = np.where(np.arange(tables.states) >> cell & 1, 0, run + 1)
            longest = np.maximum(longest, run)
        kept = longest + (tables.next_state >= 0).sum(axis=1) / 100  # at most 100 places: a run always goes first
        after = kept[tables.next_state[:, list(tables.of_profile[profile])]]
        gib = tables.model.memory_mib / 1024 / tables.cells
        return where_fits(tables, profile, (kept[:, None] - after) * gib + ties(tables, profile))
