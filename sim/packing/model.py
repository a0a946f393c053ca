"""Values of an experiment: nodes, pods, and the order in which the pods arrive."""

from dataclasses import dataclass
from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt

IntArray = npt.NDArray[np.int64]
FloatArray = npt.NDArray[np.float64]

GPU_MILLI: Final = 1000
GPUS_PER_NODE_MAX: Final = 8  # node states are packed for eight GPUs
KINDS_MAX: Final = 62  # a set of node kinds is one signed 64-bit word
ANY_KIND_MASK: Final = (1 << KINDS_MAX) - 1


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


@dataclass(frozen=True, slots=True)
class Trace:
    """The pods of one file."""

    name: str
    classes: PodClasses
    class_of_pod: IntArray  # in the file's order

    def counts(self) -> FloatArray:
        """Pods of each class."""
        return np.bincount(self.class_of_pod, minlength=self.classes.cpu_milli.size).astype(np.float64)


@dataclass(frozen=True, slots=True)
class Experiment:
    """Nodes in the order of one seed, and the pods in the order in which they arrive."""

    nodes: Nodes
    trace: Trace
    class_of_arrival: IntArray


class Placement(NamedTuple):
    """Where each arrival went, -1 for nowhere; and on which GPU, -1 for the first that held it."""

    node_of_arrival: IntArray
    gpu_of_arrival: IntArray

    def part(self, begin: int, end: int) -> "Placement":
        """A view of some arrivals."""
        return Placement(self.node_of_arrival[begin:end], self.gpu_of_arrival[begin:end])


def nothing_placed(arrivals: int) -> Placement:
    return Placement(np.full(arrivals, -1, dtype=np.int64), np.full(arrivals, -1, dtype=np.int64))
