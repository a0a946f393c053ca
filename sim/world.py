"""The cluster on one clock: engines, pods, scheduler and nodes as data, and what happens to pods."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Final

from extender.ledger import Ledger
from extender.placement.allocation import ALLOCATION
from extender.placement.model import Allocation
from sim.cluster.coldstart import Starter
from sim.cluster.deployment import Pod, victims
from sim.cluster.hpa import Scale
from sim.cluster.kubescheduler import UNSCHEDULABLE_FLUSH_S, Bound, KubeScheduler
from sim.cluster.nodes import Fleet
from sim.cluster.placed import Sharing, shape_of, share_of
from sim.kernel import Kernel, Rank
from sim.recorded import BindAsked, FilterAsked, Happened, NodeSeen, PodGone, PodSeen
from sim.scenario import Scenario, demand_of
from sim.serving.pool import Pool, Shape
from sim.serving.turns import to_ps
from sim.streams import stream

DRAIN_CHECK_S: Final = 1.0
Handler = Callable[[], None]


@dataclass(frozen=True, slots=True)
class ScaleEvent:
    """One change of the scale's spec."""

    at_s: float
    by: str
    before: int
    after: int
    why: str
    steps: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Census:
    """Counted once after pods have changed. `numbers`, `slots`: of pods whose engine runs, in the order of numbers."""

    alive: int
    ready: int
    numbers: tuple[int, ...]
    slots: tuple[int, ...]


