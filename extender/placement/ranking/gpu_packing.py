"""GpuPacking: share a GPU in use first, then take free GPUs of a node in use, then open the smallest free node.

`GpuPackingScore` of hkust-adsl/kubernetes-scheduler-simulator@8f3d641.
"""

import numpy as np

from extender.placement.ranking.jit import compiled
from extender.placement.ranking.nodes import IntArray, NodeRanking, Seen
from extender.placement.scorers.base import Floats


@compiled
def gpu_packing_score(gpus: IntArray, gpu_count: int, milli: int, wanted: int) -> int:
    """`gpus`: free milli in descending order, on a node that holds the pod.

    0 for a CPU-only pod; max(33 - n, n) for a free node of n GPUs; max(50 - n, 33) if n of the fullest GPUs that hold
    the pod are free; else max(100 - (sum of their free percent) // 10, 50).
    """
    if wanted == 0:
        return 0
    free = 0
    for i in range(gpus.size):
        if gpus[i] == 1000:
            free += 1
    if free == gpu_count:
        return int(max(33 - free, free))
    taken, taken_free, left_pct = 0, 0, 0
    for i in range(gpus.size - 1, -1, -1):
        if gpus[i] >= milli and taken < wanted:
            taken += 1
            left_pct += gpus[i] * 100 // 1000
            if gpus[i] == 1000:
                taken_free += 1
    if taken_free > 0:
        return int(max(50 - taken_free, 33))
    return int(max(100 - left_pct // 10, 50))


@compiled
def _score_nodes(seen: Seen, score: Floats) -> None:
    for i in range(score.size):
        score[i] = gpu_packing_score(seen.gpus[i], seen.gpu_count[i], seen.milli[i], seen.wanted)


class GpuPacking(NodeRanking):
    def score(self, seen: Seen) -> Floats:
        score = np.zeros(len(seen.milli))
        _score_nodes(seen, score)
        return score
