"""kube-scheduler with the extender as its only opinion: the extender's own verbs and ledger, called in its order.

Source: kubernetes/kubernetes v1.36.3 `pkg/scheduler/schedule_one.go` (one feasible node is not scored, ties are broken
at random), `pkg/scheduler/backend/queue/scheduling_queue.go` (back-off 1 s to 10 s, unschedulable pods move on cluster
events, and after 5 minutes anyway).
"""

from dataclasses import dataclass, field
from typing import Final

import numpy as np

from extender.ledger import Ledger, Refusal
from extender.placement.model import Allocation, Demand
from extender.verbs import filter_nodes, score_nodes

BACKOFF_S: Final = (1.0, 10.0)  # podInitialBackoffSeconds, podMaxBackoffSeconds
UNSCHEDULABLE_FLUSH_S: Final = 300.0


@dataclass(frozen=True, slots=True)
class Bound:
    node: str
    allocation: Allocation


@dataclass(frozen=True, slots=True)
class Unschedulable:
    why: str
    retry_s: float  #: not before this, even if room appears


@dataclass(slots=True)
class KubeScheduler:
    ledger: Ledger
    random: np.random.Generator
    attempts: dict[str, int] = field(default_factory=dict)

    def schedule(self, demand: Demand, now_s: float) -> Bound | Unschedulable:
        """One cycle for one pod: filter, prioritize unless one node is left, reserve, bind."""
        names = self.ledger.nodes()
        filtered = filter_nodes(self.ledger, demand, names, now_s)
        if not filtered.fit:
            return self._refused(demand, _summary(filtered.failed | filtered.unresolvable), now_s)
        node = filtered.fit[0] if len(filtered.fit) == 1 else self._best(demand, filtered.fit, now_s)
        reserved = self.ledger.assume(demand.uid, demand.key, demand, node, now_s)
        if isinstance(reserved, Refusal):
            return self._refused(demand, f"{node}: {reserved.why}", now_s)
        self.ledger.confirm(demand.uid)
        self.attempts.pop(demand.uid, None)
        return Bound(node, reserved)

    def _best(self, demand: Demand, names: list[str], now_s: float) -> str:
        """The weight of the only scorer changes no order."""
        scores = score_nodes(self.ledger, demand, names, now_s)
        top = max(score for _, score in scores)
        best = [name for name, score in scores if score == top]
        return best[0] if len(best) == 1 else best[int(self.random.integers(len(best)))]

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
