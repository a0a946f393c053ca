"""The cluster on one clock: engines, pods, scheduler and nodes as data, and what happens to pods."""

from collections.abc import Callable, Mapping, Sequence
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
from sim.cluster.preemption import Preemption
from sim.kernel import Kernel, Rank
from sim.podtemplate import PodTemplate, admitted, cpu_milli, demand_of
from sim.recorded import BindAsked, FilterAsked, Happened, NodeSeen, PodGone, PodSeen
from sim.scenario import Scenario
from sim.serving.pool import Pool, Shape
from sim.serving.turns import to_ps
from sim.streams import stream

DRAIN_CHECK_S: Final = 1.0
UID: Final = "uid-"  # of a replica, before its number
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
class EvictionEvent:
    """kube-scheduler deleted a pod so that another one, of higher priority, gets its place."""

    at_s: float
    pod: str
    node: str
    by: str
    why: str


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
    neighbours: dict[str, Pod] = field(default_factory=dict)  #: pods of others that are not gone, by uid
    others: list[Pod] = field(default_factory=list)  #: all neighbours that ever were
    evictions: list[EvictionEvent] = field(default_factory=list)
    parked: dict[str, float] = field(default_factory=dict)
    ledger: Ledger = field(init=False)
    scheduler: KubeScheduler = field(init=False)
    starter: Starter = field(init=False)
    sharing: Sharing = field(init=False)
    fleet: Fleet = field(init=False)
    gathering: bool = False  #: pods that wait for room, before nodes are launched for them
    templates: Sequence[PodTemplate] = field(init=False)  #: of the neighbours, and of the replicas at the end
    _census: Census | None = None

    def __post_init__(self) -> None:
        yaml = self.scenario.yaml
        given = [*(n.pod for n in yaml.cluster.neighbours), yaml.pod]
        self.templates = [admitted(template, yaml.cluster.priority_classes) for template in given]
        self.ledger = yaml.cluster.extender.ledger()
        self.scheduler = KubeScheduler(
            self.ledger, stream(self.seed, "scheduler"), percentage=yaml.cluster.percentage_of_nodes_to_score
        )
        self.starter = Starter(yaml.cluster.cold_start, self.seed, self, self._came)
        self.sharing = Sharing(yaml.cluster.sharing.by, yaml.cluster.sharing.interference)
        cluster = yaml.cluster
        kinds = [n.kind for n in cluster.nodes]
        self.fleet = Fleet(kinds, self.ledger, self.seed, cluster.provisioning, cluster.loss)
        for number, kind in enumerate(kinds):
            for _ in range(kind.count):
                self._node_came(number)
        for number, neighbour in enumerate(cluster.neighbours):
            self.after(neighbour.at, Rank.POD, partial(self._move_in, number))
            if neighbour.lasts is not None:
                self.after(neighbour.at + neighbour.lasts, Rank.POD, partial(self._move_out, number))

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
        demand = demand_of(self.templates[-1], name, f"{UID}{number:05d}")
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
        template = self._template(pod)
        metadata, spec = {**template.metadata, "name": pod.name, "uid": pod.demand.uid}, dict(template.spec)
        if pod.node is not None:
            spec["nodeName"] = pod.node
        if pod.allocation is not None:
            metadata["annotations"] = {**metadata.get("annotations", {}), ALLOCATION: pod.allocation.encode()}
        if pod.deleted_s is not None:
            metadata["deletionTimestamp"] = f"{pod.deleted_s:g} s"
        shown = {"metadata": metadata, "spec": spec}
        if pod.nominated:
            shown["status"] = {"nominatedNodeName": pod.nominated}
        self.ledger.put_pod(shown)
        self.tell(PodSeen(self.now_s, shown))

    def _schedule(self, pod: Pod) -> None:
        if pod.node is not None or not pod.alive:
            return
        template = self._template(pod)
        never = template.spec["preemptionPolicy"] == "Never"
        answer = self.scheduler.schedule(pod.demand, self.now_s, cpu_milli=cpu_milli(template), never=never)
        self.tell(FilterAsked(self.now_s, pod.demand.uid, self.scheduler.asked))
        if isinstance(answer, Bound):
            self._bind(pod, answer)
            return
        pod.waits_for = answer.why
        self.parked[pod.demand.uid] = answer.retry_s
        if answer.preempts is not None:
            self._evict(pod, answer.preempts)
        self._gather()
        self.after(UNSCHEDULABLE_FLUSH_S, Rank.SCHEDULER, lambda: self._schedule(pod))

    def _bind(self, pod: Pod, bound: Bound) -> None:
        self.tell(BindAsked(self.now_s, pod.demand.uid, bound.node))
        self.parked.pop(pod.demand.uid, None)
        pod.node, pod.allocation, pod.bound_s = bound.node, bound.allocation, self.now_s
        pod.waits_for, pod.nominated = "", ""
        self._show(pod)
        pod.share = float(share_of(bound.allocation, self.fleet.gpu_model(bound.node)))
        if pod.neighbour is None:
            self.starter.begin(pod.number, bound.node, partial(self._ready, pod), partial(self._runs, pod))

    def _evict(self, pod: Pod, preemption: Preemption) -> None:
        """The preemptor is nominated; its victims are deleted with their grace, and replaced by whoever owns them."""
        for other in (*self.active.values(), *self.neighbours.values()):
            if other.nominated == preemption.node and other.demand.priority < pod.demand.priority:
                other.nominated = ""
                self._show(other)
        pod.nominated = preemption.node
        self._show(pod)
        for resident in preemption.victims:
            victim = self._of(resident.uid)
            if not victim.alive:  # it leaves already
                continue
            why = f"priority {resident.priority} makes place for {pod.demand.priority}: {pod.waits_for}"
            self.evictions.append(EvictionEvent(self.now_s, victim.name, preemption.node, pod.name, why))
            self._delete(victim)
        self._replace_all()

    def _replace_all(self) -> None:
        """What every ReplicaSet does."""
        self._replace()
        for number in range(len(self.scenario.yaml.cluster.neighbours)):
            self._move_in(number)

    def _of(self, uid: str) -> Pod:
        """A pod that is not gone."""
        return self.neighbours[uid] if uid in self.neighbours else self.active[int(uid.removeprefix(UID))]

    def _template(self, pod: Pod) -> PodTemplate:
        return self.templates[-1 if pod.neighbour is None else pod.neighbour]

    def _runs(self, pod: Pod) -> None:
        pod.running_s = self.now_s

    def _came(self, node: str, what: str) -> None:
        mib = self.starter.config.image_mib
        for image in self.pods[-1].demand.reuse.images[:1] if what == "image" else ():
            images = self.fleet.list_image(node, image, mib)
            self.tell(NodeSeen(self.now_s, node, self.fleet.inventory_text(node), images))

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
        pod.deleted_s, pod.nominated = self.now_s, ""
        self._show(pod)
        self.scheduler.cores.leaves(pod.demand.uid)
        self._census = None
        self.parked.pop(pod.demand.uid, None)
        if pod.neighbour is not None:
            grace_s = self.scenario.yaml.cluster.neighbours[pod.neighbour].termination_grace_period
            self.after(0.0 if pod.node is None else grace_s, Rank.POD, partial(self._moved_out, pod))
            return
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
        pod.slot = None
        self._census = None
        del self.active[pod.number]
        self._gone(pod)

    def _gone(self, pod: Pod) -> None:
        pod.gone_s = self.now_s
        self.parked.pop(pod.demand.uid, None)
        self.ledger.drop_pod(pod.demand.uid)
        self.scheduler.cores.drop(pod.demand.uid)
        self.ledger.expire(self.now_s)
        self.tell(PodGone(self.now_s, pod.demand.uid))

    def _retry_parked(self) -> None:
        """Room has appeared: parked pods are tried again, each when its back-off is over, the most important first."""
        parked, self.parked = self.parked, {}
        pods = [(self._of(uid), retry_s) for uid, retry_s in parked.items()]
        for pod, retry_s in sorted(
            pods, key=lambda entry: (-entry[0].demand.priority, entry[0].created_s, entry[0].name)
        ):
            self.kernel.at(max(self.now_s, retry_s), Rank.SCHEDULER, partial(self._schedule, pod))

    # -- neighbours ----------------------------------------------------------------------------------------------------

    def _move_in(self, number: int) -> None:
        """As many of these as there shall be now."""
        neighbour = self.scenario.yaml.cluster.neighbours[number]
        ends_s = float("inf") if neighbour.lasts is None else neighbour.at + neighbour.lasts
        if not neighbour.at <= self.now_s < ends_s:
            return
        there = sum(pod.neighbour == number and pod.alive for pod in self.neighbours.values())
        for _ in range(neighbour.count - there):
            born = len(self.others)
            name, uid = f"{neighbour.name}-{born:05d}", f"neighbour-{born:05d}"
            demand = demand_of(self.templates[number], name, uid)
            if demand is None:
                raise ValueError("a neighbour that asks for nothing is refused when it is read")
            pod = Pod(born, name, demand, self.now_s, neighbour=number)
            self.neighbours[uid] = pod
            self.others.append(pod)
            self._show(pod)
            self.after(0.0, Rank.SCHEDULER, partial(self._schedule, pod))

    def _move_out(self, number: int) -> None:
        for pod in [p for p in self.neighbours.values() if p.neighbour == number and p.alive]:
            self._delete(pod)

    def _moved_out(self, pod: Pod) -> None:
        if pod.gone_s is not None:  # its node was lost meanwhile
            return
        del self.neighbours[pod.demand.uid]
        self._gone(pod)
        if pod.node is not None:
            self._maybe_empty(pod.node)
            self._retry_parked()

    # -- nodes ---------------------------------------------------------------------------------------------------------

    def _gather(self) -> None:
        """Pods wait for room: soon it is seen how many nodes they fill."""
        if not self.gathering and any(k.most > k.count for k in self.fleet.kinds):
            self.gathering = True
            self.after(self.fleet.provisioning.batch, Rank.SCHEDULER, self._provision)

    def _provision(self) -> None:
        self.gathering = False
        parked = [self._of(uid) for uid in sorted(self.parked)]
        waiting = [pod for pod in parked if pod.neighbour is None]
        for kind in self.fleet.wanted(waiting[0].demand, len(waiting)) if waiting else ():
            self._launch(kind)

    def _launch(self, kind: int) -> None:
        stages = self.fleet.stages()
        self.fleet.coming[kind] += 1
        self.after(sum(stages.values()), Rank.POD, lambda: self._node_came(kind, launched=True))

    def _node_came(self, kind: int, *, launched: bool = False) -> None:
        name = self.fleet.put(kind, self.now_s)
        self.tell(NodeSeen(self.now_s, name, self.fleet.inventory_text(name)))
        cpus = self.fleet.cpu_milli(name)
        if cpus is not None:
            self.scheduler.cores.of_node[name] = cpus
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
        self.fleet.cordon(name)
        for pod in [p for p in (*self.active.values(), *self.neighbours.values()) if p.node == name and p.alive]:
            self._delete(pod)
        self._replace_all()

    def _node_lost(self, name: str) -> None:
        """With every pod on it; another one takes its place if it is one of those that are always there."""
        if name not in self.fleet.kind_of:
            return
        spare = self.fleet.spare(name)
        for pod in [p for p in self.active.values() if p.node == name]:
            pod.deleted_s = self.now_s if pod.deleted_s is None else pod.deleted_s
            self._end(pod)
        for pod in [p for p in self.neighbours.values() if p.node == name]:
            pod.deleted_s = self.now_s if pod.deleted_s is None else pod.deleted_s
            del self.neighbours[pod.demand.uid]
            self._gone(pod)
        self.starter.forget(name)
        self.scheduler.cordoned.discard(name)
        kind = self._node_gone(name)
        if not spare:
            self._launch(kind)
        self._replace_all()

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
        self.scheduler.cores.of_node.pop(name, None)
        return self.fleet.drop(name, self.now_s)

    def _used(self, name: str) -> bool:
        return any(p.node == name for p in (*self.active.values(), *self.neighbours.values()))
