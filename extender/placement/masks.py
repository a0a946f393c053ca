"""Precomputed tables of one GPU model: every question about a GPU's MIG slices is then a look-up.

A GPU's state is one number. Its low bits say which cells (memory slices, or the largest unit that divides every start
and size) are taken: at most 256 masks on the models known so far. Rules that a mask cannot say (media engines, and
counts that the geometry does not imply) are small counters above them.
Rules: NVIDIA MIG User Guide, "Supported MIG Profiles".
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from math import gcd, prod
from typing import Final, Self

import numpy as np
from numpy.typing import NDArray

from extender.placement.profile import GpuModel, Media, Placement, Profile

MAX_STATES: Final = 1 << 14


class TablesError(ValueError):
    """The profiles of a GPU model make no sense or make too many states."""


@dataclass(frozen=True, slots=True)
class _Counter:
    """How often something happened on a GPU, up to `limit`. A profile that `stops` at it fits only below the limit."""

    limit: int
    counts: frozenset[str]
    stops: frozenset[str]


def _most_disjoint(profile: Profile) -> int:
    """Most placements of one profile that do not overlap: interval scheduling, all intervals being equally long."""
    count, free_from = 0, 0
    for start in profile.starts:
        if start >= free_from:
            count, free_from = count + 1, start + profile.size
    return count


def _counters(profiles: Sequence[Profile]) -> list[_Counter]:
    named = {m: frozenset(p.name for p in profiles if p.media is m) for m in Media}
    counters = []
    if named[Media.EXTENDED]:
        counters.append(_Counter(1, named[Media.EXTENDED], named[Media.EXTENDED]))
    if named[Media.ALL]:
        engines = named[Media.SHARE] | named[Media.EXTENDED]
        counters.append(_Counter(1, named[Media.ALL], named[Media.ALL] | engines))
        counters.append(_Counter(1, engines, named[Media.ALL]))
    counters += [
        _Counter(p.max_count, frozenset({p.name}), frozenset({p.name}))
        for p in profiles
        if p.max_count < _most_disjoint(p) and not any(p.name in c.counts & c.stops and c.limit == 1 for c in counters)
    ]
    return counters


@dataclass(frozen=True, slots=True, eq=False)
class Tables:
    """s states, p placements (by profile, then start), k profiles. Taking a placement leads to a higher state."""

    model: GpuModel
    unit: int  # memory slices in one cell
    cells: int
    placements: tuple[Placement, ...]  # (p,)
    of_profile: tuple[tuple[int, ...], ...]  # (k,) its placements
    next_state: NDArray[np.int32]  # (s, p) state after taking it; -1: it does not fit
    room: NDArray[np.int16]  # (s, k) most instances of the profile that still fit together
    free: NDArray[np.int16]  # (s,) free cells
    largest: NDArray[np.int16]  # (s,) the profile with most memory that fits, -1: none
    index: dict[Placement, int]
    counters: tuple[_Counter, ...]

    @property
    def empty(self) -> int:
        return 0

    @property
    def states(self) -> int:
        return len(self.free)

    @property
    def full(self) -> int:
        """All cells and counters taken: nothing fits."""
        return self.states - 1

    def after(self, state: int, placement: Placement) -> int | None:
        """State after taking a placement; None if it is not legal or does not fit."""
        p = self.index.get(placement)
        after = -1 if p is None else int(self.next_state[state, p])
        return None if after < 0 else after

    def covering(self, placements: Iterable[Placement]) -> int:
        """State with all of these taken, also where they contradict one another or the model.

        What cannot be understood takes every cell that it touches, so a doubtful slice is never given twice.
        """
        mask, counts = 0, [0] * len(self.counters)
        for placement in placements:
            first, last = placement.start // self.unit, -(-(placement.start + placement.size) // self.unit)
            mask |= (1 << min(last, self.cells)) - (1 << min(first, self.cells))
            for i, counter in enumerate(self.counters):
                counts[i] = min(counter.limit, counts[i] + (placement.profile in counter.counts))
        state, radix = mask, 1 << self.cells
        for counter, count in zip(self.counters, counts, strict=True):
            state += count * radix
            radix *= counter.limit + 1
        return state

    @classmethod
    def of(cls, model: GpuModel) -> Self:
        """Raises TablesError."""
        if not model.profiles:
            raise TablesError(f"{model.name} has no MIG profiles")
        unit = gcd(*(n for p in model.profiles for n in (p.size, *p.starts)))
        cells = max(p.starts[-1] + p.size for p in model.profiles) // unit
        counters = _counters(model.profiles)
        states = (
            prod((1 << cells, *(c.limit + 1 for c in counters))) if cells < MAX_STATES.bit_length() else MAX_STATES + 1
        )
        if states > MAX_STATES:
            raise TablesError(
                f"profiles of {model.name}: {cells} cells and {len(counters)} counts make too many states"
            )
        placements = [Placement(p.name, start, p.size) for p in model.profiles for start in p.starts]
        of_profile = [tuple(i for i, x in enumerate(placements) if x.profile == p.name) for p in model.profiles]
        next_state = _next_states(placements, unit, cells, counters, states)
        room = _room(next_state, of_profile)
        by_size = sorted(range(len(of_profile)), key=lambda k: _rank(model.profiles[k]))
        largest = np.full(states, -1, np.int16)
        for k in by_size:
            largest[room[:, k] > 0] = k
        masks = np.arange(states) & ((1 << cells) - 1)
        return cls(
            model=model,
            unit=unit,
            cells=cells,
            placements=tuple(placements),
            of_profile=tuple(of_profile),
            next_state=next_state,
            room=room,
            free=(cells - np.bitwise_count(masks)).astype(np.int16),
            largest=largest,
            index={x: i for i, x in enumerate(placements)},
            counters=tuple(counters),
        )


def _rank(profile: Profile) -> tuple[int, int, int, bool]:
    return profile.size, profile.slices, profile.memory_mib, profile.plain


def _next_states(
    placements: Sequence[Placement], unit: int, cells: int, counters: Sequence[_Counter], states: int
) -> NDArray[np.int32]:
    s = np.arange(states, dtype=np.int32)
    radices = [(1 << cells) * prod(c.limit + 1 for c in counters[:i]) for i in range(len(counters))]
    columns = []
    for x in placements:
        bits = ((1 << x.size // unit) - 1) << x.start // unit
        fits, after = (s & bits) == 0, s | bits
        for counter, radix in zip(counters, radices, strict=True):
            count = s // radix % (counter.limit + 1)
            if x.profile in counter.stops:
                fits &= count < counter.limit
            if x.profile in counter.counts:
                after = after + np.where(count < counter.limit, radix, 0)
        columns.append(np.where(fits, after, -1).astype(np.int32))
    return np.stack(columns, axis=1)


def _room(next_state: NDArray[np.int32], of_profile: Sequence[Sequence[int]]) -> NDArray[np.int16]:
    """room[s, k] = 1 + the best room after one more k, 0 where none fits. One pass per instance that can be added."""
    room = np.zeros((len(next_state), len(of_profile)), np.int16)
    for k, places in enumerate(of_profile):
        after = next_state[:, list(places)]
        while True:
            better = np.where(after >= 0, room[after, k] + 1, 0).max(axis=1).astype(np.int16)
            if np.array_equal(better, room[:, k]):
                break
            room[:, k] = better
    return room


@lru_cache(maxsize=256)
def tables(model: GpuModel) -> Tables:
    """Raises TablesError. Kept, since a fleet has few models and many GPUs."""
    return Tables.of(model)
