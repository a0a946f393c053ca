"""FGD, fragmentation gradient descent: place where the expected fragmentation grows least.

    score = int(100 sigmoid((F(node before) - F(node after)) / 1000)),  F in `sim.packing.fragmentation`

A pod that shares a GPU is tried on each GPU that holds it, and the best one counts. The mix is given: the types with
95 % of the original trace's pods. Weng et al., USENIX ATC 2023; `FGDScore` of
hkust-adsl/kubernetes-scheduler-simulator@8f3d641.
"""

import numpy as np

from extender.placement.spr.potential import Expected
from extender.placement.spr.prices import Groups, Prices
from extender.placement.spr.rollout import Streams
from extender.placement.spr.watch import no_watch
from sim.packing.engine import Tables, new_desk, place_sequence
from sim.packing.fragmentation import TYPICAL_COVERAGE, typical_pods
from sim.packing.mix import mix_of_counts
from sim.packing.model import Experiment, Trace, nothing_placed


def fgd_tables(trace: Trace) -> Tables:
    mix = mix_of_counts(trace.classes, trace.counts(), TYPICAL_COVERAGE, memory=False)
    none, few, reals = np.zeros(0, dtype=np.int64), np.zeros(0, dtype=np.int32), np.zeros(0)
    streams = Streams(np.zeros((1, 2), dtype=np.int64), few, few, few, few, few, few, few, reals)
    prices = Prices(Groups(none, none, none, none, none, none, reals), reals, reals)
    return Tables(by_fragmentation=True, typical=typical_pods(mix), expected=Expected(streams, prices))


class FgdRun:
    """One experiment under FGD."""

    def __init__(self, experiment: Experiment, _seed: int) -> None:
        self._arrivals = experiment.class_of_arrival
        self._desk = new_desk(experiment.nodes, experiment.trace.classes, memory=False)
        self._tables = fgd_tables(experiment.trace)
        self.placement = nothing_placed(self._arrivals.size)

    def advance(self, begin: int, end: int) -> int:
        """Place arrivals `begin` to `end`; how many were placed or refused: all."""
        part = self.placement.part(begin, end)
        return place_sequence(self._desk, self._tables, no_watch(), self._arrivals[begin:end], part)[0]
