"""The default scorer: what a placement takes away from the demands to come, each at the price of its scarcity.

a_k(m) is how many of profile k still fit in state m, A_k their sum over the fleet. Profile k costs p_k / (A_k + 1), so
taking a placement that turns state m into m' costs sum_k p_k / (A_k + 1) * (a_k(m) - a_k(m')). Scaled so that one empty
GPU of an empty fleet costs its memory in GiB. MPS shares and whole GPUs are priced in the same way over typical shares
and over runs of 1, 2, 4 and 8 GPUs of a node.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from extender.placement.fragment import SHARES, Mix, share_room, uniform
from extender.placement.masks import Tables
from extender.placement.scorers.base import DIGITS, Floats, Shares, ties, where_fits
from extender.placement.traffic import NO_TRAFFIC, Traffic

_RUNS = np.array([1, 2, 4, 8])


@dataclass(frozen=True, slots=True)
class Fragmentation:
    """`mix`: what is asked for, as far as it is known; None: every profile is as likely as another."""

    mix: Mix | None = None

    def mig(self, tables: Tables, profile: int, census: NDArray[np.int64], _traffic: Traffic = NO_TRAFFIC, /) -> Floats:
        p = uniform(tables) if self.mix is None else self.mix.over(tables)
        gpus, room = int(census.sum()), tables.room.astype(np.float64)
        price = p / (census @ room + 1)
        whole = float((p / (gpus * room[0] + 1)) @ room[0])
        scale = tables.model.memory_mib / 1024 / whole if whole > 0 else 0.0
        worth = room @ price * scale  # (s,)
        after = tables.next_state[:, list(tables.of_profile[profile])]
        return where_fits(tables, profile, worth[:, None] - worth[after] + ties(tables, profile))

    def mps(self, before: Shares, after: Shares, supply: Floats, gpus: int, /) -> Floats:
        a = share_room(before.total_mib, before.free_mib, before.free_pct)
        b = share_room(after.total_mib, after.free_mib, after.free_pct)
        empty = 1 / np.array(SHARES)
        scale = 1 / float((1 / (gpus * empty + 1)) @ empty)
        price = scale / (supply + 1)
        gib = before.total_mib / 1024
        left = np.maximum(after.free_mib / np.maximum(after.total_mib, 1), after.free_pct / 100)
        return np.asarray(np.round(np.tensordot(price, a - b, axes=1) * gib + 1e-6 * left, DIGITS))

    def whole(self, free: NDArray[np.int64], count: int, all_free: NDArray[np.int64], /) -> Floats:
        supply = (all_free[None, :] // _RUNS[:, None]).sum(axis=1)  # (t,)
        price = 1 / (supply + 1)
        lost = free[None, :] // _RUNS[:, None] - np.maximum(free - count, 0)[None, :] // _RUNS[:, None]  # (t, n)
        return np.asarray(np.round(len(all_free) * (price @ lost) + 1e-6 * free, DIGITS))
