"""A node's GPUs as its agent reports them. A GPU that cannot be understood is refused; the node's others are used."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final, Self

import msgspec

from extender.placement import catalog
from extender.placement.allocation import Allocation, Grant
from extender.placement.demand import Demand, DemandError, Shape
from extender.placement.links import MAX_GPUS, NO_LINKS, End, Links, LinksError, read
from extender.placement.masks import TablesError, tables
from extender.placement.profile import GpuModel, Mode, Placement, Profile, profile_name

__all__ = [
    "INVENTORY",
    "Allocation",
    "Demand",
    "DemandError",
    "Gpu",
    "GpuModel",
    "GpuProblem",
    "Grant",
    "Instance",
    "Inventory",
    "InventoryError",
    "Mode",
    "NoInventory",
    "Placement",
    "Profile",
    "Shape",
]

INVENTORY: Final = "slicewise.dev/inventory"
VERSION: Final = 1
OURS: Final = "slicewise"


class InventoryError(ValueError):
    """The annotation as a whole cannot be read."""


@dataclass(frozen=True, slots=True)
class NoInventory:
    """A node whose GPUs are not known, and why. Not the same as a node without GPUs."""

    why: str


@dataclass(frozen=True, slots=True)
class GpuProblem:
    """A GPU that is not used, and why; or one that is used as if nothing were known of its links."""

    gpu: str
    why: str

    def __str__(self) -> str:
        return f"{self.gpu}: {self.why}"


@dataclass(frozen=True, slots=True)
class Instance:
    """A MIG instance that exists. `managed`: our agent made it and may destroy it when no pod holds it.

    `mps`: it stays, and is shared through MPS as a device of its own.
    """

    placement: Placement
    uuid: str
    managed: bool = False
    mps: bool = False


@dataclass(frozen=True, slots=True)
class Part:
    """Of which GPU a MIG instance is, with how many of its compute slices."""

    gpu: str
    slices: int
    all_slices: int


NO_PART: Final = Part("", 1, 1)  # a GPU is all of itself


@dataclass(frozen=True, slots=True)
class Gpu:
    """One GPU of a node, or a MIG instance that is shared through MPS.

    `owner` other than `slicewise`: another manager cuts it, nothing is placed there by us.
    """

    uuid: str
    index: int
    model: GpuModel
    memory_mib: int
    mode: Mode
    healthy: bool = True
    numa: int | None = None
    owner: str = OURS
    instances: tuple[Instance, ...] = ()
    links: Links = NO_LINKS
    part: Part = NO_PART

    @property
    def usable(self) -> bool:
        return self.healthy and self.owner == OURS

    @property
    def end(self) -> End:
        """What joins it to the other GPUs of its node."""
        return End(self.index, self.numa, self.links)


@dataclass(frozen=True, slots=True)
class Inventory:
    gpus: tuple[Gpu, ...]

    @classmethod
    def parse(cls, text: str, models: Mapping[str, GpuModel] | None = None) -> tuple[Self, tuple[GpuProblem, ...]]:
        """The GPUs that can be used and those that cannot. `models`: catalog for GPUs that report no profiles.

        Raises InventoryError if the text as a whole is no inventory of a known version.
        """
        known = catalog.load() if models is None else models
        try:
            document = msgspec.json.decode(text)
        except msgspec.DecodeError as e:
            raise InventoryError(f"annotation {INVENTORY}: {e}") from e
        if not isinstance(document, dict) or not isinstance(document.get("gpus"), list):
            raise InventoryError(f"annotation {INVENTORY}: want an object with version and gpus")
        if document.get("version") != VERSION:
            raise InventoryError(
                f"annotation {INVENTORY}: version {document.get('version')!r} is not known; want {VERSION}"
            )
        gpus: dict[str, Gpu] = {}
        problems: list[GpuProblem] = []
        for i, item in enumerate(document["gpus"]):
            name = str(item.get("uuid") or f"gpus[{i}]") if isinstance(item, dict) else f"gpus[{i}]"
            try:
                gpu = _gpu(item, known)
                _require(gpu.uuid not in gpus, "uuid", gpu.uuid, "want each GPU once")
            except (_GpuError, msgspec.ValidationError, TablesError) as e:
                problems.append(GpuProblem(name, str(e)))
            else:
                try:
                    links = _links(item, gpu.index, len(document["gpus"]))
                except LinksError as e:
                    problems.append(GpuProblem(name, f"{e}; used as if nothing were known of its links"))
                    links = NO_LINKS
                gpus[gpu.uuid] = gpu if links == NO_LINKS else replace(gpu, links=links)
        in_order = sorted(gpus.values(), key=lambda g: (g.index, g.uuid))
        for part in [part for gpu in in_order for part in _parts(gpu)]:
            if part.uuid in gpus:
                problems.append(
                    GpuProblem(part.uuid, f"uuid: want each MIG instance once, got it on {part.part.gpu} too")
                )
            else:
                gpus[part.uuid] = part
        return cls((*in_order, *(g for g in gpus.values() if g.part != NO_PART))), tuple(problems)

    @classmethod
    def of(
        cls, node: Mapping[str, object], models: Mapping[str, GpuModel] | None = None
    ) -> tuple[Self | NoInventory, tuple[GpuProblem, ...]]:
        """The inventory that a Node object (its JSON) carries in its annotation."""
        text = inventory_text(node)
        if text is None:
            return NoInventory("no inventory: the node agent has not reported its GPUs"), ()
        try:
            return cls.parse(text, models)
        except InventoryError as e:
            return NoInventory(f"unreadable inventory: {e}"), ()


def inventory_text(node: Mapping[str, object]) -> str | None:
    """The inventory annotation of a Node object, unread."""
    meta = node.get("metadata")
    annotations = meta.get("annotations") if isinstance(meta, Mapping) else None
    text = annotations.get(INVENTORY) if isinstance(annotations, Mapping) else None
    return text if isinstance(text, str) else None


class _GpuError(ValueError):
    """Why one GPU is not used."""


class _ProfileWire(msgspec.Struct, frozen=True):
    name: str
    size: int
    slices: int
    memory_mib: int
    starts: list[int]
    max_count: int


class _InstanceWire(msgspec.Struct, frozen=True):
    profile: str
    start: int
    size: int
    uuid: str = ""
    managed: bool = False
    mps: bool = False


class _GpuWire(msgspec.Struct, frozen=True):
    uuid: str
    index: int
    model: str
    memory_mib: int
    mode: Mode
    healthy: bool = True
    numa: int | None = None
    owner: str = OURS
    profiles: list[_ProfileWire] | None = None
    instances: list[_InstanceWire] | None = None


def _gpu(item: object, known: Mapping[str, GpuModel]) -> Gpu:
    wire = msgspec.convert(item, _GpuWire)
    _require(bool(wire.uuid), "uuid", wire.uuid, "want the GPU's UUID")
    _require(wire.index >= 0, "index", wire.index, "want >= 0")
    _require(wire.memory_mib > 0, "memory_mib", wire.memory_mib, "want > 0")
    model = _model(wire, known)
    if model.profiles:
        tables(model)  # raises TablesError for profiles that cannot be
    elif wire.mode is Mode.MIG:
        why = "is not MIG-capable" if wire.model in known else "is not in the catalog and no profiles are reported"
        raise _GpuError(f"model: {wire.model!r} {why}; want profiles as NVML reports them")
    return Gpu(
        uuid=wire.uuid,
        index=wire.index,
        model=model,
        memory_mib=wire.memory_mib,
        mode=wire.mode,
        healthy=wire.healthy,
        numa=wire.numa,
        owner=wire.owner,
        instances=_instances(wire.instances or (), model) if wire.mode is Mode.MIG else (),
    )


def _links(item: Mapping[str, object], index: int, gpus: int) -> Links:
    """Raises LinksError."""
    if "links" not in item:
        return NO_LINKS
    if gpus > MAX_GPUS:
        raise LinksError(f"links: looked at on nodes of up to {MAX_GPUS} GPUs, this one has {gpus}")
    return read(item["links"], index)


def _require(ok: bool, field: str, value: object, rule: str) -> None:
    if not ok:
        raise _GpuError(f"{field}: {rule}, got {value!r}")


def _model(wire: _GpuWire, known: Mapping[str, GpuModel]) -> GpuModel:
    """What the GPU itself reports, before what the catalog says of its model."""
    if not wire.profiles:
        return known.get(wire.model) or GpuModel(wire.model, wire.memory_mib)
    profiles: dict[str, Profile] = {}
    for i, p in enumerate(wire.profiles):
        where, name = f"profiles[{i}]", profile_name(p.name) or p.name
        _require(name not in profiles, f"{where}.name", p.name, "want each profile once")
        _require(p.slices > 0, f"{where}.slices", p.slices, "want > 0")
        _require(p.size > 0, f"{where}.size", p.size, "want > 0")
        _require(p.memory_mib > 0, f"{where}.memory_mib", p.memory_mib, "want > 0")
        _require(p.max_count > 0, f"{where}.max_count", p.max_count, "want > 0")
        _require(bool(p.starts) and min(p.starts) >= 0, f"{where}.starts", p.starts, "want starts, each >= 0")
        profiles[name] = Profile(
            name=name,
            slices=p.slices,
            size=p.size,
            memory_mib=p.memory_mib,
            starts=tuple(sorted(set(p.starts))),
            max_count=p.max_count,
        )
    discovered = GpuModel(wire.model, wire.memory_mib, tuple(profiles.values()))
    cataloged = known.get(wire.model)
    return cataloged if cataloged == discovered else discovered


def _instances(wires: Sequence[_InstanceWire], model: GpuModel) -> tuple[Instance, ...]:
    grid = tables(model)
    state = grid.empty
    instances = []
    shared: set[str] = set()
    for i, wire in enumerate(wires):
        name = profile_name(wire.profile) or wire.profile
        profile = model.profile(name)
        if profile is None:
            raise _GpuError(f"instances[{i}].profile: {wire.profile!r} is no profile of {model.name}")
        placement = Placement(name, wire.start, wire.size)
        if wire.start not in profile.starts or wire.size != profile.size:
            raise _GpuError(
                f"instances[{i}]: {name} of size {wire.size} at {wire.start} is no placement of {model.name}"
            )
        after = grid.after(state, placement)
        if after is None:
            raise _GpuError(f"instances[{i}]: {placement} overlaps another instance or is one too many")
        state = after
        _require(
            not wire.mps or wire.uuid.startswith("MIG-"), f"instances[{i}].uuid", wire.uuid, "want a MIG UUID to share"
        )
        _require(not (wire.mps and wire.managed), f"instances[{i}].mps", wire.mps, "want one that nobody may destroy")
        _require(not wire.mps or wire.uuid not in shared, f"instances[{i}].uuid", wire.uuid, "want each once")
        shared |= {wire.uuid} if wire.mps else set()
        instances.append(Instance(placement, wire.uuid, managed=wire.managed, mps=wire.mps))
    return tuple(sorted(instances, key=lambda i: (i.placement.start, i.placement.profile)))


def _parts(gpu: Gpu) -> Iterator[Gpu]:
    """MIG instances that are shared through MPS, as devices. Whoever cut the GPU, the operator gave these to us."""
    profiles = {p.name: p for p in gpu.model.profiles}
    for instance in gpu.instances:
        profile = profiles[instance.placement.profile]
        if instance.mps:
            yield replace(
                gpu,
                uuid=instance.uuid,
                memory_mib=profile.memory_mib,
                mode=Mode.MPS,
                owner=OURS,
                instances=(),
                part=Part(gpu.uuid, profile.slices, gpu.model.compute_slices),
            )
