"""The workload mix, learnt from the pods that arrive."""

from typing import Final

import numpy as np

from sim.packing.mix import Mix, mix_of_counts
from sim.packing.model import ANY_KIND_MASK, GPU_MILLI, FloatArray, IntArray, Nodes, PodClasses

# Half of what is known is forgotten after this many arrivals: long against the few thousand that a mix of a hundred
# types takes to learn, short against a workload that changes over weeks.
HALF_LIFE_ARRIVALS: Final = 16384.0
# Pods' worth of belief in what is expected before anything has arrived: outweighed after some dozens of arrivals.
SIZE_PODS: Final = 8.0
SIZES_GPU_MILLI: Final = (250, 500, 1000)
# Somebody names each kind of node: pods that name none keep off the scarce ones until it is known that nobody does.
NAMED_KIND_PODS: Final = 4.0
# Somebody wants the whole node, for each size of node: without it a pod of 8 GPUs that comes first after all large
# nodes were opened has nowhere to go.
WHOLE_NODE_PODS: Final = 1.0


class MixLearner:
    """Decaying counts of classes over a weak prior; nothing else is known but what has arrived."""

    def __init__(self, classes: PodClasses, nodes: Nodes) -> None:
        prior, belief = _prior(nodes)
        self._classes = PodClasses.of_rows(np.concatenate([classes.rows(), prior]))
        self._counts = np.concatenate([np.zeros(classes.cpu_milli.size), belief])

    @property
    def pods(self) -> float:
        """How many pods the mix rests on, with the forgotten ones left out and the prior in."""
        return float(self._counts.sum())

    def observe(self, class_of_arrival: IntArray) -> None:
        self._counts *= 0.5 ** (class_of_arrival.size / HALF_LIFE_ARRIVALS)
        self._counts += np.bincount(class_of_arrival, minlength=self._counts.size)

    def mix(self) -> Mix:
        return mix_of_counts(self._classes, self._counts)


def _prior(nodes: Nodes) -> tuple[IntArray, FloatArray]:
    """Expected pods as class rows, and how many of each.

    Parts of a GPU with half of the cluster's CPU and memory per GPU, one GPU of each kind of node by name, and a whole
    node of each size above one GPU.
    """
    gpus = 2 * int(nodes.gpu_count.sum())
    cpu_milli, memory_mib = int(nodes.cpu_milli.sum()) // gpus, int(nodes.memory_mib.sum()) // gpus
    parts = [
        (cpu_milli * milli // GPU_MILLI, memory_mib * milli // GPU_MILLI, milli, 1, ANY_KIND_MASK)
        for milli in SIZES_GPU_MILLI
    ]
    named = [(cpu_milli, memory_mib, GPU_MILLI, 1, 1 << int(kind)) for kind in np.unique(nodes.kind_id)]
    sizes = np.unique(np.stack([nodes.cpu_milli, nodes.memory_mib, nodes.gpu_count], axis=1), axis=0)
    whole = [(int(cpu), int(memory), GPU_MILLI, int(n), ANY_KIND_MASK) for cpu, memory, n in sizes if n > 1]
    belief = [
        *([SIZE_PODS / len(parts)] * len(parts)),
        *([NAMED_KIND_PODS / len(named)] * len(named)),
        *([WHOLE_NODE_PODS] * len(whole)),
    ]
    return np.array(parts + named + whole, dtype=np.int64), np.array(belief)
