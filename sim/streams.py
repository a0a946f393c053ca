"""Named random streams: a policy that draws more often must not move the arrivals.

Each stream is a counter-based generator (Philox: Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", SC 2011)
keyed by the run's seed, the stream's name and the entity's number. Two runs that differ in policy alone see common
random numbers.
"""

from zlib import crc32

import numpy as np


def stream(seed: int, name: str, *entity: int) -> np.random.Generator:
    """The generator of one purpose (`name`) for one entity (`entity`, non-negative numbers) of one run (`seed`)."""
    key = np.random.SeedSequence(seed, spawn_key=(crc32(name.encode()), *entity))
    return np.random.Generator(np.random.Philox(key))
