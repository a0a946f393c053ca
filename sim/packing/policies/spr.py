"""SPR, scarcity-priced rollout, as the extender places by it: the default. `extender.placement.spr` has the formula."""

from extender.placement.spr.learner import MixLearner
from extender.placement.spr.policy import STREAM_SEED, Spr, due_after
from extender.placement.spr.potential import Expected
from sim.packing.engine import Desk, Tables, new_desk, place_sequence
from sim.packing.fragmentation import no_typical_pods
from sim.packing.model import Experiment, Nodes, PodClasses, nothing_placed


def spr_of(nodes: Nodes, classes: PodClasses, desk: Desk, stream_seed: int = STREAM_SEED) -> Spr:
    """What the policy knows before anything has arrived."""
    return Spr(nodes, MixLearner.of_classes(classes, nodes), desk.states, stream_seed)


def spr_tables(expected: Expected) -> Tables:
    return Tables(by_fragmentation=False, typical=no_typical_pods(), expected=expected)


class SprRun:
    """One experiment under the default policy."""

    def __init__(self, experiment: Experiment, _seed: int, stream_seed: int = STREAM_SEED) -> None:
        self._arrivals = experiment.class_of_arrival
        self._desk = new_desk(experiment.nodes, experiment.trace.classes)
        self._policy = spr_of(experiment.nodes, experiment.trace.classes, self._desk, stream_seed)
        expected, self._watch = self._policy.refresh(self._desk.cluster)
        self._tables = spr_tables(expected)
        self._observed = 0
        self._due = due_after(0)
        self._stale = False
        self.placement = nothing_placed(self._arrivals.size)

    def advance(self, begin: int, end: int) -> int:
        """Place arrivals from `begin` to `end` or to the next refresh; how many were placed or refused."""
        if self._stale or begin == self._due:
            self._refresh(begin)
        end = min(end, self._due)
        part = self.placement.part(begin, end)
        handled, self._stale = place_sequence(self._desk, self._tables, self._watch, self._arrivals[begin:end], part)
        return handled

    def _refresh(self, arrived: int) -> None:
        self._policy.observe(self._arrivals[self._observed : arrived])
        self._observed = arrived
        expected, self._watch = self._policy.refresh(self._desk.cluster)
        self._tables = spr_tables(expected)
        self._due = due_after(arrived)
        self._stale = False
