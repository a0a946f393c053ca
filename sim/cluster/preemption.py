"""kube-scheduler's preemption: its own dry run on CPUs, the extender's verb, one node of those, its victims.

The dry run knows nothing of slices (ignoredByScheduler). So it names victims only where CPUs lack as well: a pod that
lacks a slice alone evicts nobody, and waits. The extender then says who has to go for the slice.
Source: kubernetes/kubernetes v1.36.3 `pkg/scheduler/framework/preemption/preemption.go` (Preempt, DryRunPreemption,
callExtenders, pickOneNodeForPreemption), `plugins/defaultpreemption/default_preemption.go` (SelectVictimsOnNode,
PodEligibleToPreemptOthers).
"""

from collections.abc import Container, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Final

from extender.ledger import Ledger
from extender.placement.model import Demand
from extender.verbs import Eviction, Filtered, pick_victims

_OFFSET: Final = 2**31  # added to priorities, so that fewer pods of a negative one are better


@dataclass(frozen=True, slots=True)
class Resident:
    """A pod as kube-scheduler sees it. `since_s`: when it was bound. `never`: preemptionPolicy Never."""

    demand: Demand
    cpu_milli: int = 0
    since_s: float = 0.0
    never: bool = False
    leaving: bool = False

    @property
    def uid(self) -> str:
        return self.demand.uid

    @property
    def priority(self) -> int:
        return self.demand.priority


@dataclass(frozen=True, slots=True)
class Preemption:
    """Who goes from which node. The preemptor is nominated there and waits until they are gone."""

    node: str
    victims: Sequence[Resident]


@dataclass(slots=True)
class Cores:
    """Thousandths of CPUs: of nodes that say how many they have, of the pods there, and of those nominated to come."""

    of_node: dict[str, int] = field(default_factory=dict)
    residents: dict[str, dict[str, Resident]] = field(default_factory=dict)
    where: dict[str, str] = field(default_factory=dict)  #: node of each resident
    nominated: dict[str, tuple[str, Resident]] = field(default_factory=dict)

    def on(self, node: str) -> Mapping[str, Resident]:
        return self.residents.get(node, {})

    def put(self, node: str, pod: Resident) -> None:
        self.nominated.pop(pod.uid, None)
        self.residents.setdefault(node, {})[pod.uid] = pod
        self.where[pod.uid] = node

    def leaves(self, uid: str) -> None:
        """It is being deleted."""
        self.nominated.pop(uid, None)
        if uid in self.where:
            node = self.where[uid]
            self.put(node, replace(self.residents[node][uid], leaving=True))

    def drop(self, uid: str) -> None:
        """It is gone."""
        self.nominated.pop(uid, None)
        if uid in self.where:
            del self.residents[self.where.pop(uid)][uid]

    def fits(self, node: str, pod: Resident, kept: Iterable[Resident]) -> bool:
        """Beside those that are kept, and those nominated here that go before it."""
        if node not in self.of_node:
            return True
        first = [other for there, other in self.nominated.values() if there == node and other.uid != pod.uid]
        used = sum(other.cpu_milli for other in first if other.priority >= pod.priority)
        return used + sum(other.cpu_milli for other in kept) + pod.cpu_milli <= self.of_node[node]

    def has_room(self, node: str, pod: Resident) -> bool:
        return self.fits(node, pod, self.on(node).values())

    def victims(self, node: str, pod: Resident) -> list[Resident]:
        """The dry run: the more important they are the sooner they are spared. Empty: the node is no candidate."""
        there = list(self.on(node).values())
        lower = [other for other in there if other.priority < pod.priority]
        kept = [other for other in there if other.priority >= pod.priority]
        if not self.fits(node, pod, kept):
            return []
        found = list[Resident]()
        for other in sorted(lower, key=lambda r: (-r.priority, r.since_s)):
            if self.fits(node, pod, [*kept, other]):
                kept.append(other)
            else:
                found.append(other)
        return found


def preempt(ledger: Ledger, cores: Cores, pod: Resident, refused: Filtered, now_s: float) -> Preemption | str:
    """What follows where no node fits; why nothing does."""
    why = _not_eligible(cores, pod, refused.unresolvable.keys())
    if why:
        return why
    candidates = {node: victims for node in refused.failed if (victims := cores.victims(node, pod))}
    if not candidates:
        return "preemption: no victims found: kube-scheduler counts CPUs, and no slices"
    asked = {node: Eviction(tuple(v.uid for v in victims)) for node, victims in candidates.items()}
    answered = pick_victims(ledger, pod.demand, asked, now_s)
    chosen = {node: [cores.on(node)[uid] for uid in eviction.uids] for node, eviction in answered.items()}
    if not chosen:
        return "preemption: the extender knows nobody whose eviction would help"
    node = min(chosen, key=lambda name: (_cost(chosen[name]), name))
    return Preemption(node, chosen[node])


def _not_eligible(cores: Cores, pod: Resident, unresolvable: Container[str]) -> str:
    if pod.never:
        return "preemption: preemptionPolicy is Never"
    node, _ = cores.nominated.get(pod.uid, ("", pod))
    leaving = any(other.leaving and other.priority < pod.priority for other in cores.on(node).values())
    if leaving and node not in unresolvable:
        return f"preemption: waits for pods that leave {node}"
    return ""


def _cost(victims: Sequence[Resident]) -> tuple[int, int, int, float]:
    """Lowest first: the highest priority, all of them, how many, and who of the highest began last."""
    highest = max(v.priority for v in victims)
    earliest_s = min(v.since_s for v in victims if v.priority == highest)
    return victims[0].priority, sum(v.priority + _OFFSET for v in victims), len(victims), -earliest_s
