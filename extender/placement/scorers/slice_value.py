"""What a GPU's free places are worth to the demands to come: now, and after some of its pods have left.

While pods come and go, a state m is worth sum_k price_k * (room_k(m) + share_k * drained_k(m)):
  price_k = p_k * size_k^2 * (D_k / (A_k + D_k))^1.5 with the learnt mix p, A_k the sum of room_k over the fleet and
  D_k = 1 + p_k * N / 2 for N running instances: the demand of half a lifetime;
  drained_k(m) is room_k as it is expected a quarter of a lifetime ahead if pods only leave.
While the fleet only fills, what counts is W(m), the free cells that are expected to stay free: each arrival of profile
k comes to one of the 1 + R_k open GPUs that fit it with the same chance, and the arrivals end at a rate of one in as
many as are expected: the pods that wait now, where there are such. A GPU that nobody uses wastes nothing: opening it
costs W after, not W after less W before.
Between the two the turnover weighs: departures against arrivals, as they were seen.
"""

from dataclasses import dataclass
from functools import lru_cache
from typing import Final

import numpy as np
from numpy.typing import NDArray

from extender.placement.masks import Tables
from extender.placement.openings import weights
from extender.placement.scorers.base import Floats, Shares, ties, where_fits
from extender.placement.scorers.fragmentation import Fragmentation
from extender.placement.traffic import NO_TRAFFIC, Coming, Traffic

# Chosen on simulated A100 fleets; docs/mig.md says how much each of them matters.
SIZE_EXPONENT: Final = 2.0  # slices lost with the pod, times slices that a copy protects
SCARCITY_EXPONENT: Final = 1.5
HORIZON_LIFETIMES: Final = 0.5  # of demand counted against the supply
DRAIN_RATE: Final = 4.0  # per lifetime: looks a quarter of a lifetime ahead
LARGEST_SHARE: Final = 0.2  # of drained room, for the largest profiles: whole GPUs rarely come back
OTHERS_SHARE: Final = 0.8

_OTHERS: Final = Fragmentation()


@dataclass(frozen=True, slots=True, eq=False)
class _Static:
    """What follows from the tables alone. s states, k profiles, q the most placements of a profile."""

    size: Floats  # (k,) cells
    running: Floats  # (s,) instances expected behind the state
    room: Floats  # (s, k)
    prospect: Floats  # (s, k) room and the share of drained room
    levels: tuple[tuple[NDArray[np.intp], NDArray[np.intp]], ...]  # states, fullest first; (q, ·, k) states after


@dataclass(frozen=True, slots=True)
class SliceValue:
    def mig(self, tables: Tables, profile: int, census: NDArray[np.int64], traffic: Traffic = NO_TRAFFIC, /) -> Floats:
        static, counts, weight = _static(tables), traffic.counts(tables), traffic.turnover
        after = tables.next_state[:, list(tables.of_profile[profile])]
        price = np.zeros(after.shape)
        if weight > 0:
            value = worth(static, counts / counts.sum(), census)
            price += weight * (value[:, None] - value[after])
        if weight < 1:
            waste = expected_waste(static, tables.free, traffic.coming(tables), census)
            opened = np.where(np.arange(tables.states) == tables.empty, 0.0, waste)
            price += (1 - weight) / tables.cells * (static.size[profile] + waste[after] - opened[:, None])
            ahead = traffic.ahead(tables)
            if ahead.any():
                opens = weights(tables).added(tables, profile, ahead, census)
                price += (1 - weight) * traffic.backlog * opens
        return where_fits(tables, profile, price * tables.model.memory_mib / 1024 + ties(tables, profile))

    def mps(self, before: Shares, after: Shares, supply: Floats, gpus: int, /) -> Floats:
        return _OTHERS.mps(before, after, supply, gpus)

    def whole(self, free: NDArray[np.int64], count: int, all_free: NDArray[np.int64], /) -> Floats:
        return _OTHERS.whole(free, count, all_free)


