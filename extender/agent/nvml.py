"""NVML, read only. Signatures and traps are those of nvidia-ml-py's `pynvml` and NVIDIA's nvml.h."""

from collections.abc import Iterator, Sequence
from ctypes import byref, c_uint
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any, Final, Self

import structlog

from extender.agent.links import Device, links_of
from extender.agent.reading import GpuReading, InstanceReading, NvmlError
from extender.placement.links import NO_LINKS
from extender.placement.profile import Placement, Profile, profile_name

MIB: Final = 1024 * 1024
SYSFS: Final = Path("/sys/bus/pci/devices")

log: structlog.typing.FilteringBoundLogger = structlog.get_logger()


class Library:
    """`pynvml`: the module, which has no annotations; tests give a scripted one."""

    def __init__(self, pynvml: Any, sysfs: Path = SYSFS) -> None:  # noqa: ANN401  # a module without annotations
        self._n = pynvml
        self._sysfs = sysfs
        try:
            pynvml.nvmlInit()
        except pynvml.NVMLError as e:
            raise NvmlError(f"NVML does not start: {e}; is NVIDIA's driver installed and visible here?") from e

    @classmethod
    def load(cls) -> Self:
        """Raises NvmlError where there is no driver."""
        import pynvml  # noqa: PLC0415  # only on nodes with GPUs

        module: ModuleType = pynvml
        return cls(module)

    def close(self) -> None:
        self._n.nvmlShutdown()

    def gpus(self) -> Sequence[GpuReading]:
        try:
            count = self._n.nvmlDeviceGetCount()
        except self._n.NVMLError as e:
            raise NvmlError(f"NVML does not count the GPUs: {e}") from e
        readings: list[GpuReading] = []
        devices: list[Device] = []
        for index in range(count):
            found = self._gpu(index)
            if found is not None:
                reading, device = found
                readings.append(reading)
                if not reading.mig and reading.fault is None:  # MIG instances reach nobody by NVLink
                    devices.append(device)
        links = links_of(self._n, devices)
        return [replace(r, links=links.get(r.index, NO_LINKS)) for r in readings]

    def _gpu(self, index: int) -> tuple[GpuReading, Device] | None:
        n = self._n
        try:
            device = n.nvmlDeviceGetHandleByIndex(index)
            uuid, pci = _text(n.nvmlDeviceGetUUID(device)), n.nvmlDeviceGetPciInfo(device)
        except n.NVMLError as e:  # a GPU that fell off the bus has no name to publish it under
            log.warning("agent.gpu_unreadable", index=index, why=str(e))
            return None
        where = Device(device, index, _text(pci.busId))
        try:
            current, pending = self._mig_mode(device)
            profiles = tuple(self._profiles(device)) if current else None
            reading = GpuReading(
                uuid=uuid,
                index=index,
                product=_text(n.nvmlDeviceGetName(device)),
                device_id=f"{pci.pciDeviceId >> 16:04x}",  # the lower half is the vendor
                memory_mib=self._usable_mib(device),
                mig=bool(current),
                profiles=tuple(p for _, p in profiles) if profiles else None,
                instances=tuple(self._instances(device, profiles or ())),
                numa=self._numa(where.bus_id),
                fault=self._fault(device, changing=current != pending),
            )
        except n.NVMLError as e:
            log.warning("agent.gpu_faulty", gpu=uuid, index=index, why=str(e))
            reading = GpuReading(uuid, index, "", f"{pci.pciDeviceId >> 16:04x}", 0, mig=False, fault=str(e))
        return reading, where

    def _usable_mib(self, device: object) -> int:
        """What processes can have: an H100 of 81,559 MiB keeps 480 back, which only the second version tells apart."""
        n = self._n
        try:
            memory = n.nvmlDeviceGetMemoryInfo(device, version=n.nvmlMemory_v2)
        except (n.NVMLError_NotSupported, n.NVMLError_FunctionNotFound):  # a driver before R510
            return int(n.nvmlDeviceGetMemoryInfo(device).total // MIB)
        return int((memory.total - memory.reserved) // MIB)

    def _mig_mode(self, device: object) -> tuple[int, int]:
        """Current and pending; off where the GPU knows no MIG."""
        try:
            current, pending = self._n.nvmlDeviceGetMigMode(device)
        except (self._n.NVMLError_NotSupported, self._n.NVMLError_FunctionNotFound):
            return 0, 0
        return current, pending

    def _fault(self, device: object, *, changing: bool) -> str | None:
        if changing:
            return "a change of its MIG mode waits for a reset"
        try:
            _, _, _, failed = self._n.nvmlDeviceGetRemappedRows(device)
        except (self._n.NVMLError_NotSupported, self._n.NVMLError_FunctionNotFound):
            return None
        return "rows of its memory could not be remapped" if failed else None

    def _profiles(self, device: object) -> Iterator[tuple[int, Profile]]:
        """Each profile with its id. Profile info is asked for by enumerator, placements by id: they differ."""
        n = self._n
        for enumerator in range(n.NVML_GPU_INSTANCE_PROFILE_COUNT):
            try:
                info = n.nvmlDeviceGetGpuInstanceProfileInfo(device, enumerator)
                places = self._places(device, info.id)
            except (n.NVMLError_NotSupported, n.NVMLError_InvalidArgument):
                continue  # this GPU does not know this profile
            except n.NVMLError_NoPermission:
                return  # an unprivileged agent: the catalog must do
            if not places:
                continue
            name = _text(info.name)
            yield (
                info.id,
                Profile(
                    name=profile_name(name) or name,
                    slices=info.sliceCount,
                    size=places[0][1],
                    memory_mib=info.memorySizeMB,
                    starts=tuple(sorted(start for start, _ in places)),
                    max_count=info.instanceCount,
                    sms=info.multiprocessorCount,
                ),
            )

    def _places(self, device: object, profile_id: int) -> list[tuple[int, int]]:
        """(start, size) of every placement, free or not. The first call counts, the second one fills."""
        count = c_uint(0)
        self._n.nvmlDeviceGetGpuInstancePossiblePlacements(device, profile_id, None, byref(count))
        if count.value == 0:
            return []
        found = (self._n.c_nvmlGpuInstancePlacement_t * count.value)()
        self._n.nvmlDeviceGetGpuInstancePossiblePlacements(device, profile_id, found, byref(count))
        return [(found[i].start, found[i].size) for i in range(count.value)]

    def _instances(self, device: object, profiles: Sequence[tuple[int, Profile]]) -> Iterator[InstanceReading]:
        n = self._n
        devices = dict(self._mig_devices(device)) if profiles else {}
        for profile_id, profile in profiles:
            count = c_uint(profile.max_count)
            found = (n.c_nvmlGpuInstance_t * profile.max_count)()
            n.nvmlDeviceGetGpuInstances(device, profile_id, found, byref(count))
            for i in range(count.value):
                info = n.nvmlGpuInstanceGetInfo(found[i])
                uuid, busy = devices.get(info.id, ("", False))
                where = Placement(profile.name, info.placement.start, info.placement.size)
                yield InstanceReading(where, uuid, busy)

    def _mig_devices(self, device: object) -> Iterator[tuple[int, tuple[str, bool]]]:
        """UUID and whether processes run, by GPU instance. Their indexes have holes."""
        n = self._n
        for index in range(n.nvmlDeviceGetMaxMigDeviceCount(device)):
            try:
                mig = n.nvmlDeviceGetMigDeviceHandleByIndex(device, index)
            except n.NVMLError_NotFound:
                continue
            try:
                busy = bool(n.nvmlDeviceGetComputeRunningProcesses(mig))
            except (n.NVMLError_NotSupported, n.NVMLError_NoPermission):
                busy = True  # not known is not free
            yield n.nvmlDeviceGetGpuInstanceId(mig), (_text(n.nvmlDeviceGetUUID(mig)), busy)

    def _numa(self, bus_id: str) -> int | None:
        """NVML writes the domain with 8 digits, sysfs with 4."""
        try:
            node = int((self._sysfs / bus_id[-12:].lower() / "numa_node").read_text())
        except (OSError, ValueError):
            return None
        return node if node >= 0 else None


def _text(found: str | bytes) -> str:
    return found.decode() if isinstance(found, bytes) else found
