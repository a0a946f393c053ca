"""Random: any node that holds the pod, any GPU on it that does, with equal chances.

`RandomScore` and `-gpusel random` of hkust-adsl/kubernetes-scheduler-simulator@8f3d641, without a stream of draws: the
seed, the pod's uid and the node's name decide, so that asking twice, or another replica, gives the same answer.
"""

from hashlib import blake2b
from typing import Final

import numpy as np
from numpy.typing import NDArray

from extender.placement.demand import Demand
from extender.placement.fleet import Fleet
from extender.placement.ranking.nodes import IntArray, NodeRanking
from extender.placement.scorers.base import Bools, Floats

Words = NDArray[np.uint64]
_GOLDEN: Final = np.uint64(0x9E3779B97F4A7C15)


class RandomFit(NodeRanking):
    def __init__(self, fleet: Fleet, seed: int = 0) -> None:
        super().__init__(fleet)
        self._seed = seed
        self._layout, self._words = -1, np.zeros(0, np.uint64)

    def _prices(self, demand: Demand, fits: Bools, asked: IntArray, kind: int) -> Floats:  # noqa: ARG002  # as the others
        drawn = _uniform(self._of_nodes() ^ self._word(demand.uid))
        gib = float(self._fleet.total_mib.max()) / 1024
        return np.where(fits.any(axis=0), drawn * gib, np.inf)

    def share_on(self, node: str, demand: Demand, free_milli: IntArray, left_milli: IntArray) -> Floats:
        """(g,): a draw for each GPU of the node that holds the share."""
        gpus = np.arange(1, len(free_milli) + 1, dtype=np.uint64) * _GOLDEN
        drawn = _uniform(gpus ^ self._word(node) ^ self._word(demand.uid))
        return np.where(left_milli >= 0, drawn, np.inf)

    def _of_nodes(self) -> Words:  # (n,)
        fleet = self._fleet
        if self._layout != fleet.layout:
            self._layout, self._words = fleet.layout, np.zeros(len(fleet.renewed_s), np.uint64)
            for name, slot in fleet.slots.items():
                self._words[slot] = self._word(name)
        return self._words

    def _word(self, text: str) -> np.uint64:
        return np.uint64(int.from_bytes(blake2b(f"{self._seed}/{text}".encode(), digest_size=8).digest()))


def _uniform(words: Words) -> Floats:
    """[0, 1) of each, by the mixing of SplitMix64 (Steele, Lea and Flood, OOPSLA 2014)."""
    z = words + _GOLDEN
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    z ^= z >> np.uint64(31)
    return (z >> np.uint64(11)) / 2.0**53
