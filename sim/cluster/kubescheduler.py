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
from sim.cluster.preemption import Cores, Preemption, Resident, preempt

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
    preempts: Preemption | None = None


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
    """`asked`: the nodes that the extender was asked about last. `cores`: its own accounts."""

    ledger: Ledger
    random: np.random.Generator
    attempts: dict[str, int] = field(default_factory=dict)
    percentage: int = 0  #: percentageOfNodesToScore; 0: the scheduler's own choice
    cordoned: set[str] = field(default_factory=set)
    asked: Sequence[str] = ()
    cores: Cores = field(default_factory=Cores)
    _next_start: int = 0

    def schedule(
        self, demand: Demand, now_s: float, *, cpu_milli: int = 0, never: bool = False
    ) -> Bound | Unschedulable:
        """One cycle for one pod: filter, prioritize unless one node is left, reserve, bind; or preempt."""
        pod = Resident(demand, cpu_milli, now_s, never)
        self.asked, full = self._sample(pod)
        best = best_nodes(self.ledger, demand, self.asked, now_s)
        if isinstance(best, Filtered):
            refused = Filtered(failed=full | best.failed, unresolvable=best.unresolvable)
            found = preempt(self.ledger, self.cores, pod, refused, now_s)
            why = _summary(refused.failed | refused.unresolvable)
            if isinstance(found, str):
                return self._refused(demand, f"{why}. {found}" if self.cores.of_node else why, now_s)
            self._nominate(pod, found.node)
            return self._refused(demand, f"{why}. preemption: nominated to {found.node}", now_s, found)
        node = best[0] if len(best) == 1 else best[int(self.random.integers(len(best)))]
        reserved = self.ledger.assume(demand.uid, demand.key, demand, node, now_s)
        if isinstance(reserved, Refusal):
            return self._refused(demand, f"{node}: {reserved.why}", now_s)
        self.ledger.confirm(demand.uid)
        self.attempts.pop(demand.uid, None)
        self.cores.put(node, pod)
        return Bound(node, reserved)

    def _nominate(self, pod: Resident, node: str) -> None:
        """Pods of lower priority that were to come there look for another node."""
        nominated = self.cores.nominated
        for uid in [u for u, (there, other) in nominated.items() if there == node and other.priority < pod.priority]:
            del nominated[uid]
        nominated[pod.uid] = node, pod

    def _sample(self, pod: Resident) -> tuple[list[str], dict[str, str]]:
        """The nodes that the extender is asked about, and those without CPUs for it.

        In a large cluster not all, and other ones each time. Slices are managed by the extender alone
        (ignoredByScheduler), so the scheduler's own filters know of CPUs and of cordoned nodes only, and stop when they
        have enough; a pod may stay pending although a node beyond them has room.
        """
        nodes, full = self.ledger.nodes(), dict[str, str]()
        wanted, found, seen = nodes_to_find(len(nodes), self.percentage), list[str](), 0
        while seen < len(nodes) and len(found) < wanted:
            name = nodes[(self._next_start + seen) % len(nodes)]
            seen += 1
            if name in self.cordoned:
                continue
            if self.cores.has_room(name, pod):
                found.append(name)
            else:
                full[name] = "Insufficient cpu"
        self._next_start = (self._next_start + seen) % max(1, len(nodes))
        return found, full

    def _refused(self, demand: Demand, why: str, now_s: float, preempts: Preemption | None = None) -> Unschedulable:
        attempts = self.attempts.get(demand.uid, 0)
        self.attempts[demand.uid] = attempts + 1
        return Unschedulable(why, now_s + min(BACKOFF_S[0] * 2**attempts, BACKOFF_S[1]), preempts)


def _summary(reasons: dict[str, str]) -> str:
    """As the scheduler's event: each reason with the number of its nodes."""
    counts: dict[str, int] = {}
    for why in reasons.values():
        counts[why] = counts.get(why, 0) + 1
    return f"0/{len(reasons)} nodes are available: " + ", ".join(f"{n} {why}" for why, n in sorted(counts.items()))
