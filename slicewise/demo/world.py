"""The simulated part of the cluster, advanced in small steps of cluster time: sessions, engines, pods, guests."""

from collections.abc import Callable
from dataclasses import dataclass, field

from slicewise.demo.cluster import GPU_NODES, GUESTS, WORKLOAD, admit, publish_instances
from slicewise.demo.controllers import Kubelet, ReplicaSet, is_leaving, is_ready, owned
from slicewise.demo.kube_store import Store
from slicewise.demo.promises import Breach, Json, breaches, killed, parts
from slicewise.demo.scrapes import SCRAPE_S, Scrapes
from slicewise.demo.serving import Serving, shape_of
from slicewise.demo.story import ROUND_S


@dataclass(slots=True)
class World:
    """`now_s`: cluster time since the story began; `epoch_s`: what the cluster's clock showed then.

    An engine serves from the moment in which its pod is ready until that is gone.
    """

    store: Store
    serving: Serving
    seed: int
    now_s: float = 0.0
    epoch_s: float = 0.0
    scrapes: Scrapes = field(default_factory=Scrapes)
    _kubelet: Kubelet = field(init=False)
    _replicas: ReplicaSet = field(init=False)
    _guests: int = 0
    _published: int = -1

    def __post_init__(self) -> None:
        self._replicas = ReplicaSet(self.store, WORKLOAD, self.seed + 1)
        self._kubelet = Kubelet(self.store, self.serving.drain, self._started, self._gone, self.seed + 2)

    def advance(self, to_s: float) -> None:
        while self.scrapes.last_s + SCRAPE_S <= to_s:
            due_s = self.scrapes.last_s + SCRAPE_S
            self.serving.run_until(due_s)
            self.scrapes.scrape(due_s, *self.serving.read())
        self.serving.run_until(to_s)
        self.now_s = to_s
        self._admit_guests()
        self._replicas.step()
        self._kubelet.step(self.now_s)
        if self.store.version != self._published:
            publish_instances(self.store)
            self._published = self.store.version

    def _admit_guests(self) -> None:
        """Those who are due; from the second round on with a name of that round, and without those who stay."""
        while True:
            lap, index = divmod(self._guests, len(GUESTS))
            guest = GUESTS[index]
            if lap * ROUND_S + guest.at_s > self.now_s:
                return
            self._guests += 1
            if lap == 0 or guest.runs_for_s is not None:
                admit(self.store, guest, guest.name if lap == 0 else f"{guest.name}-{lap}")

    def _started(self, pod: Json) -> None:
        if pod["metadata"]["name"].startswith(f"{WORKLOAD}-"):
            (part,) = parts([pod])
            node = next(node for node in GPU_NODES if node.name == part.node)
            self.serving.start(part.pod, shape_of(part, node.model, node.memory_mib))

    def _gone(self, pod: Json) -> None:
        self.serving.gone(pod["metadata"]["name"])

    def pods(self) -> tuple[int, int]:
        """Pods of the workload that serve, and those that there are."""
        found = [pod for pod in owned(self.store, WORKLOAD) if not is_leaving(pod)]
        return sum(map(is_ready, found)), len(found)


@dataclass(slots=True)
class Auditor:
    """Checks the promises in every state that the API server has been in, not only in those that a frame shows."""

    store: Store
    tell: Callable[[Breach], None]
    _version: int = 0
    _pods: dict[str, Json] = field(default_factory=dict)
    _nodes: dict[str, Json] = field(default_factory=dict)
    states: int = 0

    def audit(self) -> None:
        for change in self.store.changes_after(self._version):
            self._version = change.version
            self._apply(change.before, change.after)

    def _apply(self, before: Json | None, after: Json | None) -> None:
        obj = after or before or {}
        kept = {"Pod": self._pods, "Node": self._nodes}.get(obj["kind"])
        if kept is None:
            return
        name = obj["metadata"]["name"]
        if after is None:
            del kept[name]
            found = killed(obj)
        else:
            kept[name] = after
            found = breaches(self._pods.values(), self._nodes.values())
        self.states += 1
        for breach in found:
            self.tell(breach)
