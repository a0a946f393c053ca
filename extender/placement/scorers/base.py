"""What a scorer is: the price of taking something away from a GPU. Lower is better, infinite where it does not fit."""

from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from extender.placement.masks import Tables
from extender.placement.traffic import NO_TRAFFIC, Traffic

Floats = NDArray[np.float64]

#: Prices are compared after rounding to this many digits, so that noise of the arithmetic decides nothing.
DIGITS = 9


@dataclass(frozen=True, slots=True, eq=False)
class Shares:
    """MPS GPUs, any shape: memory in MiB, compute in percent."""

    total_mib: Floats
    free_mib: Floats
    free_pct: Floats


class Scorer(Protocol):
    """All prices are in GiB of GPU memory, so that a MIG slice and a share on different models can be compared."""

    def mig(self, tables: Tables, profile: int, census: NDArray[np.int64], traffic: Traffic = NO_TRAFFIC, /) -> Floats:
        """(s, q): the price of each placement of a profile in each state.

        `census`: (s,) GPUs in each state. `traffic`: what has been asked for and what has left so far.
        """
        ...

    def mps(self, before: Shares, after: Shares, supply: Floats, gpus: int, /) -> Floats:
        """Price of a share, shaped as `before`. `supply`: (t,) typical shares that fit in all of the `gpus` GPUs."""
        ...

    def whole(self, free: NDArray[np.int64], count: int, all_free: NDArray[np.int64], /) -> Floats:
        """Price of `count` whole GPUs on nodes with `free` of them. `all_free`: (n,) of every node of the fleet."""
        ...


def ties(tables: Tables, profile: int) -> Floats:  # (s, q)
    """Far below any price: the fuller GPU first, then the lower start."""
    places = list(tables.of_profile[profile])
    start = np.array([tables.placements[p].start for p in places], np.float64)
    return np.asarray(1e-6 * tables.free[:, None] + 1e-8 * start[None, :])


def where_fits(tables: Tables, profile: int, price: Floats) -> Floats:
    after = tables.next_state[:, list(tables.of_profile[profile])]
    return np.where(after >= 0, np.round(price, DIGITS), np.inf)
