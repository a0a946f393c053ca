"""A Deployment's pods: born, bound, started, ready, terminating, gone; and who goes first."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from math import inf, log2

from extender.placement.model import Allocation, Demand
from sim.serving.pool import Shape


@dataclass(slots=True)
class Pod:
    """Instants in seconds, None where it has not come so far."""

    number: int
    name: str
    demand: Demand
    created_s: float
    neighbour: int | None = None  #: which of the neighbours it is of; None: a replica
    nominated: str = ""  #: the node on which pods leave for it
    node: str | None = None
    allocation: Allocation | None = None
    share: float = 0.0  #: of one GPU, or of several
    bound_s: float | None = None
    running_s: float | None = None  #: its container has begun: the phase is Running
    ready_s: float | None = None
    deleted_s: float | None = None
    gone_s: float | None = None
    shape: Shape | None = None
    slot: int | None = None
    stages: Mapping[str, float] = field(default_factory=dict)
    waits_for: str = ""  #: why the scheduler has no place for it

    @property
    def alive(self) -> bool:
        """Counted by its ReplicaSet: not terminating."""
        return self.deleted_s is None

    @property
    def serving(self) -> bool:
        return self.slot is not None and self.deleted_s is None


def victims(pods: Iterable[Pod], count: int, now_s: float) -> list[Pod]:
    """The `count` pods that a ReplicaSet deletes first.

    Not bound, then not ready, then those that share their node with most others, then the youngest by powers of two.
    Source: kubernetes/kubernetes `pkg/controller/controller_utils.go` ActivePodsWithRanks.Less. Deletion costs and
    restarts are not modelled: all pods have none.
    """
    alive = [p for p in pods if p.alive]
    neighbours: dict[str | None, int] = {}
    for pod in alive:
        if pod.ready_s is not None:
            neighbours[pod.node] = neighbours.get(pod.node, 0) + 1

    def key(pod: Pod) -> tuple[bool, bool, int, float, float, int]:
        ready = pod.ready_s is not None
        return (
            pod.node is not None,
            ready,
            -neighbours.get(pod.node, 0),
            _age_bucket(pod.ready_s, now_s),
            _age_bucket(pod.created_s, now_s),
            pod.number,
        )

    return sorted(alive, key=key)[:count]


def _age_bucket(since_s: float | None, now_s: float) -> float:
    """Younger first, ages of one power of two alike (LogarithmicScaleDown)."""
    if since_s is None:
        return -inf
    age_s = now_s - since_s
    return -1.0 if age_s <= 0 else float(int(log2(age_s * 1e9)))
