"""The fewest GPUs that hold a set of MIG demands, known in advance and placed anywhere."""

from collections.abc import Sequence
from typing import Final

from extender.placement.profile import GpuModel
from sim.migpack.mixes import plain

#: Starts of 1g, 1g with double memory, 2g, 3g, 4g and 7g (NVIDIA MIG User Guide, "Supported MIG Profiles").
EIGHT_SLICES: Final = ((0, 1, 2, 3, 4, 5, 6), (0, 2, 4, 6), (0, 2, 4), (0, 4), (0,), (0,))


def fewest_gpus(model: GpuModel, counts: Sequence[int]) -> int:
    """`counts`: demands by plain profile, smallest first. Exact on the eight-slice grid; elsewhere a lower bound.

    The bound is by memory; it is exact where each size divides the next and every multiple of it is a start.
    """
    profiles = plain(model)
    if tuple(p.starts for p in profiles) != EIGHT_SLICES:
        used = sum(p.size * n for p, n in zip(profiles, counts, strict=True))
        return -(-used // max(p.size for p in profiles))
    gpus = 0
    while not _fits(counts[:-1], gpus):
        gpus += 1
    return gpus + counts[-1]


def _fits(counts: Sequence[int], gpus: int) -> bool:
    """Halves first: 4g fill low halves, 3g go high before low. What is left of a half is pairs of slices.

    A free low half has two pairs for any of the small ones. A free high half has one such pair, and slices 6 and 7,
    which a double-memory 1g uses whole, and a 1g only half.
    """
    n1, n_double, n2, n3, n4 = counts
    if n4 > gpus or n3 + n4 > 2 * gpus:
        return False
    low_3g = max(0, n3 - gpus)
    low, high = gpus - n4 - low_3g, gpus - (n3 - low_3g)
    pairs = 2 * low + high - n2 - max(0, n_double - high)
    return pairs >= 0 and n1 <= 2 * pairs + max(0, high - n_double)