def worth(static: _Static, mix: Floats, census: NDArray[np.int64]) -> Floats:  # (s,)
    """Value of each state. Scaled: an empty GPU is worth 1 in an empty fleet of this size and demand."""
    demand = 1 + HORIZON_LIFETIMES * mix * float(census @ static.running)
    weight = mix * static.size**SIZE_EXPONENT

    def price(supply: Floats) -> Floats:
        return np.asarray(weight * (demand / (supply + demand)) ** SCARCITY_EXPONENT)

    unit = float(static.prospect[0] @ price(census.sum() * static.room[0]))
    return np.asarray(static.prospect @ price(census @ static.room) / unit)


def expected_waste(
    static: _Static, free: NDArray[np.int16], coming: Coming, census: NDArray[np.int64]
) -> Floats:  # (s,)
    """W: cells of each state that are expected to be free when the arrivals end, each pod at its best place."""
    opened = census.copy()
    opened[0] = 0  # nobody waits for a GPU that is not in use
    chance = coming.slices / max(float(coming.slices.sum()), 1.0) / (1 + opened @ (static.room > 0))
    end = 1 / max(coming.total, 1.0)
    waste = np.full(len(free) + 1, np.inf)  # the last: does not fit
    for states, after in static.levels:
        best = waste.take(after).min(axis=0)  # over the first axis: seven times as fast as over the last
        fits = np.isfinite(best)
        gain = np.where(fits, best, 0.0) @ chance
        waste[states] = (end * free[states] + gain) / (end + fits @ chance)
    return waste[:-1]


@lru_cache(maxsize=256)
def _static(tables: Tables) -> _Static:
    size = np.array([p.size // tables.unit for p in tables.model.profiles], np.float64)
    room = tables.room.astype(np.float64)
    running, drained = _leaving(tables, room)
    mask = np.arange(tables.states) & ((1 << tables.cells) - 1)
    share = np.where(size == size.max(), LARGEST_SHARE, OTHERS_SHARE)
    most = max(map(len, tables.of_profile))
    after = np.full((tables.states, len(size), most), tables.states)
    for k, places in enumerate(tables.of_profile):
        reached = tables.next_state[:, list(places)]
        after[:, k, : len(places)] = np.where(reached >= 0, reached, tables.states)
    levels = [np.flatnonzero(tables.free == n) for n in range(tables.cells + 1)]
    return _Static(
        size,
        running[mask],
        room,
        room + share * drained[mask],
        tuple((ids, np.ascontiguousarray(after[ids].transpose(2, 0, 1))) for ids in levels),
    )


def _leaving(tables: Tables, room: Floats) -> tuple[Floats, Floats]:
    """Instances behind each mask, and DRAIN_RATE * integral of exp(-DRAIN_RATE t) E[room after t lifetimes] dt.

    A mask does not say where its instances start: every way to cut it into placements is taken as equally likely,
    and each instance leaves at rate 1. A mask that no placements make keeps its room.
    """
    places = {(p.start // tables.unit, p.size // tables.unit) for p in tables.placements}
    blocks = [((1 << size) - 1) << start for start, size in sorted(places)]
    masks = np.arange(1 << tables.cells)
    ways, running, drained = np.zeros(len(masks)), np.zeros(len(masks)), room[: len(masks)].copy()
    ways[0] = 1
    for used in range(1, tables.cells + 1):
        level = masks[np.bitwise_count(masks) == used]
        for block in blocks:
            first = level[((level & block) == block) & ((level & -level) == (block & -block))]
            ways[first] += ways[first ^ block]
        made = level[ways[level] > 0]
        total = DRAIN_RATE * drained[made]
        for block in blocks:
            rate = np.where((made & block) == block, ways[made & ~block] / ways[made], 0.0)
            running[made] += rate
            total += rate[:, None] * drained[made & ~block]
        drained[made] = total / (DRAIN_RATE + running[made])[:, None]
    return running, drained
