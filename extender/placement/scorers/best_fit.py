"""Fullest first: the GPU, and the node, on which least is left. For comparison."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from extender.placement.masks import Tables
from extender.placement.scorers.base import DIGITS, Floats, Shares, ties, where_fits
from extender.placement.traffic import NO_TRAFFIC, Traffic


@dataclass(frozen=True, slots=True)
class BestFit:
    def mig(
        self, tables: Tables, profile: int, _census: NDArray[np.int64], _traffic: Traffic = NO_TRAFFIC, /
    ) -> Floats:
        gib = tables.model.memory_mib / 1024
        left = tables.free[:, None] / tables.cells * gib
        return where_fits(tables, profile, left + ties(tables, profile))

    def mps(self, before: Shares, after: Shares, _supply: Floats, _gpus: int, /) -> Floats:
        left = np.maximum(after.free_mib / np.maximum(after.total_mib, 1), after.free_pct / 100)
        return np.asarray(np.round(left * before.total_mib / 1024, DIGITS))

    def whole(self, free: NDArray[np.int64], count: int, _all_free: NDArray[np.int64], /) -> Floats:
        return (free - count).astype(np.float64)
