"""The cluster on one clock: engines, pods, scheduler and nodes as data, and what happens to pods."""

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Final

import msgspec

from extender.ledger import Ledger
from extender.placement import catalog as gpus
from extender.placement.model import Allocation, GpuModel, Inventory
from sim.cluster.coldstart import Starter
from sim.cluster.deployment import Pod, victims
from sim.cluster.hpa import Scale
from sim.cluster.kubescheduler import UNSCHEDULABLE_FLUSH_S, Bound, KubeScheduler
from sim.cluster.placed import Limits, shape_of, share_of
from sim.kernel import Kernel, Rank
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
    """`parked`: pods that no node has room for, and when each may be tried again."""

    scenario: Scenario
    seed: int
    pool: Pool
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
    gpu_of: dict[str, GpuModel] = field(default_factory=dict)
    _census: Census | None = None

    def __post_init__(self) -> None:
        yaml = self.scenario.yaml
        # nodes do not fail here, so an inventory never grows stale
        self.ledger = Ledger(stale_after_s=float("inf"))
        self.scheduler = KubeScheduler(self.ledger, stream(self.seed, "scheduler"))
        self.starter = Starter(yaml.cluster.cold_start, self.seed)
        for kind, nodes in enumerate(yaml.cluster.nodes):
            for i in range(nodes.count):
                name = f"{nodes.gpu}-{kind}-{i:03d}"
                inventory, problems = Inventory.parse(inventory_text(name, nodes.gpu, nodes.gpus_per_node, nodes.mode))
                if problems:
                    raise ValueError(f"the catalog's own {nodes.gpu} is refused: {problems[0]}")
                self.ledger.put_node(name, inventory)
                self.ledger.heartbeat(name, 0.0)
                self.gpu_of[name] = gpus.load()[nodes.gpu]

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
        for _ in range(replicas - len(alive)):
            self._create()

    def blocks(self, pod: Pod) -> int:
        """Of KV cache, in a replica that is ready."""
        return 0 if pod.shape is None else pod.shape.kv_blocks

    # -- pods ----------------------------------------------------------------------------------------------------------

    def _create(self) -> None:
        number = len(self.pods)
        name = f"{self.scenario.yaml.scaled_object.spec.scale_target_ref.name}-{number:05d}"
        demand = demand_of(self.scenario.yaml.pod, name, f"uid-{number:05d}")
        if demand is None:
            raise ValueError("a scenario whose pod asks for nothing is refused when it is read")
        pod = Pod(number, name, demand, self.now_s)
        self.pods.append(pod)
        self.active[number] = pod
        self._census = None
        self.after(0.0, Rank.SCHEDULER, lambda: self._schedule(pod))

    def _schedule(self, pod: Pod) -> None:
        if pod.node is not None or not pod.alive:
            return
        answer = self.scheduler.schedule(pod.demand, self.now_s)
        if isinstance(answer, Bound):
            self.parked.pop(pod.number, None)
            pod.node, pod.allocation, pod.bound_s, pod.waits_for = answer.node, answer.allocation, self.now_s, ""
            pod.share = float(share_of(answer.allocation, self.gpu_of[answer.node]))
            pod.stages = self.starter.stages(pod.number, answer.node, self.now_s)
            self.after(sum(pod.stages.values()), Rank.POD, lambda: self._ready(pod))
            return
        pod.waits_for = answer.why
        self.parked[pod.number] = answer.retry_s
        self.after(UNSCHEDULABLE_FLUSH_S, Rank.SCHEDULER, lambda: self._schedule(pod))

    def _ready(self, pod: Pod) -> None:
        if not pod.alive or pod.node is None or pod.allocation is None:
            return
        pod.shape = self.shape(pod.allocation, pod.node)
        pod.slot = self.pool.add(pod.shape)
        pod.ready_s = self.now_s
        self._census = None

    def shape(self, allocation: Allocation, node: str) -> Shape:
        """How the engine runs there. Raises `EngineFitError`."""
        engine = self.scenario.yaml.engine
        limits = Limits(
            max_num_seqs=engine.max_num_seqs,
            max_num_batched_tokens=engine.max_num_batched_tokens,
            max_model_len=engine.max_model_len,
            gpu_memory_utilization=engine.gpu_memory_utilization,
        )
        return shape_of(engine.entry, limits, allocation, self.gpu_of[node])

    def _delete(self, pod: Pod) -> None:
        pod.deleted_s = self.now_s
        self._census = None
        self.parked.pop(pod.number, None)
        if pod.slot is not None:
            self.pool.drain(pod.slot)
        self._drained(pod)

    def _drained(self, pod: Pod) -> None:
        """Gone when its last request has ended, or when its grace is over."""
        if pod.deleted_s is None:
            raise ValueError(f"{pod.name} is not terminating")
        grace_s = self.scenario.yaml.cluster.termination_grace_period
        over = self.now_s >= pod.deleted_s + grace_s
        if pod.slot is not None and self.pool.load(pod.slot) and not over:
            wait_s = min(DRAIN_CHECK_S, pod.deleted_s + grace_s - self.now_s)
            self.after(wait_s, Rank.POD, lambda: self._drained(pod))
            return
        if pod.slot is not None:
            self.dropped += self.pool.remove(pod.slot)
        pod.slot, pod.gone_s = None, self.now_s
        self._census = None
        del self.active[pod.number]
        if pod.node is not None:
            self.ledger.drop_pod(pod.demand.uid)
            self._retry_parked()

    def _retry_parked(self) -> None:
        """Room has appeared: parked pods are tried again, each when its back-off is over."""
        parked, self.parked = self.parked, {}
        for number, retry_s in sorted(parked.items()):
            pod = self.active[number]
            self.kernel.at(max(self.now_s, retry_s), Rank.SCHEDULER, partial(self._schedule, pod))


def inventory_text(node: str, gpu: str, count: int, mode: str) -> str:
    """What the node's agent would publish: the catalog's GPU, so many times."""
    model = gpus.load()[gpu]
    listed = [
        {"uuid": f"GPU-{node}-{i}", "index": i, "model": gpu, "memory_mib": model.memory_mib, "mode": mode}
        for i in range(count)
    ]
    return msgspec.json.encode({"version": 1, "gpus": listed}).decode()
