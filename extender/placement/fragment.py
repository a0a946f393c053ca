"""Fragmentation: how much of what is free the typical demand cannot use.

Law: 0 <= fragmentation <= free, and an empty GPU on which every type of the mix tiles the grid has none.
The measure is FGD's (Weng et al., USENIX ATC'23, section 3), with MIG placements in place of fractions of a GPU.
"""

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from extender.placement.masks import Tables

#: Typical MPS shares, as fractions of one GPU, each as likely as the others as long as no mix is known.
SHARES: Final = (0.125, 0.25, 0.5, 1.0)


@dataclass(frozen=True, slots=True)
class Mix:
    """How likely each profile is to be asked for next, by profile name. Profiles that it does not name: never."""

    shares: tuple[tuple[str, float], ...]

    def over(self, tables: Tables) -> NDArray[np.float64]:  # (k,), sums to 1; all 0 if the mix names none of them
        named = dict(self.shares)
        p = np.array([max(0.0, named.get(x.name, 0.0)) for x in tables.model.profiles])
        return np.asarray(p / p.sum() if p.sum() > 0 else p)


def uniform(tables: Tables) -> NDArray[np.float64]:  # (k,)
    """Every plain profile as likely as another: what is assumed as long as no mix is known."""
    plain = np.array([float(p.plain) for p in tables.model.profiles])
    weights = plain if plain.any() else np.ones_like(plain)
    return np.asarray(weights / weights.sum())


def expected(tables: Tables, mix: NDArray[np.float64]) -> NDArray[np.float64]:  # (s,)
    """Expected free cells that the next demand of the mix could not use, however many of it came."""
    size = np.array([p.size // tables.unit for p in tables.model.profiles])
    unusable = tables.free[:, None] - tables.room * size[None, :]
    return np.asarray(unusable @ mix, np.float64)


def share_room(
    total_mib: NDArray[np.float64], free_mib: NDArray[np.float64], free_pct: NDArray[np.float64]
) -> NDArray[np.float64]:  # (t, …)
    """How many typical shares of each size still fit: bounded by memory and by compute."""
    kinds = np.array(SHARES).reshape(-1, *(1 for _ in np.shape(free_mib)))
    by_memory = np.floor(free_mib / (kinds * np.maximum(total_mib, 1)) + 1e-9)
    return np.asarray(np.minimum(by_memory, np.floor(free_pct / (kinds * 100) + 1e-9)))


def shared_fragment(
    total_mib: NDArray[np.float64], free_mib: NDArray[np.float64], free_pct: NDArray[np.float64]
) -> NDArray[np.float64]:  # (…)
    """Expected fraction of the GPU that is free in one dimension or both, yet of no use to the next typical share."""
    kinds = np.array(SHARES).reshape(-1, *(1 for _ in np.shape(free_mib)))
    free = np.maximum(free_mib / np.maximum(total_mib, 1), free_pct / 100)
    usable = share_room(total_mib, free_mib, free_pct) * kinds
    return np.asarray(np.maximum(free - usable, 0).mean(axis=0))
