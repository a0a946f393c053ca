"""How much of a GPU is free, as one number: thousandths, by what it has least of."""

import numpy as np
from numpy.typing import NDArray

Ints = NDArray[np.int64]


def milli_of(total_mib: NDArray[np.number], free_mib: NDArray[np.number], free_pct: NDArray[np.number]) -> Ints:
    """Of GPUs that are shared by memory and compute, any shape; 0 for a GPU without memory, which is none."""
    total = np.maximum(1, total_mib).astype(np.int64)
    by_memory = free_mib.astype(np.int64) * 1000 // total
    return np.asarray(np.minimum(by_memory, free_pct.astype(np.int64) * 10))
