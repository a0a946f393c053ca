"""Values of an experiment: nodes, pods, and the order in which the pods arrive."""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from extender.placement.spr.model import (
    ANY_KIND_MASK,
    GPU_MILLI,
    GPUS_PER_NODE_MAX,
    KINDS_MAX,
    FloatArray,
    IntArray,
    Nodes,
    PodClasses,
)

__all__ = [
    "ANY_KIND_MASK",
    "GPUS_PER_NODE_MAX",
    "GPU_MILLI",
    "KINDS_MAX",
    "Experiment",
    "FloatArray",
    "IntArray",
    "Nodes",
    "Placement",
    "PodClasses",
    "Trace",
    "nothing_placed",
]


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
