"""What is asked for and what leaves, as far as it has been seen: decayed counts, a value without a clock.

Two memories. The mix of shapes: weights that add up to MIX_MEMORY at most once something arrives, so that an old mix
is forgotten after some thousand arrivals. The turnover: departures against arrivals among some TURNOVER_MEMORY events.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Final, Self

import numpy as np
from numpy.typing import NDArray

from extender.placement.demand import Shape
from extender.placement.fit import profile_for
from extender.placement.masks import Tables

MIX_MEMORY: Final = 2000.0  # slices
TURNOVER_MEMORY: Final = 256.0  # events
MAX_SHAPES: Final = 128  # the rarest is forgotten; more than a cluster names, and it bounds what a decision costs

_FORGET: Final = 1 - 1 / TURNOVER_MEMORY


@dataclass(frozen=True, slots=True, eq=False)
class _Shapes:
    """Compared by identity, so that what follows from them is found without hashing each of them."""

    listed: tuple[Shape, ...] = ()


@dataclass(frozen=True, slots=True)
class Traffic:
    """Which pods have been counted is the ledger's business."""

    shapes: _Shapes = _Shapes()
    weights: tuple[float, ...] = ()  # of each shape
    arrived: float = 1.0  # decayed events; one arrival before the first keeps the ratio finite
    left: float = 0.0

    def arrive(self, shape: Shape, slices: int) -> Self:
        """One pod asked for slices of a shape, whether it finds room or not."""
        keep = min(1 - 1 / MIX_MEMORY, MIX_MEMORY / max(sum(self.weights), 1.0))
        decayed = replace(self, weights=tuple(w * keep for w in self.weights))
        return replace(decayed.present(shape, slices), arrived=self.arrived * _FORGET + 1, left=self.left * _FORGET)

    def present(self, shape: Shape, slices: int) -> Self:
        """A pod was found bound: it says what is asked for, but not when it came."""
        listed, weights = self.shapes.listed, list(self.weights)
        if shape in listed:
            weights[listed.index(shape)] += slices
            return replace(self, weights=tuple(weights))
        if len(listed) == MAX_SHAPES:
            rarest = weights.index(min(weights))
            listed = listed[:rarest] + listed[rarest + 1 :]
            del weights[rarest]
        return replace(self, shapes=_Shapes((*listed, shape)), weights=(*weights, float(slices)))

    def leave(self) -> Self:
        """One pod left."""
        return replace(self, arrived=self.arrived * _FORGET, left=self.left * _FORGET + 1)

    @property
    def turnover(self) -> float:
        """0: the fleet only fills; 1: at least half as many pods leave as come."""
        return min(1.0, 2 * self.left / self.arrived)

    @property
    def mix(self) -> Mapping[Shape, float]:
        """Weight of each shape."""
        return dict(zip(self.shapes.listed, self.weights, strict=True))

    def counts(self, tables: Tables) -> NDArray[np.float64]:  # (k,)
        """Slices asked for by profile of a model, after one of each plain profile: what is assumed at first."""
        plain = np.array([float(p.plain) for p in tables.model.profiles])
        found = plain if plain.any() else np.ones(len(plain))
        profiles = _profiles(self.shapes, tables)
        np.add.at(found, profiles[profiles >= 0], np.array(self.weights)[profiles >= 0])
        return found


@lru_cache(maxsize=256)
def _profiles(shapes: _Shapes, tables: Tables) -> NDArray[np.intp]:
    """The profile that each shape means on a model, -1 where it means none."""
    found = (profile_for(tables.model, shape) for shape in shapes.listed)
    return np.array([-1 if k is None else k for k in found], np.intp)


NO_TRAFFIC: Final = Traffic()
