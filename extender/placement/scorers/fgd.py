"""FGD: the least growth of what is free and of no use to the next demand. For comparison.

A GPU's free cells count for profile k where not one k fits. Source: Weng et al., USENIX ATC'23, "Beware of
Fragmentation", with MIG placements in place of fractions of a GPU.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from extender.placement.fragment import Mix, shared_fragment
from extender.placement.masks import Tables
from extender.placement.scorers.base import DIGITS, Floats, Shares, ties, where_fits
from extender.placement.traffic import NO_TRAFFIC, Traffic


@dataclass(frozen=True, slots=True)
class Fgd:
    """`mix`: what is asked for, where it is known; None: as learnt."""

    mix: Mix | None = None

    def mig(self, tables: Tables, profile: int, _census: NDArray[np.int64], traffic: Traffic = NO_TRAFFIC, /) -> Floats:
        return unusable_growth(tables, profile, learnt(tables, traffic) if self.mix is None else self.mix.over(tables))

    def mps(self, before: Shares, after: Shares, _supply: Floats, _gpus: int, /) -> Floats:
        grown = shared_fragment(after.total_mib, after.free_mib, after.free_pct)
        grown = grown - shared_fragment(before.total_mib, before.free_mib, before.free_pct)
        left = np.maximum(after.free_mib / np.maximum(after.total_mib, 1), after.free_pct / 100)
        return np.asarray(np.round(grown * before.total_mib / 1024 + 1e-6 * left, DIGITS))

    def whole(self, free: NDArray[np.int64], count: int, _all_free: NDArray[np.int64], /) -> Floats:
        return (free - count).astype(np.float64)


def learnt(tables: Tables, traffic: Traffic) -> Floats:  # (k,)
    counts = traffic.counts(tables)
    return np.asarray(counts / counts.sum())


def unusable_growth(tables: Tables, profile: int, mix: Floats) -> Floats:  # (s, q), GiB
    unusable = tables.free * ((tables.room == 0) @ mix)
    after = unusable[tables.next_state[:, list(tables.of_profile[profile])]]
    gib = tables.model.memory_mib / 1024 / tables.cells
    return where_fits(tables, profile, (after - unusable[:, None]) * gib + ties(tables, profile))
