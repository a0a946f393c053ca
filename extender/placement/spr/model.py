"""Nodes and pods as states of nodes are computed from them."""

from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

IntArray = npt.NDArray[np.int64]
FloatArray = npt.NDArray[np.float64]

GPU_MILLI: Final = 1000
GPUS_PER_NODE_MAX: Final = 8  # node states are packed for eight GPUs
KINDS_MAX: Final = 62  # a set of node kinds is one signed 64-bit word
ANY_KIND_MASK: Final = (1 << KINDS_MAX) - 1
LIMITLESS: Final = (1 << 31) - 1  # milli-CPU or MiB of a node that does not tell how much it has: never short


@dataclass(frozen=True, slots=True)
class Nodes:
    """Capacity of every node with GPUs; the row is the node's rank, which decides ties."""

    cpu_milli: IntArray
    memory_mib: IntArray
    gpu_count: IntArray
    kind_id: IntArray  # nodes of one kind are equal in GPU model, GPUs and CPU

    @property
    def gpu_milli_total(self) -> int:
        return int(self.gpu_count.sum()) * GPU_MILLI

    def permuted(self, order: IntArray) -> "Nodes":
        return Nodes(self.cpu_milli[order], self.memory_mib[order], self.gpu_count[order], self.kind_id[order])


@dataclass(frozen=True, slots=True)
class PodClasses:
    """Distinct requests, memory included."""

    cpu_milli: IntArray
    memory_mib: IntArray
    gpu_milli: IntArray  # per GPU; 0 for a CPU-only pod
    gpu_count: IntArray
    kind_mask: IntArray  # bit i: a node of kind i is allowed

    @staticmethod
    def of_rows(table: IntArray) -> "PodClasses":
        """From a table [class, field] with the fields in the order above."""
        return PodClasses(*(np.ascontiguousarray(table[:, column]) for column in range(5)))

    def rows(self) -> IntArray:
        return np.stack([self.cpu_milli, self.memory_mib, self.gpu_milli, self.gpu_count, self.kind_mask], axis=1)
