"""kube-scheduler with the extender as its only opinion: the extender's own verbs and ledger, called in its order.

Source: kubernetes/kubernetes v1.36.3 `pkg/scheduler/schedule_one.go` (how many nodes are looked at; one feasible node
is not scored, ties are broken at random), `pkg/scheduler/backend/queue/scheduling_queue.go` (back-off 1 s to 10 s,
unschedulable pods move on cluster events, and after 5 minutes anyway).
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

import numpy as np

from extender.ledger import Ledger, Refusal
from extender.placement.model import Allocation, Demand
from extender.verbs import Filtered, filter_nodes, score_nodes

BACKOFF_S: Final = (1.0, 10.0)  # podInitialBackoffSeconds, podMaxBackoffSeconds
UNSCHEDULABLE_FLUSH_S: Final = 300.0
FEWEST_NODES: Final = 100  # minFeasibleNodesToFind


def nodes_to_find(nodes: int, percentage: int) -> int:
    """How many feasible nodes end the search (numFeasibleNodesToFind)."""
    if nodes < FEWEST_NODES:
        return nodes
    chosen = percentage or max(50 - nodes // 125, 5)
    return max(nodes * chosen // 100, FEWEST_NODES)


@dataclass(frozen=True, slots=True)
class Bound:
    node: str
    allocation: Allocation


@dataclass(frozen=True, slots=True)
class Unschedulable:
    why: str
    retry_s: float  #: not before this, even if room appears


def best_nodes(ledger: Ledger, demand: Demand, names: Sequence[str], now_s: float) -> list[str] | Filtered:
    """Filter, then prioritize unless one node is left: the nodes of which one is drawn, or why there is none.

    The weight of the only scorer changes no order.
    """
    filtered = filter_nodes(ledger, demand, names, now_s)
    if not filtered.fit:
        return filtered
    if len(filtered.fit) == 1:
        return filtered.fit
    scores = score_nodes(ledger, demand, filtered.fit, now_s)
    top = max(score for _, score in scores)
    return [name for name, score in scores if score == top]


@dataclass(slots=True)
class KubeScheduler:
    """`asked`: the nodes that the extender was asked about last."""

    ledger: Ledger
    random: np.random.Generator
    attempts: dict[str, int] = field(default_factory=dict)
    percentage: int = 0  #: percentageOfNodesToScore; 0: the scheduler's own choice
    cordoned: set[str] = field(default_factory=set)
    asked: Sequence[str] = ()
    _next_start: int = 0

    def schedule(self, demand: Demand, now_s: float) -> Bound | Unschedulable:
        """One cycle for one pod: filter, prioritize unless one node is left, reserve, bind."""
        self.asked = self._sample()
        best = best_nodes(self.ledger, demand, self.asked, now_s)
        if isinstance(best, Filtered):
            return self._refused(demand, _summary(best.failed | best.unresolvable), now_s)
        node = best[0] if len(best) == 1 else best[int(self.random.integers(len(best)))]
        reserved = self.ledger.assume(demand.uid, demand.key, demand, node, now_s)
        if isinstance(reserved, Refusal):
            return self._refused(demand, f"{node}: {reserved.why}", now_s)
        self.ledger.confirm(demand.uid)
        self.attempts.pop(demand.uid, None)
        return Bound(node, reserved)

    def _sample(self) -> list[str]:
        """The nodes that the extender is asked about: in a large cluster not all, and other ones each time.

        Slices are managed by the extender alone (ignoredByScheduler), so the scheduler's own filters let every node
        pass but cordoned ones, and stop when they have enough; a pod may stay pending although a node beyond them has
        room.
        """
        nodes = self.ledger.nodes()
        wanted, found, seen = nodes_to_find(len(nodes), self.percentage), list[str](), 0
        while seen < len(nodes) and len(found) < wanted:
            name = nodes[(self._next_start + seen) % len(nodes)]
            seen += 1
            if name not in self.cordoned:
                found.append(name)
        self._next_start = (self._next_start + seen) % max(1, len(nodes))
        return found

    def _refused(self, demand: Demand, why: str, now_s: float) -> Unschedulable:
        attempts = self.attempts.get(demand.uid, 0)
        self.attempts[demand.uid] = attempts + 1
        return Unschedulable(why, now_s + min(BACKOFF_S[0] * 2**attempts, BACKOFF_S[1]))


def _summary(reasons: dict[str, str]) -> str:
    """As the scheduler's event: each reason with the number of its nodes."""
    counts: dict[str, int] = {}
    for why in reasons.values():
        counts[why] = counts.get(why, 0) + 1
    return f"0/{len(reasons)} nodes are available: " + ", ".join(f"{n} {why}" for why, n in sorted(counts.items()))
