"""A cluster at one moment, as the API's objects tell it, read for advice: who stands, who waits, who must stay.

Source of the eviction rules: kubernetes/kubernetes pkg/registry/core/pod/storage/eviction.go (one PodDisruptionBudget
at most, its status up to date, disruptionsAllowed above 0).
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

from extender.interest import matters
from extender.ledger import TERMINAL, Ledger
from extender.placement.advice import Advice, Asking, Placed, Rules, Standing, Unplaced, advise
from extender.placement.demand import PREFIX, Demand, DemandError
from extender.placement.eligible import admits, selects, unjudged
from extender.placement.holding import Holding, mapping, pod_key
from extender.placement.quantity import parse_count
from extender.rehearsal import Rehearsal

Json = Mapping[str, Any]

SESSIONS: Final = f"{PREFIX}sessions"
DO_NOT_EVICT: Final = f"{PREFIX}do-not-evict"
#: Source: https://karpenter.sh/docs/concepts/disruption/ (true, or a duration from the pod's start)
DO_NOT_DISRUPT: Final = "karpenter.sh/do-not-disrupt"
#: Source: https://kubernetes.io/docs/reference/labels-annotations-taints/#pod-deletion-cost
DELETION_COST: Final = "controller.kubernetes.io/pod-deletion-cost"
MOST_WAITING: Final = 20  # pods that wait and are looked at, the most important first
MOST_ALONE: Final = 8  # of those without room, how many are looked at one by one


@dataclass(frozen=True, slots=True)
class Objects:
    """What was listed. `renewed_s`: heartbeats of the node agents by node, seconds since the epoch."""

    nodes: Sequence[Json]
    pods: Sequence[Json]
    budgets: Sequence[Json]
    renewed_s: Mapping[str, float]


@dataclass(frozen=True, slots=True)
class Survey:
    """Ready to be asked. `notes`: what could not be used, for a person to look at."""

    board: Rehearsal
    nodes: tuple[str, ...]
    standing: tuple[Standing, ...]
    waiting: tuple[Asking, ...]
    budgets: Mapping[str, int]
    notes: tuple[str, ...]

    def for_demands(self, demands: Sequence[Demand], rules: Rules) -> list[Advice]:
        """For demands that nobody has yet; without any, for the fall of fragmentation that the rules want."""
        asked = [Asking(d, self.nodes) for d in demands]
        return [advise(self.board, asked, self.standing, replace(rules, budgets=self.budgets))]

    def for_waiting(self, rules: Rules) -> list[Advice]:
        """For the pods that wait, together; where nothing helps all of them, also for each that has no room.

        Pods more important than the least important of those without room stay.
        """
        together = self._for(self.waiting, rules)
        fits = [isinstance(p, Placed) for p in together.before.wanted]
        stuck = [a for a, yes in zip(self.waiting, fits, strict=True) if not yes]
        if together.proposals or len(stuck) < 2:
            return [together]
        roomy = [a for a, yes in zip(self.waiting, fits, strict=True) if yes]
        return [together, *(self._for([*roomy, a], rules) for a in stuck[:MOST_ALONE])]

    def _for(self, asking: Sequence[Asking], rules: Rules) -> Advice:
        places = self.board.rehearse((), asking).wanted
        lowest = min((p.demand.priority for p in places if isinstance(p, Unplaced)), default=rules.priority)
        return advise(self.board, asking, self.standing, replace(rules, budgets=self.budgets, priority=lowest))


def survey(objects: Objects, now_s: float, ledger: Ledger) -> Survey:
    """Reads all objects into an empty ledger. Raises ObjectError for what the API server could not have sent."""
    ledger.replace_nodes(objects.nodes)
    for name, renewed_s in objects.renewed_s.items():
        ledger.heartbeat(name, renewed_s)
    pods = {pod["metadata"]["uid"]: pod for pod in objects.pods if matters(pod)}
    ledger.replace_pods(objects.pods, now_s)
    usable = {n["metadata"]["name"]: n for n in objects.nodes if ledger.unusable(n["metadata"]["name"], now_s) is None}
    admission = _Admission(usable)
    notes = [str(p) for p in ledger.problems()]
    notes += [f"{name}: {ledger.unusable(name, now_s)}" for name in ledger.nodes() if name not in usable]
    waiting = sorted(_waiting(pods.values(), admission, notes), key=lambda a: (-a.demand.priority, a.demand.key))
    if len(waiting) > MOST_WAITING:
        notes.append(f"{len(waiting)} pods wait; the first {MOST_WAITING} by priority and name are looked at")
    return Survey(
        board=Rehearsal(ledger, pods, now_s),
        nodes=admission.nodes({}),
        standing=tuple(
            _standing(holding, pods[holding.uid], admission, objects.budgets)
            for holding in sorted(ledger.holdings(), key=lambda h: (h.key, h.uid))
        ),
        waiting=tuple(waiting[:MOST_WAITING]),
        budgets={pod_key(budget): _allowed(budget) for budget in objects.budgets},
        notes=tuple(sorted(notes)),
    )


class _Admission:
    """Nodes that take a pod. Asked once for all pods that want the same: those of one controller do."""

    def __init__(self, nodes: Mapping[str, Json]) -> None:
        self._nodes = nodes
        self._known: dict[str, tuple[str, ...]] = {}

    def nodes(self, pod: Json) -> tuple[str, ...]:
        spec = mapping(pod.get("spec"))
        wants = repr([spec.get(name) for name in ("nodeSelector", "affinity", "tolerations")])
        if wants not in self._known:
            self._known[wants] = tuple(sorted(name for name, node in self._nodes.items() if admits(node, pod)))
        return self._known[wants]


def _waiting(pods: Iterable[Json], admission: _Admission, notes: list[str]) -> Iterator[Asking]:
    for pod in pods:
        spec, gone = mapping(pod.get("spec")), mapping(pod["metadata"]).get("deletionTimestamp")
        ended = mapping(pod.get("status")).get("phase") in TERMINAL
        if spec.get("nodeName") or spec.get("schedulingGates") or gone or ended:
            continue
        try:
            demand = Demand.of(pod)
        except DemandError as e:
            notes.append(f"waits and is not looked at: {e}")
            continue
        why = unjudged(pod)
        if why is not None:
            notes.append(f"pod {pod_key(pod)} waits and is not looked at: {why}")
        elif demand is not None:
            yield Asking(demand, admission.nodes(pod))


def _standing(holding: Holding, pod: Json, admission: _Admission, budgets: Sequence[Json]) -> Standing:
    meta = mapping(pod.get("metadata"))
    annotations, labels = mapping(meta.get("annotations")), mapping(meta.get("labels"))
    namespace = meta.get("namespace") or "default"
    chosen = [b for b in budgets if (b["metadata"].get("namespace") or "default") == namespace]
    chosen = [b for b in chosen if selects(mapping(b.get("spec")).get("selector"), labels)]
    sessions = _sessions(annotations)
    try:
        demand = Demand.of(pod)
    except DemandError:
        demand = None  # what it holds is known by its record; what it would ask for is not
    return Standing(
        holding=holding,
        asking=None if demand is None else Asking(demand, admission.nodes(pod)),
        sessions=0 if isinstance(sessions, str) else sessions,
        budgets=tuple(sorted(pod_key(b) for b in chosen)),
        stays=_stays(pod, annotations) or (sessions if isinstance(sessions, str) else None) or unjudged(pod),
    )


def _stays(pod: Json, annotations: Json) -> str | None:
    """Marks that forbid an eviction, and owners that would not make the pod again elsewhere."""
    for name in (DO_NOT_EVICT, DO_NOT_DISRUPT):
        if annotations.get(name) not in {None, "false"}:
            return f"annotation {name} is {annotations[name]}"
    owners = mapping(pod.get("metadata")).get("ownerReferences")
    kinds = [mapping(o).get("kind") for o in owners if mapping(o).get("controller")] if isinstance(owners, list) else []
    if not kinds:
        return "no controller would make it again"
    if kinds[0] in {"DaemonSet", "Node"}:
        return f"its {kinds[0]} would make it again on the same node only"
    return None


def _sessions(annotations: Json) -> int | str:
    """Live sessions as the pod's annotation says, else a positive deletion cost; or why that is not known."""
    text = annotations.get(SESSIONS)
    if text is not None:
        count = parse_count(text)
        return f"annotation {SESSIONS}: want a whole number >= 0, got {text!r}" if count is None else count
    price = str(annotations.get(DELETION_COST, "0"))
    if not price.removeprefix("-").isdecimal():
        return f"annotation {DELETION_COST}: want a whole number, got {price!r}"
    return max(0, int(price))


def _allowed(budget: Json) -> int:
    """Evictions that it allows now; none while its status is older than its spec."""
    status, generation = mapping(budget.get("status")), budget["metadata"].get("generation")
    allowed, seen = status.get("disruptionsAllowed"), status.get("observedGeneration")
    behind = isinstance(generation, int) and isinstance(seen, int) and seen < generation
    return allowed if isinstance(allowed, int) and not behind else 0
