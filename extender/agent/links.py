"""What joins the GPUs of this node, as NVML tells it. What it does not tell is left out, and no GPU fails by it.

Source: NVML API reference, "NvLink Methods" and `nvmlGpuTopologyLevel_t`; signatures are those of nvidia-ml-py.
"""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from extender.placement.links import Links


@dataclass(frozen=True, slots=True)
class Device:
    """A GPU that could be read: NVML's handle, its index, and its place on the PCI bus as NVML writes it."""

    handle: Any
    index: int
    bus_id: str


def links_of(pynvml: Any, devices: Sequence[Device]) -> dict[int, Links]:  # noqa: ANN401  # a module without annotations
    """By index. Links to GPUs that are not among the devices are left out."""
    index_of = {d.bus_id.lower(): d.index for d in devices}
    pcie = _pcie(pynvml, devices)
    found = {}
    for device in devices:
        ends = list(_far_ends(pynvml, device, index_of))
        nvlink = Counter(end for end in ends if end is not None)
        own = pcie[device.index]
        alone = list(pcie.values()).count(own) == 1
        found[device.index] = Links(tuple(sorted(nvlink.items())), ends.count(None), None if alone else own)
    return found


def _far_ends(n: Any, device: Device, index_of: dict[str, int]) -> Iterator[int | None]:  # noqa: ANN401
    """Of each active NVLink the GPU at its other end; None for a switch."""
    for link in range(n.NVML_NVLINK_MAX_LINKS):
        try:
            if n.nvmlDeviceGetNvLinkState(device.handle, link) != n.NVML_FEATURE_ENABLED:
                continue
            bus_id = _text(n.nvmlDeviceGetNvLinkRemotePciInfo(device.handle, link).busId).lower()
            if index_of.get(bus_id, device.index) != device.index:
                yield index_of[bus_id]
            elif n.nvmlDeviceGetNvLinkRemoteDeviceType(device.handle, link) == n.NVML_NVLINK_DEVICE_TYPE_SWITCH:
                yield None
        except n.NVMLError:  # no such link, no NVLink at all, or a driver that is too old to tell where it ends
            continue


def _pcie(n: Any, devices: Sequence[Device]) -> dict[int, int]:  # noqa: ANN401
    """By index the first GPU that is reached without a host bridge; the GPU itself where there is none."""
    first: dict[int, int] = {}
    for i, device in enumerate(devices):
        near = (other.index for other in devices[:i] if _near(n, device, other))
        first[device.index] = min((first[index] for index in near), default=device.index)
    return first


def _near(n: Any, a: Device, b: Device) -> bool:  # noqa: ANN401
    try:
        return bool(n.nvmlDeviceGetTopologyCommonAncestor(a.handle, b.handle) <= n.NVML_TOPOLOGY_MULTIPLE)
    except n.NVMLError:
        return False


def _text(found: str | bytes) -> str:
    return found.decode() if isinstance(found, bytes) else found
