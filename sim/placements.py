"""Recorded pods through today's scheduler and extender: the same nodes, and the same slices on them?

What happened is shown to a ledger in its order, as the extender's watch and verbs saw it. Where several nodes are as
good, kube-scheduler draws one: whichever of them was recorded is right. Today's answer is compared and the recorded one
is kept, so that one difference is told once and not again with every pod after it.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from math import inf

from extender.ledger import Ledger, Refusal
from extender.placement.allocation import ALLOCATION, Allocation, AllocationError, said
from extender.placement.demand import Demand, DemandError
from extender.placement.holding import mapping
from extender.verbs import Filtered, score_nodes
from sim.cluster.kubescheduler import best_nodes
from sim.cluster.nodes import node_object
from sim.recorded import BindAsked, FilterAsked, Happened, NodeSeen, PodGone, PodSeen


@dataclass(frozen=True, slots=True)
class Place:
    """Where a pod was, as its own record says."""

    pod: str
    node: str
    slices: Sequence[str]


@dataclass(frozen=True, slots=True)
class Misplaced:
    """`recorded`, `today`: nodes, or slices."""

    at_s: float
    pod: str
    recorded: str
    today: str


@dataclass(frozen=True, slots=True)
class Placements:
    """`places`: of every pod whose way to its node was recorded, in the order of their Bindings."""

    places: Sequence[Place]
    differences: Sequence[Misplaced]


def placements(happened: Sequence[Happened]) -> Placements | None:
    """None where no pod's way to its node was recorded."""
    today = _Today()
    for one in happened:
        match one:
            case NodeSeen():
                today.node(one)
            case PodSeen():
                today.pod(one)
            case PodGone():
                today.gone(one)
            case FilterAsked():
                today.filter(one)
            case BindAsked():
                today.bind(one)
    return Placements(today.places, today.differences) if today.places else None


@dataclass(slots=True)
class _Today:
    """`nodes`: of which one is drawn for a pod that asked. `chosen`: what it would hold on the node that it got."""

    ledger: Ledger = field(default_factory=lambda: Ledger(stale_after_s=inf))
    demands: dict[str, Demand] = field(default_factory=dict)
    nodes: dict[str, list[str] | Filtered] = field(default_factory=dict)
    scores: dict[str, dict[str, int]] = field(default_factory=dict)  #: the extender's, of those nodes
    chosen: dict[str, Allocation | Refusal] = field(default_factory=dict)
    places: list[Place] = field(default_factory=list)
    differences: list[Misplaced] = field(default_factory=list)

    def node(self, seen: NodeSeen) -> None:
        if seen.inventory is None:
            self.ledger.drop_node(seen.node)
            return
        self.ledger.put_node_object(node_object(seen.node, seen.inventory, seen.images))
        self.ledger.heartbeat(seen.node, 0.0)

    def pod(self, seen: PodSeen) -> None:
        metadata, spec = mapping(seen.pod.get("metadata")), mapping(seen.pod.get("spec"))
        uid, node = str(metadata["uid"]), spec.get("nodeName")
        try:
            demand = Demand.of(seen.pod)
        except DemandError:
            demand = None  # refused by filter, then and today
        if demand is not None:
            self.demands[uid] = demand
        if isinstance(node, str) and uid in self.chosen:
            self._compare(
                seen.at_s, self.chosen.pop(uid), node, self.demands[uid], mapping(metadata.get("annotations"))
            )
        self.ledger.put_pod(seen.pod)

    def gone(self, gone: PodGone) -> None:
        self.ledger.drop_pod(gone.uid)
        self.ledger.expire(gone.at_s)
        for known in (self.demands, self.nodes, self.scores, self.chosen):
            known.pop(gone.uid, None)

    def filter(self, asked: FilterAsked) -> None:
        demand = self.demands.get(asked.uid)
        if demand is not None:
            self.ledger.forget(asked.uid)  # an attempt before this one, which came to nothing
            self.nodes[asked.uid] = best_nodes(self.ledger, demand, asked.nodes, asked.at_s)
            self.scores[asked.uid] = dict(score_nodes(self.ledger, demand, asked.nodes, asked.at_s))

    def bind(self, asked: BindAsked) -> None:
        demand = self.demands.get(asked.uid)
        nodes = self.nodes.pop(asked.uid, None)
        if demand is None or nodes is None:
            return
        if isinstance(nodes, Filtered):
            why = {**nodes.failed, **nodes.unresolvable}.get(asked.node, "not asked about it")
            self.differences.append(Misplaced(asked.at_s, demand.key, asked.node, f"none ({asked.node}: {why})"))
        elif asked.node not in nodes:
            scores = self.scores[asked.uid]
            today = (
                f"{' or '.join(nodes)} (score {scores[nodes[0]]}, {asked.node} {scores.get(asked.node, 'not asked')})"
            )
            self.differences.append(Misplaced(asked.at_s, demand.key, asked.node, today))
        self.chosen[asked.uid] = self.ledger.assume(asked.uid, demand.key, demand, asked.node, asked.at_s)

    def _compare(
        self, at_s: float, today: Allocation | Refusal, node: str, demand: Demand, annotations: Mapping[str, object]
    ) -> None:
        text = annotations.get(ALLOCATION)
        recorded: Allocation | Refusal
        try:
            recorded = Allocation.decode(text) if isinstance(text, str) else Allocation(())
        except AllocationError as e:
            recorded = Refusal(f"its record cannot be read: {e}")
        slices = _said(recorded)
        self.places.append(Place(demand.key, node, slices))
        if recorded != today:
            self.differences.append(Misplaced(at_s, demand.key, _on(node, slices), _on(node, _said(today))))


def _said(found: Allocation | Refusal) -> list[str]:
    return [found.why] if isinstance(found, Refusal) else [said(grant) for grant in found.grants()]


def _on(node: str, slices: Sequence[str]) -> str:
    return f"{node}: {', '.join(slices) or 'nothing'}"
