"""DotProd: the node whose free resources point least in the direction of the pod's request.

`DotProductScore` with `-dimext merge -norm max` of hkust-adsl/kubernetes-scheduler-simulator@8f3d641.
"""

from typing import Final

import numpy as np

from extender.placement.ranking.jit import compiled
from extender.placement.ranking.nodes import IntArray, NodeRanking, Seen
from extender.placement.scorers.base import Floats

CPU_SCALE_MILLI: Final = 128000.0  # the published normalisation: openb's largest node
GPU_SCALE_MILLI: Final = 8000.0


@compiled
def dot_prod_score(cpu_left_milli: int, gpu_left_milli: int, cpu_milli: int, request_milli: int) -> int:
    """int(100 (1 - d)), d = (CPU left x CPU asked / 128,000^2 + GPU left x GPU asked / 8,000^2) / 2."""
    product = cpu_left_milli / CPU_SCALE_MILLI * cpu_milli / CPU_SCALE_MILLI
    product += gpu_left_milli / GPU_SCALE_MILLI * request_milli / GPU_SCALE_MILLI
    return int(100.0 * (1.0 - product / 2.0))


@compiled
def _score_nodes(seen: Seen, left_milli: IntArray, score: Floats) -> None:
    for i in range(score.size):
        request_milli = seen.wanted * seen.milli[i]
        score[i] = dot_prod_score(seen.cpu_free_milli[i], left_milli[i], seen.cpu_milli, request_milli)


class DotProd(NodeRanking):
    def score(self, seen: Seen) -> Floats:
        score = np.zeros(len(seen.milli))
        _score_nodes(seen, seen.gpus.sum(axis=1), score)
        return score
