"""The workload mix, learnt from the pods that arrive."""

import math
from typing import Final

import numpy as np

from extender.placement.spr.mix import Mix, mix_of_counts
from extender.placement.spr.model import (
    ANY_KIND_MASK,
    GPU_MILLI,
    LIMITLESS,
    FloatArray,
    IntArray,
    Nodes,
    PodClasses,
)

# Half of what is known is forgotten after this many arrivals: long against the few thousand that a mix of a hundred
# types takes to learn, short against a workload that changes over weeks.
HALF_LIFE_ARRIVALS: Final = 16384.0
# Pods' worth of belief in what is expected before anything has arrived: outweighed after some dozens of arrivals.
SIZE_PODS: Final = 8.0
SIZES_GPU_MILLI: Final = (250, 500, 1000)
# Somebody names each kind of node: pods that name none keep off the scarce ones until it is known that nobody does.
NAMED_KIND_PODS: Final = 4.0
# Somebody wants the whole node, for each size of node: without it a pod of 8 GPUs that comes first after all large
# nodes were opened has nowhere to go. At 1 the first pods fill small nodes, also of kinds that others will name, so as
# to keep large ones whole: .3 points less on gpuspec33.
WHOLE_NODE_PODS: Final = 0.25


class MixLearner:
    """Decaying counts of wishes over a weak prior; nothing else is known but what has arrived.

    A wish is what one pod asks for. As a class of pods it is one row, or several that share it, where it comes to
    something else on each kind of node.
    """

    def __init__(self, nodes: Nodes) -> None:
        self._rows, self._wish_of_row, self._part = np.zeros((0, 5), np.int64), np.zeros(0, np.int64), np.zeros(0)
        self._counts = np.zeros(0)
        self._faded = 1.0
        self.see(nodes)

    @staticmethod
    def of_classes(classes: PodClasses, nodes: Nodes) -> "MixLearner":
        """Each class is a wish."""
        learner, count = MixLearner(nodes), classes.cpu_milli.size
        learner.describe(count, classes.rows(), np.arange(count), np.ones(count))
        return learner

    def see(self, nodes: Nodes) -> None:
        """Nodes there are now: they make the prior, which has faded as all that was learnt has."""
        self._prior, belief = _prior(nodes)
        self._belief = belief * self._faded

    def describe(self, wishes: int, rows: IntArray, wish_of_row: IntArray, part: FloatArray) -> None:
        """Class rows of so many wishes, those known before first; `part`: of its wish, for each row."""
        self._rows, self._wish_of_row, self._part = rows, wish_of_row, part
        self._counts = np.append(self._counts, np.zeros(wishes - self._counts.size))

    @property
    def pods(self) -> float:
        """How many pods the mix rests on, with the forgotten ones left out and the prior in."""
        return math.fsum(self._counts) + math.fsum(self._belief)

    def observe(self, wish_of_arrival: IntArray) -> None:
        kept = 0.5 ** (wish_of_arrival.size / HALF_LIFE_ARRIVALS)
        self._counts *= kept
        self._belief *= kept
        self._faded *= kept
        self._counts += np.bincount(wish_of_arrival, minlength=self._counts.size)

    def forget_rarest(self) -> int:
        """The wish that was seen least; its number is free for another."""
        rarest = int(self._counts.argmin())
        self._counts[rarest] = 0.0
        return rarest

    def mix(self) -> Mix:
        classes = PodClasses.of_rows(np.concatenate([self._rows, self._prior]))
        return mix_of_counts(classes, np.concatenate([self._counts[self._wish_of_row] * self._part, self._belief]))


def _prior(nodes: Nodes) -> tuple[IntArray, FloatArray]:
    """Expected pods as class rows, and how many of each.

    Parts of a GPU with half of the cluster's CPU and memory per GPU, one GPU of each kind of node by name, and a whole
    node of each size above one GPU.
    """
    if not nodes.gpu_count.size:
        return np.zeros((0, 5), np.int64), np.zeros(0)
    gpus = 2 * int(nodes.gpu_count.sum())
    told_cpu = np.where(nodes.cpu_milli < LIMITLESS, nodes.cpu_milli, 0)
    told_memory = np.where(nodes.memory_mib < LIMITLESS, nodes.memory_mib, 0)
    cpu_milli, memory_mib = int(told_cpu.sum()) // gpus, int(told_memory.sum()) // gpus
    parts = [
        (cpu_milli * milli // GPU_MILLI, memory_mib * milli // GPU_MILLI, milli, 1, ANY_KIND_MASK)
        for milli in SIZES_GPU_MILLI
    ]
    named = [(cpu_milli, memory_mib, GPU_MILLI, 1, 1 << int(kind)) for kind in np.unique(nodes.kind_id)]
    sizes = np.unique(np.stack([told_cpu, told_memory, nodes.gpu_count], axis=1), axis=0)
    whole = [(int(cpu), int(memory), GPU_MILLI, int(n), ANY_KIND_MASK) for cpu, memory, n in sizes if n > 1]
    belief = [
        *([SIZE_PODS / len(parts)] * len(parts)),
        *([NAMED_KIND_PODS / len(named)] * len(named)),
        *([WHOLE_NODE_PODS] * len(whole)),
    ]
    return np.array(parts + named + whole, dtype=np.int64), np.array(belief)
