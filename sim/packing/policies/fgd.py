"""FGD, fragmentation gradient descent: place where the expected fragmentation grows least.

    score = int(100 sigmoid((F(node before) - F(node after)) / 1000)),  F in `sim.packing.fragmentation`

A pod that shares a GPU is tried on each GPU that holds it, the best one counts. The mix is given: the types with 95 % of
the original trace's pods. Weng et al., USENIX ATC 2023; `FGDScore` of hkust-adsl/kubernetes-scheduler-simulator@8f3d641.
"""

import numpy as np

from sim.packing.cluster import empty_cluster, requests_of
from sim.packing.engine import Tables, new_scores, no_watch, place_sequence
from sim.packing.fragmentation import TYPICAL_COVERAGE, typical_pods
from sim.packing.mix import mix_of_counts
from sim.packing.model import Experiment, Placement
from sim.packing.spr.prices import Groups, Prices
from sim.packing.spr.rollout import Streams
from sim.packing.states import new_states


def fgd_tables(experiment: Experiment) -> Tables:
    mix = mix_of_counts(experiment.trace.classes, experiment.trace.counts(), TYPICAL_COVERAGE)
    none, few, reals = np.zeros(0, dtype=np.int64), np.zeros(0, dtype=np.int32), np.zeros(0)
    streams = Streams(np.zeros((1, 2), dtype=np.int64), few, few, few, few, few, reals)
    prices = Prices(Groups(none, none, none, none, none), reals, reals)
    return Tables(by_fragmentation=True, typical=typical_pods(mix), streams=streams, prices=prices)


class FgdRun:
    """One experiment under FGD."""

    def __init__(self, experiment: Experiment, _seed: int) -> None:
        self._arrivals = experiment.class_of_arrival
        self._cluster = empty_cluster(experiment.nodes)
        self._requests = requests_of(experiment.trace.classes)
        nodes = experiment.nodes.cpu_milli.size
        self._states = new_states(nodes)
        self._scores = new_scores(int(self._requests.type_id.max()) + 1, nodes, self._states)
        self._tables = fgd_tables(experiment)
        self.placement = Placement(np.full(self._arrivals.size, -1), np.full(self._arrivals.size, -1))

    def advance(self, begin: int, end: int) -> int:
        """Place arrivals `begin` to `end`; how many were placed or refused: all."""
        handled, _ = place_sequence(
            self._cluster,
            self._requests,
            self._arrivals[begin:end],
            self._states,
            self._tables,
            self._scores,
            no_watch(),
            self.placement.node_of_arrival[begin:end],
            self.placement.gpu_of_arrival[begin:end],
        )
        return handled
