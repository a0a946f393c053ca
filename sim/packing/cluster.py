"""Free resources of the nodes, feasibility, and the placement of one pod (compiled)."""

from typing import NamedTuple

import numpy as np

from extender.placement.spr.cluster import CHANGES_KEPT, Cluster
from sim.packing.jit import compiled
from sim.packing.model import GPU_MILLI, GPUS_PER_NODE_MAX, IntArray, Nodes, PodClasses

__all__ = ["Cluster", "Requests", "empty_cluster", "fits", "place", "requests_of"]


class Requests(NamedTuple):
    """Pod classes for compiled code, indexed by class."""

    cpu_milli: IntArray
    memory_mib: IntArray
    gpu_milli: IntArray
    gpu_count: IntArray
    kind_mask: IntArray
    type_id: IntArray  # classes of one type share their scores


def empty_cluster(nodes: Nodes) -> Cluster:
    there = np.arange(GPUS_PER_NODE_MAX)[None, :] < nodes.gpu_count[:, None]
    return Cluster(
        nodes.cpu_milli.copy(),
        nodes.memory_mib.copy(),
        np.where(there, GPU_MILLI, 0).astype(np.int64),
        nodes.gpu_count.copy(),
        nodes.kind_id.copy(),
        np.zeros(CHANGES_KEPT, dtype=np.int64),
        np.zeros(1, dtype=np.int64),
    )


def requests_of(classes: PodClasses, *, memory: bool = True) -> Requests:
    """`memory=False`: classes that differ in memory alone are of one type."""
    keys = classes.rows()
    if not memory:
        keys[:, 1] = 0
    _, type_id = np.unique(keys, axis=0, return_inverse=True)
    return Requests(
        classes.cpu_milli,
        classes.memory_mib,
        classes.gpu_milli,
        classes.gpu_count,
        classes.kind_mask,
        type_id.ravel().astype(np.int64),
    )


@compiled
def fits(cluster: Cluster, node: int, requests: Requests, pod: int) -> bool:
    """Whether a pod of this class fits: CPU, memory, GPU model, and as many distinct GPUs as it asks for."""
    if cluster.cpu_free_milli[node] < requests.cpu_milli[pod]:
        return False
    if cluster.memory_free_mib[node] < requests.memory_mib[pod]:
        return False
    wanted = requests.gpu_count[pod]
    if wanted == 0:
        return True
    if (requests.kind_mask[pod] >> cluster.kind_id[node]) & 1 == 0:
        return False
    milli = requests.gpu_milli[pod]
    for gpu in range(8):
        if cluster.gpu_free_milli[node, gpu] >= milli:
            wanted -= 1
            if wanted == 0:
                return True
    return False


@compiled
def place(cluster: Cluster, node: int, requests: Requests, pod: int, chosen_gpu: int) -> None:
    """Take what the pod asks for: from `chosen_gpu`, or, if that is -1, from the first GPUs that have it."""
    cluster.changed_node[cluster.clock[0] % cluster.changed_node.size] = node
    cluster.clock[0] += 1
    cluster.cpu_free_milli[node] -= requests.cpu_milli[pod]
    cluster.memory_free_mib[node] -= requests.memory_mib[pod]
    wanted = requests.gpu_count[pod]
    milli = requests.gpu_milli[pod]
    if chosen_gpu >= 0:
        cluster.gpu_free_milli[node, chosen_gpu] -= milli
        return
    for gpu in range(8):
        if wanted > 0 and cluster.gpu_free_milli[node, gpu] >= milli:
            cluster.gpu_free_milli[node, gpu] -= milli
            wanted -= 1