@dataclass(slots=True)
class World:
    """`tell`: hears what the API would show. `parked`: pods without room, and when each may be tried again."""

    scenario: Scenario
    seed: int
    pool: Pool
    tell: Callable[[Happened], None] = lambda _: None
    kernel: Kernel[Handler] = field(default_factory=Kernel)
    pods: list[Pod] = field(default_factory=list)
    active: dict[int, Pod] = field(default_factory=dict)  #: not gone
    replicas: int = 0  #: spec.replicas
    scale_events: list[ScaleEvent] = field(default_factory=list)
    dropped: int = 0
    parked: dict[int, float] = field(default_factory=dict)
    ledger: Ledger = field(init=False)
    scheduler: KubeScheduler = field(init=False)
    starter: Starter = field(init=False)
    sharing: Sharing = field(init=False)
    fleet: Fleet = field(init=False)
    gathering: bool = False  #: pods that wait for room, before nodes are launched for them
    _census: Census | None = None

    def __post_init__(self) -> None:
        yaml = self.scenario.yaml
        # an agent always says that it is there, so an inventory never grows stale
        self.ledger = Ledger(stale_after_s=float("inf"))
        self.scheduler = KubeScheduler(
            self.ledger, stream(self.seed, "scheduler"), percentage=yaml.cluster.percentage_of_nodes_to_score
        )
        self.starter = Starter(yaml.cluster.cold_start, self.seed, self)
        self.sharing = Sharing(yaml.cluster.sharing.by, yaml.cluster.sharing.interference)
        cluster = yaml.cluster
        kinds = [n.kind for n in cluster.nodes]
        self.fleet = Fleet(kinds, self.ledger, self.seed, cluster.provisioning, cluster.loss)
        for number, kind in enumerate(kinds):
            for _ in range(kind.count):
                self._node_came(number)

    # -- the clock -----------------------------------------------------------------------------------------------------

    @property
    def now_s(self) -> float:
        return self.kernel.now_s

    def after(self, wait_s: float, rank: Rank, handler: Handler) -> None:
        self.kernel.at(self.now_s + wait_s, rank, handler)

    def run(self, until_s: float) -> None:
        """Engines first, then the control plane, instant by instant."""
        while (next_s := self.kernel.next_s()) is not None and next_s <= until_s:
            self.pool.run_until(to_ps(next_s))
            self.kernel.pop()()
        self.pool.run_until(to_ps(until_s))

    # -- the scale subresource -----------------------------------------------------------------------------------------

    def census(self) -> Census:
        if self._census is None:
            running = [p for p in self.active.values() if p.slot is not None]
            self._census = Census(
                alive=sum(p.alive for p in self.active.values()),
                ready=sum(p.alive for p in running),
                numbers=tuple(p.number for p in running),
                slots=tuple(p.slot for p in running if p.slot is not None),
            )
        return self._census

    def scale(self) -> Scale:
        census = self.census()
        return Scale(spec=self.replicas, status=census.alive, ready=census.ready)

    def scale_to(self, replicas: int, by: str, why: str, steps: tuple[str, ...] = ()) -> None:
        if replicas == self.replicas:
            return
        self.scale_events.append(ScaleEvent(self.now_s, by, self.replicas, replicas, why, steps))
        self.replicas = replicas
        alive = [p for p in self.active.values() if p.alive]
        for pod in victims(alive, len(alive) - replicas, self.now_s) if len(alive) > replicas else ():
            self._delete(pod)
        self._replace()

    def _replace(self) -> None:
        """The ReplicaSet's part: as many pods as are asked for."""
        for _ in range(self.replicas - sum(p.alive for p in self.active.values())):
            self._create()

    def blocks(self, pod: Pod) -> int:
        """Of KV cache, in a replica that is ready."""
        return 0 if pod.shape is None else pod.shape.kv_blocks

    # -- pods ----------------------------------------------------------------------------------------------------------

    def _create(self) -> None:
        number = len(self.pods)
        name = f"{self.scenario.yaml.target_name}-{number:05d}"
        demand = demand_of(self.scenario.yaml.pod, name, f"uid-{number:05d}")
        if demand is None:
            raise ValueError("a scenario whose pod asks for nothing is refused when it is read")
        pod = Pod(number, name, demand, self.now_s)
        self.pods.append(pod)
        self.active[number] = pod
        self._census = None
        self._show(pod)
        self.after(0.0, Rank.SCHEDULER, lambda: self._schedule(pod))

    def _show(self, pod: Pod) -> None:
        """The API has the pod as it is now; the extender hears of it as its watch would."""
        template = self.scenario.yaml.pod
        metadata, spec = {**template.metadata, "name": pod.name, "uid": pod.demand.uid}, dict(template.spec)
        if pod.node is not None:
            spec["nodeName"] = pod.node
        if pod.allocation is not None:
            metadata["annotations"] = {**metadata.get("annotations", {}), ALLOCATION: pod.allocation.encode()}
        if pod.deleted_s is not None:
            metadata["deletionTimestamp"] = f"{pod.deleted_s:g} s"
        shown = {"metadata": metadata, "spec": spec}
        self.ledger.put_pod(shown)
        self.tell(PodSeen(self.now_s, shown))

    def _schedule(self, pod: Pod) -> None:
        if pod.node is not None or not pod.alive:
            return
        answer = self.scheduler.schedule(pod.demand, self.now_s)
        self.tell(FilterAsked(self.now_s, pod.demand.uid, self.scheduler.asked))
        if isinstance(answer, Bound):
            self.tell(BindAsked(self.now_s, pod.demand.uid, answer.node))
            self.parked.pop(pod.number, None)
            pod.node, pod.allocation, pod.bound_s, pod.waits_for = answer.node, answer.allocation, self.now_s, ""
            self._show(pod)
            pod.share = float(share_of(answer.allocation, self.fleet.gpu_model(answer.node)))
            self.starter.begin(pod.number, answer.node, partial(self._ready, pod), partial(self._runs, pod))
            return
        pod.waits_for = answer.why
        self.parked[pod.number] = answer.retry_s
        self._gather()
        self.after(UNSCHEDULABLE_FLUSH_S, Rank.SCHEDULER, lambda: self._schedule(pod))

    def _runs(self, pod: Pod) -> None:
        pod.running_s = self.now_s

    def _ready(self, pod: Pod, stages: Mapping[str, float]) -> None:
        if not pod.alive or pod.node is None or pod.allocation is None:
            return
        pod.stages = stages
        pod.shape = self.shape(pod.allocation, pod.node)
        pod.slot = self.pool.add(pod.shape)
        pod.ready_s = self.now_s
        self._census = None

    def shape(self, allocation: Allocation, node: str) -> Shape:
        """How the engine runs there. Raises `EngineFitError`."""
        engine = self.scenario.yaml.engine
        return shape_of(engine.entry, engine.limits, allocation, self.fleet.gpu_model(node), self.sharing)

    def _delete(self, pod: Pod) -> None:
        pod.deleted_s = self.now_s
        self._show(pod)
        self._census = None
        self.parked.pop(pod.number, None)
        if pod.slot is not None:
            self.pool.drain(pod.slot)
        self._drained(pod)

    def _drained(self, pod: Pod) -> None:
        """Gone when its last request has ended, or when its grace is over."""
        if pod.number not in self.active:
            return
        if pod.deleted_s is None:
            raise ValueError(f"{pod.name} is not terminating")
        grace_s = self.scenario.yaml.cluster.termination_grace_period
        over = self.now_s >= pod.deleted_s + grace_s
        if pod.slot is not None and self.pool.load(pod.slot) and not over:
            wait_s = min(DRAIN_CHECK_S, pod.deleted_s + grace_s - self.now_s)
            self.after(wait_s, Rank.POD, lambda: self._drained(pod))
            return
        self._end(pod)
        if pod.node is not None:
            self._maybe_empty(pod.node)
            self._retry_parked()

    def _end(self, pod: Pod) -> None:
        """With all that is in it."""
        if pod.slot is not None:
            self.dropped += self.pool.remove(pod.slot)
        pod.slot, pod.gone_s = None, self.now_s
        self._census = None
        self.parked.pop(pod.number, None)
        del self.active[pod.number]
        self.ledger.drop_pod(pod.demand.uid)
        self.tell(PodGone(self.now_s, pod.demand.uid))

    def _retry_parked(self) -> None:
        """Room has appeared: parked pods are tried again, each when its back-off is over."""
        parked, self.parked = self.parked, {}
        for number, retry_s in sorted(parked.items()):
            pod = self.active[number]
            self.kernel.at(max(self.now_s, retry_s), Rank.SCHEDULER, partial(self._schedule, pod))

    # -- nodes ---------------------------------------------------------------------------------------------------------

    def _gather(self) -> None:
        """Pods wait for room: soon it is seen how many nodes they fill."""
        if not self.gathering and any(k.most > k.count for k in self.fleet.kinds):
            self.gathering = True
            self.after(self.fleet.provisioning.batch, Rank.SCHEDULER, self._provision)

    def _provision(self) -> None:
        self.gathering = False
        waiting = [self.active[number] for number in sorted(self.parked)]
        for kind in self.fleet.wanted(waiting[0].demand, len(waiting)) if waiting else ():
            self._launch(kind)

    def _launch(self, kind: int) -> None:
        stages = self.fleet.stages()
        self.fleet.coming[kind] += 1
        self.after(sum(stages.values()), Rank.POD, lambda: self._node_came(kind, launched=True))

    def _node_came(self, kind: int, *, launched: bool = False) -> None:
        name = self.fleet.put(kind, self.now_s)
        self.tell(NodeSeen(self.now_s, name, self.fleet.inventory_text(name)))
        life_s = self.fleet.life_s(name)
        if life_s < float("inf"):
            notice_s = min(life_s, self.fleet.loss.notice if self.fleet.loss else 0.0)
            self.after(life_s - notice_s, Rank.POD, lambda: self._node_leaves(name))
            self.after(life_s, Rank.POD, lambda: self._node_lost(name))
        if launched:
            self.fleet.coming[kind] -= 1
            self._maybe_empty(name)
            self._retry_parked()

    def _node_leaves(self, name: str) -> None:
        """Its end is announced: its pods are deleted with their grace, and replaced elsewhere."""
        if name not in self.fleet.kind_of:
            return
        self.scheduler.cordoned.add(name)
        for pod in [p for p in self.active.values() if p.node == name and p.alive]:
            self._delete(pod)
        self._replace()

    def _node_lost(self, name: str) -> None:
        """With every pod on it; another one takes its place if it is one of those that are always there."""
        if name not in self.fleet.kind_of:
            return
        spare = self.fleet.spare(name)
        for pod in [p for p in self.active.values() if p.node == name]:
            pod.deleted_s = self.now_s if pod.deleted_s is None else pod.deleted_s
            self._end(pod)
        self.starter.forget(name)
        self.scheduler.cordoned.discard(name)
        kind = self._node_gone(name)
        if not spare:
            self._launch(kind)
        self._replace()

    def _maybe_empty(self, name: str) -> None:
        """A node beyond those that are always there goes, when it has stood empty for a while."""
        if self.fleet.spare(name) and not self._used(name):
            at_s = self.now_s
            self.after(self.fleet.provisioning.empty_after, Rank.POD, lambda: self._still_empty(name, at_s))

    def _still_empty(self, name: str, since_s: float) -> None:
        bound = [p.bound_s for p in self.pods if p.node == name and p.bound_s is not None]
        if self.fleet.spare(name) and not self._used(name) and max(bound, default=-1.0) < since_s:
            self.starter.forget(name)
            self._node_gone(name)

    def _node_gone(self, name: str) -> int:
        """Answers its kind."""
        self.tell(NodeSeen(self.now_s, name, None))
        return self.fleet.drop(name, self.now_s)

    def _used(self, name: str) -> bool:
        return any(p.node == name for p in self.active.values())
