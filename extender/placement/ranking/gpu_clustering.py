"""GpuClustering: keep pods of one kind together: those that share a GPU, or those of k whole GPUs.

`GpuClusteringScore` of hkust-adsl/kubernetes-scheduler-simulator@8f3d641.
"""

import numpy as np

from extender.placement.ranking.jit import compiled
from extender.placement.ranking.nodes import IntArray, NodeRanking, Seen
from extender.placement.scorers.base import Floats


@compiled
def kind_of_pod(milli: int, wanted: int) -> int:
    return wanted if milli == 1000 else 0


@compiled
def gpu_clustering_score(held: IntArray, gpu_left_milli: int, wanted: int, kind: int) -> int:
    """`held`: GPU pods of each kind on the node, or 1 where there are some.

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


@compiled
def _score_nodes(seen: Seen, left_milli: IntArray, score: Floats) -> None:
    for i in range(score.size):
        score[i] = gpu_clustering_score(seen.held[i], left_milli[i], seen.wanted, seen.kind)


class GpuClustering(NodeRanking):
    def score(self, seen: Seen) -> Floats:
        score = np.zeros(len(seen.milli))
        _score_nodes(seen, seen.gpus.sum(axis=1), score)
        return score
