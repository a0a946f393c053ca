"""GpuClustering: keep pods of one kind together: those that share a GPU, or those of k whole GPUs.

`GpuClusteringScore` of hkust-adsl/kubernetes-scheduler-simulator@8f3d641.
"""

from typing import Final

from sim.packing.jit import compiled
from sim.packing.model import IntArray

KINDS_OF_POD: Final = 9  # 0: shares a GPU; k: takes k whole GPUs


@compiled
def kind_of_pod(milli: int, wanted: int) -> int:
    return wanted if milli == 1000 else 0


@compiled
def gpu_clustering_score(held: IntArray, gpu_left_milli: int, wanted: int, kind: int) -> int:
    """`held`: the node's GPU pods of each kind.

    0 for a CPU-only pod; else 25 (8000 - GPU left) // 8000, and 75 more if the node has this kind only, 50 if it has
    others too, 25 if it has no GPU pod.
    """
    if wanted == 0:
        return 0
    base = 25 * (8000 - gpu_left_milli) // 8000
    others = -held[kind]
    for i in range(held.size):
        others += held[i]
    if held[kind] > 0:
        return int(base + (75 if others == 0 else 50))
    return int(base + (25 if others == 0 else 0))
