"""What a node's driver says of its GPUs, in values: the seam between NVML and everything else of the agent."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from extender.placement.links import NO_LINKS, Links
from extender.placement.profile import Placement, Profile


class NvmlError(Exception):
    """The driver as a whole cannot be asked. What is wrong with one GPU stands in its reading."""


@dataclass(frozen=True, slots=True)
class InstanceReading:
    """A GPU instance that exists. `uuid`: of its MIG device, empty while it has no compute instance."""

    placement: Placement
    uuid: str
    busy: bool  #: processes run on it


@dataclass(frozen=True, slots=True)
class GpuReading:
    """One GPU as the driver describes it now.

    `device_id`: PCI device, 4 hex digits in lower case. `profiles`: None where the driver does not tell (it wants
    privileges). `links`: those to the node's other healthy GPUs, where it is not cut. `fault`: why the GPU must not be
    used; None for a healthy one.
    """

    uuid: str
    index: int
    product: str
    device_id: str
    memory_mib: int
    mig: bool
    profiles: tuple[Profile, ...] | None = None
    instances: tuple[InstanceReading, ...] = ()
    numa: int | None = None
    links: Links = NO_LINKS
    fault: str | None = None


class Nvml(Protocol):
    """May block for seconds on a busy node: call it off the event loop."""

    def gpus(self) -> Sequence[GpuReading]:
        """All GPUs of the node, in index order. Raises NvmlError."""

    def close(self) -> None: ...
