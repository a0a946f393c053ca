"""The first that fits, in the order of nodes, GPUs and starts. For comparison."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from extender.placement.masks import Tables
from extender.placement.scorers.base import Floats, Shares, where_fits
from extender.placement.traffic import NO_TRAFFIC, Traffic


@dataclass(frozen=True, slots=True)
class FirstFit:
    def mig(
        self, tables: Tables, profile: int, _census: NDArray[np.int64], _traffic: Traffic = NO_TRAFFIC, /
    ) -> Floats:
        places = tables.of_profile[profile]
        return where_fits(tables, profile, np.zeros((tables.states, len(places))))

    def mps(self, before: Shares, _after: Shares, _supply: Floats, _gpus: int, /) -> Floats:
        return np.zeros_like(before.free_mib)

    def whole(self, free: NDArray[np.int64], _count: int, _all_free: NDArray[np.int64], /) -> Floats:
        return np.zeros(len(free))
