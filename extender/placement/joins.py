"""Which GPUs of a node a pod of several whole GPUs should have: joined as well as can be, breaking as little as can be.

Exact for nodes of up to MAX_GPUS GPUs: all sets are looked at, as arrays. On larger ones nothing joins anything.
"""

from collections.abc import Sequence
from functools import lru_cache
from itertools import combinations
from typing import Final

import numpy as np
from numpy.typing import NDArray

from extender.placement.links import MAX_GPUS, End, Link, Tier, strength

#: By row and column of GPUs how strongly two are joined; symmetric, 0 on the diagonal.
Joins = tuple[tuple[int, ...], ...]

NO_JOINS: Final[Joins] = ()  # of a node about which nothing is known, and of one with too many GPUs


def joins_of(gpus: Sequence[End]) -> Joins:
    """Of all GPUs of a node in their order."""
    if len(gpus) > MAX_GPUS or not any(g.known for g in gpus):
        return NO_JOINS
    return tuple(tuple(0 if a is b else strength(a, b) for b in gpus) for a in gpus)


@lru_cache(maxsize=128)  # 256 KiB each with 16 GPUs, 1 KiB with 8
def largest_joined(joins: Joins) -> NDArray[np.int8]:  # (tiers, 2^g)
    """Of each set of GPUs, bit i of its number for GPU i: how many of them are joined, every two, in each tier."""
    g = len(joins)
    found = np.zeros((len(Tier), 1 << g), np.int8)
    levels = np.minimum(np.array(joins, np.int64).reshape(g, g), Tier.NVLINK)
    for tier in Tier:
        for i in range(g):
            near = sum(1 << j for j in range(i) if levels[i, j] >= tier)
            below = found[tier, : 1 << i]
            found[tier, 1 << i : 2 << i] = np.maximum(below, 1 + below[np.arange(1 << i) & near])
    return found


def choose(gpus: Sequence[End], count: int, link: Link) -> tuple[Tier, tuple[int, ...]] | None:
    """How `count` of some free GPUs are joined, and their places, ascending; None if `link` cannot be had.

    None too if there are too few. The weakest join of the set goes first, then all of them together; of equal sets
    the one that leaves the others joined best, for the next pod; then the first. For ANY only what is left counts.
    """
    if len(gpus) < count:
        return None
    joins, alone = joins_of(gpus), count < 2
    chosen = _choose(joins, count, inward=link is not Link.ANY) if joins else tuple(range(count))
    weakest = min((joins[i][j] if joins else 0 for i, j in combinations(chosen, 2)), default=0)
    tier = Tier.NVLINK if alone else Tier(min(weakest, Tier.NVLINK))
    return None if link is Link.REQUIRE and tier < Tier.NVLINK else (tier, chosen)


@lru_cache(maxsize=4096)
def _choose(joins: Joins, count: int, *, inward: bool) -> tuple[int, ...]:
    sets, strengths = _sets(len(joins), count), np.array(joins, np.int32)
    to_each = sets @ strengths  # (sets, g): what joins each GPU to the set
    within = (to_each * sets).sum(axis=1) // 2
    broken = to_each.sum(axis=1) - within  # all joins of its GPUs, which the others lose
    keys = (broken, -within, -_weakest(sets, strengths)) if inward else (broken,)
    best = sets[np.lexsort(keys)[0]]  # the last key counts first, and the first of equals
    return tuple(np.flatnonzero(best).tolist())


@lru_cache(maxsize=256)
def _sets(g: int, count: int) -> NDArray[np.int32]:  # (sets, g), in the order of their places
    places = np.array(list(combinations(range(g), count)), np.intp)
    found = np.zeros((len(places), g), np.int32)
    np.put_along_axis(found, places, 1, axis=1)
    return found


def _weakest(sets: NDArray[np.int32], strengths: NDArray[np.int32]) -> NDArray[np.int32]:  # (sets,)
    """The weakest join of any two of each set."""
    found = np.zeros(len(sets), np.int32)
    apart = ~np.eye(len(strengths), dtype=bool)
    for level in np.unique(strengths).tolist():
        weaker = ((strengths < level) & apart).astype(np.int32)
        found[((sets @ weaker) * sets).sum(axis=1) == 0] = level
    return found
