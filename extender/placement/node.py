"""One node: its GPUs, who holds what of each, and what is left. Changing a pod recounts only the GPUs that it holds."""

from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from typing import Final

from extender.placement.allocation import MigSlice
from extender.placement.holding import Holding
from extender.placement.load import NO_LOAD, NOT_TOLD, Allocatable, Load
from extender.placement.model import Gpu, GpuProblem, Inventory, NoInventory
from extender.placement.plan import NodeView
from extender.placement.profile import Placement
from extender.placement.usage import Held, Usage, usage

NOT_SEEN: Final = NoInventory("no inventory: the node has not been seen")


@dataclass(frozen=True, slots=True)
class Problem:
    """Something for a person to look at. What it concerns stays occupied or unused, never given twice."""

    node: str
    why: str

    def __str__(self) -> str:
        return f"{self.node}: {self.why}"


@dataclass(frozen=True, slots=True)
class StaticRoom:
    """Existing MIG instances that our agent did not make, by profile."""

    existing: Counter[str]
    free: Counter[str]  # those that no pod has
    missing: Counter[str]  # those that pods have and that do not exist


class Node:
    """Mutable; owned by the ledger. `usages` stand in the order of the inventory's GPUs."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.inventory: Inventory | NoInventory = NOT_SEEN
        self.refused: tuple[GpuProblem, ...] = ()
        self.position: dict[str, int] = {}
        self.usages: list[Usage] = []
        self.allocatable, self.cordoned = NOT_TOLD, False
        self.pods: dict[str, Holding] = {}
        self.others: dict[str, Load] = {}  # pods that hold nothing of ours, and take CPU and memory
        self._holders: dict[str, dict[str, Holding]] = {}  # by GPU, then pod
        self._conflicts: dict[str, tuple[str, ...]] = {}
        self._static: StaticRoom | None = None  # None: to be counted again
        self._cpu_milli = self._memory_mib = 0  # of all pods
        self._kinds: Counter[int] = Counter()  # pods by kind

    @property
    def gpus(self) -> tuple[Gpu, ...]:
        return self.inventory.gpus if isinstance(self.inventory, Inventory) else ()

    def report(self, inventory: Inventory | NoInventory, refused: Iterable[GpuProblem] = ()) -> None:
        """What the node's agent says now."""
        self.inventory, self.refused, self._static = inventory, tuple(refused), None
        self.position = {gpu.uuid: i for i, gpu in enumerate(self.gpus)}
        counted = [usage(gpu, self._held(gpu.uuid)) for gpu in self.gpus]
        self.usages = [left for left, _ in counted]
        self._conflicts = {gpu.uuid: why for gpu, (_, why) in zip(self.gpus, counted, strict=True) if why}

    def tell(self, node: Mapping[str, object]) -> None:
        """What the Node object (its JSON) says beside its inventory."""
        spec = node.get("spec")
        self.allocatable = Allocatable.of(node)
        self.cordoned = isinstance(spec, Mapping) and spec.get("unschedulable") is True

    def hold(self, holding: Holding) -> list[int]:
        """Takes a pod in, in place of what was known of it. Returns the positions of the GPUs that changed."""
        before = self._let_go(holding.uid)
        self.pods[holding.uid] = holding
        self._use(holding.load, 1)
        self._count(holding, 1)
        for uuid in holding.uuids:
            self._holders.setdefault(uuid, {})[holding.uid] = holding
        return self._recount(before | holding.uuids)

    def release(self, uid: str) -> list[int]:
        """Lets a pod go. Returns the positions of the GPUs that changed."""
        return self._recount(self._let_go(uid))

    def put_other(self, uid: str, load: Load) -> None:
        """A pod that holds nothing of ours, in place of what was known of it."""
        self.drop_other(uid)
        self.others[uid] = load
        self._use(load, 1)

    def drop_other(self, uid: str) -> None:
        self._use(self.others.pop(uid, NO_LOAD), -1)

    @property
    def free(self) -> Allocatable:
        """CPU and memory that no pod asked for; never less than none."""
        cpu, memory = self.allocatable.cpu_milli, self.allocatable.memory_mib
        return Allocatable(
            None if cpu is None else max(0, cpu - self._cpu_milli),
            None if memory is None else max(0, memory - self._memory_mib),
        )

    @property
    def pod_kinds(self) -> int:
        """Which kinds of pods hold GPUs: bit 0 for shares, bit k for k whole GPUs, bit 8 for eight and more."""
        return sum(1 << kind for kind, pods in self._kinds.items() if pods)

    def base(self) -> list[Usage]:
        """What would be left of each GPU without any pod."""
        return [usage(gpu, ())[0] for gpu in self.gpus]

    def view(
        self, without: AbstractSet[str] = frozenset(), extra: Sequence[Held] = (), static: Counter[str] | None = None
    ) -> NodeView:
        """What the usable GPUs can give: as things are, or without some pods, or beside some that are expected."""
        touched = {h.grant.uuid for h in extra}
        for uid in without:
            if uid in self.pods:
                touched |= self.pods[uid].uuids
        gpus = []
        for gpu, now in zip(self.gpus, self.usages, strict=True):
            if gpu.usable:
                beside = [h for h in extra if h.grant.uuid == gpu.uuid]
                left = usage(gpu, [*self._held(gpu.uuid, without), *beside])[0] if gpu.uuid in touched else now
                gpus.append((gpu, left))
        return NodeView(
            self.name, tuple(gpus), self.static_room(without & self.pods.keys()).free - (static or Counter())
        )

    def static_room(self, without: Collection[str] = ()) -> StaticRoom:
        """Existing MIG instances that pods reach through NVIDIA's plugin, not those that a pod holds by its record."""
        if without:
            return self._count_static(without)
        if self._static is None:
            self._static = self._count_static()
        return self._static

    def problems(self) -> list[Problem]:
        """Refused GPUs, contradictions between holders, and holders of GPUs that the node does not report."""
        if isinstance(self.inventory, NoInventory):
            return []
        whys = [f"GPU {refused}" for refused in self.refused]
        for conflicts in self._conflicts.values():
            whys += conflicts
        for uuid in self._holders.keys() - self.position.keys():
            whys.append(f"pods {', '.join(sorted(self._holders[uuid]))} hold {uuid}, which is not reported")
        for profile, count in self.static_room().missing.items():
            whys.append(f"{count} more {profile} are used than instances exist")
        return [Problem(self.name, why) for why in sorted(whys)]

    def _is_held(self, uuid: str, placement: Placement) -> bool:
        return any(isinstance(h.grant, MigSlice) and h.grant.placement == placement for h in self._held(uuid))

    def _count_static(self, without: Collection[str] = ()) -> StaticRoom:
        existing = Counter(
            i.placement.profile
            for gpu in self.gpus
            if gpu.healthy
            for i in gpu.instances
            if not i.managed and not i.mps and not self._is_held(gpu.uuid, i.placement)
        )
        taken: Counter[str] = Counter()
        for holding in self.pods.values():
            if holding.static and holding.uid not in without:
                taken.update(dict(holding.static))
        return StaticRoom(existing, existing - taken, taken - existing)

    def _held(self, uuid: str, without: Collection[str] = ()) -> list[Held]:
        holders = self._holders.get(uuid, {})
        return [held for uid in sorted(holders) if uid not in without for held in holders[uid].held(uuid)]

    def _let_go(self, uid: str) -> frozenset[str]:
        """Returns the GPUs of which the pod held something; none if it is not known."""
        holding = self.pods.pop(uid, None)
        if holding is None:
            return frozenset()
        self._use(holding.load, -1)
        self._count(holding, -1)
        uuids = holding.uuids
        for uuid in uuids:
            del self._holders[uuid][uid]
            if not self._holders[uuid]:
                del self._holders[uuid]
        return uuids

    def _use(self, load: Load, sign: int) -> None:
        self._cpu_milli += sign * load.cpu_milli
        self._memory_mib += sign * load.memory_mib

    def _count(self, holding: Holding, sign: int) -> None:
        if holding.kind is not None:
            self._kinds[holding.kind] += sign

    def _recount(self, uuids: Iterable[str]) -> list[int]:
        self._static = None
        changed = sorted(self.position[uuid] for uuid in uuids if uuid in self.position)
        for i in changed:
            gpu = self.gpus[i]
            self.usages[i], why = usage(gpu, self._held(gpu.uuid))
            self._conflicts.pop(gpu.uuid, None)
            if why:
                self._conflicts[gpu.uuid] = why
        return changed
