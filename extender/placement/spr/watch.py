"""What makes prices stale (compiled)."""

from typing import NamedTuple

import numpy as np

from extender.placement.spr.cluster import Cluster
from extender.placement.spr.jit import compiled
from extender.placement.spr.model import FloatArray, IntArray


class Watch(NamedTuple):
    """What makes the prices stale: enough work was placed, or copies of a watched type are gone."""

    work_left_milli: FloatArray  # [1]
    gpu_milli: IntArray
    gpu_count: IntArray
    kind_mask: IntArray
    cpu_milli: IntArray
    memory_mib: IntArray
    copies_left: FloatArray  # [watched type], until the prices are stale


def no_watch() -> Watch:
    none = np.zeros(0, dtype=np.int64)
    return Watch(np.full(1, np.inf), none, none, none, none, none, np.zeros(0))


@compiled
def _watched_copies(cluster: Cluster, node: int, watch: Watch, i: int) -> float:
    """Copies of watched type i on the node, counted as `prices.count_copies` does."""
    cpu_milli = cluster.cpu_free_milli[node]
    if cpu_milli < watch.cpu_milli[i] or (watch.kind_mask[i] >> cluster.kind_id[node]) & 1 == 0:
        return 0.0
    memory_mib = cluster.memory_free_mib[node]
    if memory_mib < watch.memory_mib[i]:
        return 0.0
    fitting = 0
    for gpu in range(8):
        if cluster.gpu_free_milli[node, gpu] >= watch.gpu_milli[i]:
            fitting += 1
    held = min(float(fitting // watch.gpu_count[i]), cpu_milli / watch.cpu_milli[i])
    return float(min(held, memory_mib / watch.memory_mib[i]))


@compiled
def add_watched(cluster: Cluster, node: int, watch: Watch, sign: float) -> bool:
    """Add the node's copies to what is left: sign -1 before it changes, 1 after; True if the prices are stale."""
    stale = False
    for i in range(watch.copies_left.size):
        watch.copies_left[i] += sign * _watched_copies(cluster, node, watch, i)
        if watch.copies_left[i] < 0.0:
            stale = True
    return stale


class Changed(NamedTuple):
    """Nodes, and what is free on each of them now."""

    nodes: IntArray
    cpu_milli: IntArray
    memory_mib: IntArray
    gpus: IntArray  # [changed, 8]


@compiled
def move_nodes(cluster: Cluster, watch: Watch, changed: Changed) -> bool:
    """True if the prices are stale by that."""
    stale = False
    for i in range(changed.nodes.size):
        node = changed.nodes[i]
        add_watched(cluster, node, watch, -1.0)
        cluster.cpu_free_milli[node] = changed.cpu_milli[i]
        cluster.memory_free_mib[node] = changed.memory_mib[i]
        for gpu in range(8):
            cluster.gpu_free_milli[node, gpu] = changed.gpus[i, gpu]
        if add_watched(cluster, node, watch, 1.0):
            stale = True
    return stale
