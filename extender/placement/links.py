"""What joins the GPUs of a node: NVLink, an NVSwitch, a PCIe switch, a NUMA node. What is not told joins nothing.

Source of the levels: NVML API reference, `nvmlGpuTopologyLevel_t` and "NvLink Methods".
"""

from dataclasses import dataclass
from enum import IntEnum, StrEnum
from typing import Final

import msgspec

MAX_GPUS: Final = 16  #: of a node whose links are looked at: an HGX of two boards has as many
MAX_LINKS: Final = 255  #: of one GPU; nvidia-ml-py 13 knows 36 (NVML_NVLINK_MAX_LINKS)


class Link(StrEnum):
    """What a pod of several whole GPUs wants of what joins them."""

    ANY = "any"
    PREFER = "prefer"
    REQUIRE = "require"  # every two of them by NVLink


class Tier(IntEnum):
    """How two GPUs reach one another, the slowest first."""

    FAR = 0  # across NUMA nodes, or not known
    NUMA = 1  # through the host bridges of one NUMA node
    PCIE = 2  # through PCIe switches alone
    NVLINK = 3


class LinksError(ValueError):
    """Links that cannot be; the message names the field and the rule."""


@dataclass(frozen=True, slots=True)
class Links:
    """One GPU's side.

    `nvlink`: active links to other GPUs of the node by their index, ascending. `nvswitch`: active links to switches,
    which join all GPUs that have such links. `pcie`: GPUs of one number reach one another through PCIe switches alone.
    """

    nvlink: tuple[tuple[int, int], ...] = ()
    nvswitch: int = 0
    pcie: int | None = None

    def wire(self) -> dict[str, object]:
        """Its JSON in the inventory, as short as it can be. Law: `read(links.wire()) == links`."""
        found: dict[str, object] = {"nvlink": {str(i): n for i, n in self.nvlink}} if self.nvlink else {}
        found |= {"nvswitch": self.nvswitch} if self.nvswitch else {}
        return found | ({"pcie": self.pcie} if self.pcie is not None else {})


NO_LINKS: Final = Links()


class _Wire(msgspec.Struct, frozen=True):
    nvlink: dict[str, int] = {}  # msgspec gives each its own
    nvswitch: int = 0
    pcie: int | None = None


def read(found: object, index: int) -> Links:
    """The links of the GPU with this index from the JSON that its agent wrote. Raises LinksError."""
    try:
        wire = msgspec.convert(found, _Wire)
    except msgspec.ValidationError as e:
        raise LinksError(f"links: {e}") from e
    if len(wire.nvlink) >= MAX_GPUS:
        raise LinksError(f"links.nvlink: want fewer than {MAX_GPUS} other GPUs, got {len(wire.nvlink)}")
    nvlink = {}
    for name, number in wire.nvlink.items():
        if not (name.isascii() and name.isdigit() and len(name) <= 9) or int(name) == index:
            raise LinksError(f"links.nvlink: want indexes of other GPUs, got {name!r}")
        if int(name) in nvlink or not 1 <= number <= MAX_LINKS:
            raise LinksError(f"links.nvlink[{name}]: want each GPU once, with 1 to {MAX_LINKS} links, got {number}")
        nvlink[int(name)] = number
    if not 0 <= wire.nvswitch <= MAX_LINKS:
        raise LinksError(f"links.nvswitch: want 0 to {MAX_LINKS} links, got {wire.nvswitch}")
    if wire.pcie is not None and wire.pcie < 0:
        raise LinksError(f"links.pcie: want >= 0, got {wire.pcie}")
    return Links(tuple(sorted(nvlink.items())), wire.nvswitch, wire.pcie)


@dataclass(frozen=True, slots=True)
class End:
    """One GPU as the end of a path."""

    index: int
    numa: int | None
    links: Links

    @property
    def known(self) -> bool:
        return self.numa is not None or self.links != NO_LINKS


def strength(a: End, b: End) -> int:
    """Of what joins two GPUs: 0 to 2 as Tier has them, and 2 more than the number of NVLinks.

    Links that only one side tells of are none.
    """
    direct = min(dict(a.links.nvlink).get(b.index, 0), dict(b.links.nvlink).get(a.index, 0))
    nvlinks = direct + min(a.links.nvswitch, b.links.nvswitch)
    if nvlinks:
        return Tier.PCIE + nvlinks
    if a.links.pcie is not None and a.links.pcie == b.links.pcie:
        return Tier.PCIE
    return Tier.NUMA if a.numa is not None and a.numa == b.numa else Tier.FAR
