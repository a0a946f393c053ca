"""The allocation record: what each container of a pod holds of which GPU. Written once, on the Binding."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Final, Self

import msgspec

from extender.placement.profile import Mode, Placement

ALLOCATION: Final = "slicewise.dev/allocation"
VERSION: Final = 1


class AllocationError(ValueError):
    """The record cannot be read; the message names the field and the rule."""


@dataclass(frozen=True, slots=True, order=True)
class MigSlice:
    """A MIG instance at an exact place."""

    uuid: str
    profile: str
    start: int
    size: int

    @property
    def mode(self) -> Mode:
        return Mode.MIG

    @property
    def placement(self) -> Placement:
        return Placement(self.profile, self.start, self.size)


@dataclass(frozen=True, slots=True, order=True)
class MpsShare:
    """A share of a GPU under MPS. `share` tells the shares of one pod on one GPU apart."""

    uuid: str
    memory_mib: int
    compute_pct: int
    share: int = 0

    @property
    def mode(self) -> Mode:
        return Mode.MPS


@dataclass(frozen=True, slots=True, order=True)
class WholeGpu:
    uuid: str

    @property
    def mode(self) -> Mode:
        return Mode.EXCLUSIVE


Grant = MigSlice | MpsShare | WholeGpu


@dataclass(frozen=True, slots=True)
class ContainerGrants:
    name: str
    gpus: tuple[Grant, ...]


class _Gpu(msgspec.Struct, omit_defaults=True, frozen=True):
    uuid: str
    mode: Mode
    profile: str | None = None
    start: int | None = None
    size: int | None = None
    memory_mib: int | None = None
    compute_pct: int | None = None
    share: int = 0


class _Container(msgspec.Struct, frozen=True):
    name: str
    gpus: list[_Gpu]


class _Record(msgspec.Struct, frozen=True):
    version: int
    containers: list[_Container]


_decoder: Final = msgspec.json.Decoder(_Record)


def _grant(gpu: _Gpu, where: str) -> Grant:
    if not gpu.uuid:
        raise AllocationError(f"{where}.uuid is empty; want the UUID of a GPU")
    if gpu.mode is Mode.EXCLUSIVE:
        return WholeGpu(gpu.uuid)
    if gpu.mode is Mode.MPS:
        if gpu.memory_mib is None or gpu.compute_pct is None:
            raise AllocationError(f"{where}: mode mps wants memory_mib and compute_pct")
        if gpu.memory_mib < 1 or not 1 <= gpu.compute_pct <= 100 or gpu.share < 0:
            raise AllocationError(
                f"{where}: want memory_mib >= 1, compute_pct from 1 to 100 and share >= 0, "
                f"got {gpu.memory_mib}, {gpu.compute_pct} and {gpu.share}"
            )
        return MpsShare(gpu.uuid, gpu.memory_mib, gpu.compute_pct, gpu.share)
    if gpu.profile is None or gpu.start is None or gpu.size is None:
        raise AllocationError(f"{where}: mode mig wants profile, start and size")
    if gpu.start < 0 or gpu.size < 1:
        raise AllocationError(f"{where}: want start >= 0 and size >= 1, got {gpu.start} and {gpu.size}")
    return MigSlice(gpu.uuid, gpu.profile, gpu.start, gpu.size)


def _wire(grant: Grant) -> _Gpu:
    if isinstance(grant, MigSlice):
        return _Gpu(uuid=grant.uuid, mode=grant.mode, profile=grant.profile, start=grant.start, size=grant.size)
    if isinstance(grant, MpsShare):
        mib, pct = grant.memory_mib, grant.compute_pct
        return _Gpu(uuid=grant.uuid, mode=grant.mode, memory_mib=mib, compute_pct=pct, share=grant.share)
    return _Gpu(uuid=grant.uuid, mode=grant.mode)


@dataclass(frozen=True, slots=True)
class Allocation:
    """What each container of a pod holds. A grant that stands twice is one grant used one after the other.

    An init container runs before the others and may use what they will hold, so equal grants are counted once.
    """

    containers: tuple[ContainerGrants, ...]
    _grants: tuple[Grant, ...] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_grants", tuple(dict.fromkeys(g for c in self.containers for g in c.gpus)))

    def grants(self) -> tuple[Grant, ...]:
        """Every distinct grant, in the order of its first use."""
        return self._grants

    def encode(self) -> str:
        """The annotation's text. Law: `Allocation.decode(a.encode()) == a`."""
        record = _Record(
            version=VERSION, containers=[_Container(c.name, [_wire(g) for g in c.gpus]) for c in self.containers]
        )
        return msgspec.json.encode(record).decode()

    @classmethod
    def decode(cls, text: str) -> Self:
        """Raises AllocationError."""
        try:
            record = _decoder.decode(text)
        except msgspec.MsgspecError as e:
            raise AllocationError(f"annotation {ALLOCATION}: {e}") from e
        if record.version != VERSION:
            raise AllocationError(
                f"annotation {ALLOCATION}: version {record.version} is not known to this release; want {VERSION}"
            )
        return cls(
            tuple(
                ContainerGrants(
                    c.name,
                    tuple(_grant(g, f"annotation {ALLOCATION}: {c.name}.gpus[{i}]") for i, g in enumerate(c.gpus)),
                )
                for c in record.containers
            )
        )

    @classmethod
    def of(cls, containers: Mapping[str, Iterable[Grant]]) -> Self:
        return cls(tuple(ContainerGrants(name, tuple(gpus)) for name, gpus in containers.items()))


def said(grant: Grant) -> str:
    """For people: the GPU, and what of it."""
    match grant:
        case MigSlice(uuid):
            return f"{uuid} {grant.placement}"
        case MpsShare(uuid, memory_mib, compute_pct, _):
            return f"{uuid} {memory_mib} MiB {compute_pct} %"
    return f"{grant.uuid} whole"
