"""Nodes that come when pods wait for room, go when they stand empty, and are lost; what `sim/world.py` is told to do.

Provisioning is Karpenter's: waiting pods are gathered for a while, then as many nodes are launched as they fill.
Sources: aws/karpenter `settings` (batchMaxDuration 10 s); Karpenter's and GKE's published times (launch under a minute,
about five minutes to a running GPU pod, most of it driver and device plugin).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from math import ceil

import msgspec
import numpy as np
from pydantic import Field

from extender.ledger import Ledger, Refusal
from extender.placement import catalog as gpus
from extender.placement.model import INVENTORY, Demand, GpuModel, Inventory
from sim.streams import stream
from sim.strict import Seconds, Strict
from sim.workloads.shapes import Wait, lognormal

Image = tuple[str, int]  #: name, bytes


def _wait(p50: str, p90: str) -> Wait:
    return Wait.model_validate({"p50": p50, "p90": p90})


class Provisioning(Strict):
    """Of nodes beyond the first `count`, and of those that take the place of a lost one."""

    batch: Seconds = Field(default=10.0, ge=0)  #: waiting pods are gathered so long
    launch: Wait = _wait("45s", "90s")  #: the cloud's machine boots
    registration: Wait = _wait("30s", "60s")  #: kubelet joins
    gpu_ready: Wait = _wait("150s", "240s")  #: driver, device plugin and our agent
    empty_after: Seconds = Field(default=600.0, ge=0)  #: a node that was provisioned goes, when it stood empty so long


class Loss(Strict):
    """Each node lives an exponential time of mean `mean_life`, told `notice` before its end (spot: 2 m)."""

    mean_life: Seconds = Field(gt=0)
    notice: Seconds = Field(default=0.0, ge=0)


@dataclass(frozen=True, slots=True)
class Kind:
    """Nodes of one sort; `most` of them at a time."""

    gpu: str
    gpus_per_node: int
    mode: str
    count: int
    most: int
    cpus: int | None = None  #: that pods may request

    def inventory(self, node: str) -> Inventory:
        inventory, problems = Inventory.parse(inventory_text(node, self.gpu, self.gpus_per_node, self.mode))
        if problems:
            raise ValueError(f"the catalog's own {self.gpu} is refused: {problems[0]}")
        return inventory

    def pods(self, demand: Demand) -> int:
        """Of that demand, as many as an empty node takes."""
        ledger, placed = Ledger(stale_after_s=float("inf")), 0
        ledger.put_node("empty", self.inventory("empty"))
        ledger.heartbeat("empty", 0.0)
        while True:
            pod = replace(demand, uid=str(placed))
            if isinstance(ledger.assume(pod.uid, pod.key, pod, "empty", 0.0), Refusal):
                return placed
            placed += 1


@dataclass(slots=True)
class Life:
    """Of one node; `to_s`: None while it is there."""

    kind: int
    from_s: float
    to_s: float | None = None


@dataclass(slots=True)
class Fleet:
    """Which nodes there are and are coming. `numbers`: how many of a kind were ever named."""

    kinds: Sequence[Kind]
    ledger: Ledger
    seed: int
    provisioning: Provisioning
    loss: Loss | None
    kind_of: dict[str, int] = field(default_factory=dict)
    coming: list[int] = field(default_factory=list)  #: of each kind
    numbers: list[int] = field(default_factory=list)
    lives: dict[str, Life] = field(default_factory=dict)  #: of all nodes that ever were
    images: dict[str, tuple[Image, ...]] = field(default_factory=dict)  #: that each node lists
    cordoned: set[str] = field(default_factory=set)

    def __post_init__(self) -> None:
        self.coming, self.numbers = [0] * len(self.kinds), [0] * len(self.kinds)

    def put(self, kind: int, now_s: float) -> str:
        """A node is there, empty; answers its name."""
        name = f"{self.kinds[kind].gpu}-{kind}-{self.numbers[kind]:03d}"
        self.numbers[kind] += 1
        self.ledger.put_node(name, self.kinds[kind].inventory(name))
        self.ledger.heartbeat(name, 0.0)
        self.kind_of[name] = kind
        self.lives[name] = Life(kind, now_s)
        return name

    def inventory_text(self, name: str) -> str:
        """What its agent publishes."""
        kind = self.kinds[self.kind_of[name]]
        return inventory_text(name, kind.gpu, kind.gpus_per_node, kind.mode)

    def list_image(self, name: str, image: str, mib: int) -> tuple[Image, ...]:
        """Its kubelet lists an image in the node's status from now on; answers all that it lists."""
        images = self.images[name] = (*self.images.get(name, ()), (image, mib << 20))
        self._show(name)
        return images

    def cordon(self, name: str) -> None:
        """It takes no new pods: the extender hears of it as of an image."""
        self.cordoned.add(name)
        self._show(name)

    def _show(self, name: str) -> None:
        node = node_object(name, self.inventory_text(name), self.images.get(name, ()))
        self.ledger.put_node_object({**node, "spec": {"unschedulable": name in self.cordoned}})

    def drop(self, name: str, now_s: float) -> int:
        """It is gone; answers its kind."""
        kind = self.kind_of.pop(name)
        self.images.pop(name, None)
        self.cordoned.discard(name)
        self.lives[name].to_s = now_s
        self.ledger.drop_node(name)
        return kind

    def gpu_s(self, now_s: float) -> float:
        """GPU-seconds that nodes were there for, used or not."""
        return sum(
            self.kinds[life.kind].gpus_per_node * ((now_s if life.to_s is None else life.to_s) - life.from_s)
            for life in self.lives.values()
        )

    def cpu_milli(self, name: str) -> int | None:
        cpus = self.kinds[self.kind_of[name]].cpus
        return None if cpus is None else cpus * 1000

    def gpu_model(self, name: str) -> GpuModel:
        """Of a node that is or was there."""
        return gpus.load()[self.kinds[self.lives[name].kind].gpu]

    def here(self, kind: int) -> int:
        return sum(k == kind for k in self.kind_of.values())

    def wanted(self, demand: Demand, waiting: int) -> list[int]:
        """Kinds of the nodes to launch now for so many waiting pods, what is coming counted in."""
        launched: list[int] = []
        for number, kind in enumerate(self.kinds):
            free = max(0, kind.most - self.here(number) - self.coming[number])
            room = kind.pods(demand) if free or self.coming[number] else 0
            if not room:
                continue
            waiting = max(0, waiting - self.coming[number] * room)
            nodes = min(ceil(waiting / room), free)
            launched += [number] * nodes
            waiting = max(0, waiting - nodes * room)
        return launched

    def stages(self) -> Mapping[str, float]:
        """Seconds that the next node takes; each draws its own, whatever the others do."""
        number = sum(self.numbers) + sum(self.coming)
        normal = stream(self.seed, "node-start", number).standard_normal(3)
        waits = {name: getattr(self.provisioning, name) for name in ("launch", "registration", "gpu_ready")}
        return {
            name: float(lognormal(wait.p50, wait.p90, wait.max, np.array(z)))
            for (name, wait), z in zip(waits.items(), normal.tolist(), strict=True)
        }

    def life_s(self, name: str) -> float:
        """Until the node is lost."""
        if self.loss is None:
            return float("inf")
        kind = self.kind_of[name]
        number = int(name.rsplit("-", 1)[1])
        return float(stream(self.seed, "node-life", kind, number).exponential(self.loss.mean_life))

    def spare(self, name: str) -> bool:
        """Whether it was provisioned beyond those that are always there."""
        kind = self.kind_of.get(name)
        return kind is not None and self.here(kind) > self.kinds[kind].count


def node_object(name: str, inventory: str, images: Sequence[Image] = ()) -> dict[str, object]:
    """The Node as the API shows it, as far as the extender reads it."""
    listed = [{"names": [image], "sizeBytes": size} for image, size in images]
    return {"metadata": {"name": name, "annotations": {INVENTORY: inventory}}, "status": {"images": listed}}


def inventory_text(node: str, gpu: str, count: int, mode: str) -> str:
    """What the node's agent would publish: the catalog's GPU, so many times."""
    model = gpus.load()[gpu]
    listed = [
        {"uuid": f"GPU-{node}-{i}", "index": i, "model": gpu, "memory_mib": model.memory_mib, "mode": mode}
        for i in range(count)
    ]
    return msgspec.json.encode({"version": 1, "gpus": listed}).decode()
