"""The workload mix: pod types and how common each is."""

from dataclasses import dataclass
from typing import Final

import numpy as np

from extender.placement.spr.model import FloatArray, IntArray, PodClasses

# hkust-adsl/kubernetes-scheduler-simulator@8f3d641 counts a pod without a CPU request as asking for 100 m.
CPU_MILLI_WITHOUT_REQUEST: Final = 100


@dataclass(frozen=True, slots=True)
class Mix:
    """Pod types and the share of the pods that each has."""

    cpu_milli: IntArray
    memory_mib: IntArray
    gpu_milli: IntArray
    gpu_count: IntArray
    kind_mask: IntArray
    share: FloatArray


def mix_of_counts(classes: PodClasses, counts: FloatArray, coverage: float = 1.0, *, memory: bool = True) -> Mix:
    """Types by frequency (ties: the larger request), as many as `coverage` of the pods need; shares add up to 1.

    `memory=False`: pods that differ in memory alone are one type, which asks for none.
    """
    cpu = np.where(classes.cpu_milli == 0, CPU_MILLI_WITHOUT_REQUEST, classes.cpu_milli)
    asked_mib = classes.memory_mib if memory else np.zeros_like(classes.memory_mib)
    keys = np.stack([cpu, asked_mib, classes.gpu_milli, classes.gpu_count, classes.kind_mask], axis=1)
    types, inverse = np.unique(keys, axis=0, return_inverse=True)
    weights = np.bincount(inverse.ravel(), weights=counts, minlength=len(types))
    order = np.lexsort((-types[:, 4], -types[:, 1], -types[:, 0], -types[:, 2], -types[:, 3], -weights))
    order = order[weights[order] > 0]
    share = weights[order] / weights[order].sum()
    kept = order[: int(np.searchsorted(np.cumsum(share), coverage - 1e-12)) + 1]
    share = weights[kept] / weights[kept].sum()
    columns = [np.ascontiguousarray(types[kept, column]) for column in range(5)]
    return Mix(columns[0], columns[1], columns[2], columns[3], columns[4], share)
