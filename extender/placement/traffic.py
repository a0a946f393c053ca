"""What is asked for and what leaves, as far as it has been seen: decayed counts, a value without a clock.

Two memories. The mix of shapes: weights that add up to MIX_MEMORY at most once something arrives, so that an old mix
is forgotten after some thousand arrivals. The turnover: departures against arrivals among some TURNOVER_MEMORY events.
And what is known beforehand: the pods that wait for a place now. Where pods are placed while others wait, a set is
being worked off, and what follows is that set; where each is placed as it comes, it is as much as was seen so far.
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

BACKLOG_MEMORY: Final = 16.0  # placements after which it is believed that a set is worked off, or that none is
UNSEEN: Final = 100.0  # slices that are expected to follow where nothing is known: these, and as many as are remembered

_FORGET: Final = 1 - 1 / TURNOVER_MEMORY


@dataclass(frozen=True, slots=True, eq=False)
class _Shapes:
    """Compared by identity, so that what follows from them is found without hashing each of them."""

    listed: tuple[Shape, ...] = ()


@dataclass(frozen=True, slots=True, eq=False)
class Coming:
    """What is expected to follow. (k,) slices by profile of a model, and how many they are in all."""

    slices: NDArray[np.float64]
    total: float


@dataclass(frozen=True, slots=True)
class Traffic:
    """Which pods have been counted is the ledger's business."""

    shapes: _Shapes = _Shapes()
    weights: tuple[float, ...] = ()  # of each shape
    arrived: float = 1.0  # decayed events; one arrival before the first keeps the ratio finite
    left: float = 0.0
    waiting_shapes: _Shapes = _Shapes()
    waiting: tuple[float, ...] = ()  # slices of each of these, asked for by pods that have no place yet
    backlog: float = 0.0  # 0: pods are placed as they come; 1: while others wait

    def arrive(self, shape: Shape, slices: int) -> Self:
        """One pod asked for slices of a shape, whether it finds room or not."""
        keep = min(1 - 1 / MIX_MEMORY, MIX_MEMORY / max(sum(self.weights), 1.0))
        decayed = replace(self, weights=tuple(w * keep for w in self.weights))
        return replace(decayed.present(shape, slices), arrived=self.arrived * _FORGET + 1, left=self.left * _FORGET)

    def present(self, shape: Shape, slices: int) -> Self:
        """A pod was found bound: it says what is asked for, but not when it came."""
        shapes, weights = _with(self.shapes, self.weights, shape, slices)
        return replace(self, shapes=shapes, weights=weights)

    def leave(self) -> Self:
        """One pod left."""
        return replace(self, arrived=self.arrived * _FORGET, left=self.left * _FORGET + 1)

    def wait(self, shape: Shape, slices: int) -> Self:
        """One pod waits for a place; with negative `slices`: one that waited does so no more."""
        shapes, waiting = _with(self.waiting_shapes, self.waiting, shape, slices)
        return replace(self, waiting_shapes=shapes, waiting=tuple(max(0.0, w) for w in waiting))

    def place(self) -> Self:
        """One pod got a place."""
        behind = float(any(self.waiting))
        return replace(self, backlog=self.backlog + (behind - self.backlog) / BACKLOG_MEMORY)

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
        return (plain if plain.any() else np.ones(len(plain))) + _by_profile(self.shapes, self.weights, tables)

    def ahead(self, tables: Tables) -> NDArray[np.float64]:  # (k,)
        """Slices by profile of a model that the pods ask for which wait now."""
        return _by_profile(self.waiting_shapes, self.waiting, tables)

    def coming(self, tables: Tables) -> Coming:
        """Those that wait, and as far as no set is being worked off also what was seen so far, once more."""
        waiting, learnt = self.ahead(tables), self.counts(tables)
        rest = 1 - self.backlog
        return Coming(waiting + rest * learnt, float(waiting.sum() + rest * (learnt.sum() + UNSEEN)))


def _with(
    shapes: _Shapes, weights: tuple[float, ...], shape: Shape, slices: float
) -> tuple[_Shapes, tuple[float, ...]]:
    """Slices added to a shape. The list of shapes stays the same object while none is new."""
    listed, sums = shapes.listed, list(weights)
    if shape in listed:
        sums[listed.index(shape)] += slices
        return shapes, tuple(sums)
    if len(listed) == MAX_SHAPES:
        rarest = sums.index(min(sums))
        listed = listed[:rarest] + listed[rarest + 1 :]
        del sums[rarest]
    return _Shapes((*listed, shape)), (*sums, float(slices))


def _by_profile(shapes: _Shapes, weights: tuple[float, ...], tables: Tables) -> NDArray[np.float64]:  # (k,)
    found = np.zeros(len(tables.model.profiles))
    profiles = _profiles(shapes, tables)
    np.add.at(found, profiles[profiles >= 0], np.array(weights)[profiles >= 0])
    return found


@lru_cache(maxsize=256)
def _profiles(shapes: _Shapes, tables: Tables) -> NDArray[np.intp]:
    """The profile that each shape means on a model, -1 where it means none."""
    found = (profile_for(tables.model, shape) for shape in shapes.listed)
    return np.array([-1 if k is None else k for k in found], np.intp)


NO_TRAFFIC: Final = Traffic()
