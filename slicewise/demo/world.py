"""The simulated part of the cluster, advanced in small steps of cluster time: sessions, engines, pods, guests."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

from slicewise.demo.agents import Agents
from slicewise.demo.cluster import GUESTS, WORKLOAD, admit, publish_instances
from slicewise.demo.controllers import PODS, Kubelet, ReplicaSet, is_leaving, is_ready, owned
from slicewise.demo.engines import Engine
from slicewise.demo.kube_store import Store
from slicewise.demo.promises import Breach, Json, breaches, killed
from slicewise.demo.scrapes import Scrapes
from slicewise.demo.story import ROUND_S, sessions_per_s

STEP_S: Final = 0.5


@dataclass(slots=True)
class World:
    """`now_s`: cluster time since the story began; `epoch_s`: what the cluster's clock showed then.

    Engines live from the moment in which their pods are ready until these are gone.
    """

    store: Store
    seed: int
    now_s: float = 0.0
    epoch_s: float = 0.0
    engines: dict[str, Engine] = field(default_factory=dict)
    scrapes: Scrapes = field(default_factory=Scrapes)
    agents: Agents = field(init=False)
    _kubelet: Kubelet = field(init=False)
    _replicas: ReplicaSet = field(init=False)
    _held: int = -1

    def __post_init__(self) -> None:
        self.agents = Agents(self.seed, sessions_per_s)
        self._replicas = ReplicaSet(self.store, WORKLOAD, self.seed + 1)
        self._kubelet = Kubelet(self.store, self._in_flight, self._started, self._gone, self.seed + 2)

    def advance(self, to_s: float) -> None:
        while self.now_s + STEP_S <= to_s:
            self._admit_guests()
            open_pods = frozenset(name for name in self.engines if not self._is_leaving(name))
            self.agents.step(self.now_s, STEP_S, self.engines, open_pods)
            for engine in self.engines.values():
                engine.step(self.now_s, STEP_S)
            self.now_s += STEP_S
            self.scrapes.scrape_if_due(self.now_s, self.engines, self.agents)
        self._replicas.step()
        self._kubelet.step(self.now_s)
        publish_instances(self.store)

    def _admit_guests(self) -> None:
        """Those whose time in the round lies in this step; each round has its own names."""
        at_s, lap = self.now_s % ROUND_S, int(self.now_s // ROUND_S)
        for guest in GUESTS:
            if at_s <= guest.at_s < at_s + STEP_S and (lap == 0 or guest.runs_for_s is not None):
                admit(self.store, guest, guest.name if lap == 0 else f"{guest.name}-{lap}")

    def _is_leaving(self, name: str) -> bool:
        return is_leaving(self.store.get(PODS, name))

    def _in_flight(self, name: str) -> int:
        return self.engines[name].in_flight if name in self.engines else 0

    def _started(self, name: str) -> None:
        if name.startswith(f"{WORKLOAD}-"):
            self.engines[name] = Engine()

    def _gone(self, pod: Json) -> None:
        name = pod["metadata"]["name"]
        if self.engines.pop(name, None) is not None:
            self.agents.leave(name)

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
