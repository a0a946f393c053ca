# ruff: noqa: ANN401, N802, N815, N818  # names and untyped arguments are pynvml's
"""A scripted `pynvml`: the functions that the agent calls, with NVML's own habits, over GPUs of the catalog.

Habits kept on purpose: enumerators are not profile ids, placements are fetched by a call that counts and one that
fills, MIG devices stand at indexes with holes, names come as bytes, what is not supported is an exception.
"""

from ctypes import Structure, c_uint
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

from extender.placement import catalog
from extender.placement.profile import Placement, Profile


class NVMLError(Exception):
    pass


class NotSupported(NVMLError):
    pass


class InvalidArgument(NVMLError):
    pass


class NotFound(NVMLError):
    pass


class NoPermission(NVMLError):
    pass


class FunctionNotFound(NVMLError):
    pass


class PlacementStruct(Structure):
    _fields_ = (("start", c_uint), ("size", c_uint))


class InstanceStruct(Structure):
    """NVML's opaque handle; here the instance's id."""

    _fields_ = (("id", c_uint),)


@dataclass
class Instance:
    placement: Placement
    uuid: str = ""
    processes: tuple[int, ...] = ()


@dataclass
class FakeGpu:
    model: str
    uuid: str = "GPU-0"
    mig: tuple[int, int] | None = (1, 1)  #: current, pending; None: not supported
    instances: list[Instance] = field(default_factory=list)
    remap_failed: bool = False
    privileged: bool = True
    lost: bool = False
    device_id: int = 0x20B5
    reserved_mib: int | None = 0  #: what the driver keeps back; None: it is too old to tell it apart
    bus: str = "00000000:3B:00.0"
    far_ends: tuple[str, ...] = ()  #: of each NVLink: a bus id, `switch`, `npu`, `down`, `unplugged`, or `old driver`
    board: tuple[int, ...] = ()  #: socket, host bridge, PCIe switch: equal beginnings are a common ancestor

    @property
    def profiles(self) -> tuple[Profile, ...]:
        return catalog.load()[self.model].profiles


#: Which enumerator asks for which profile of an A100, and the id that its info then has.
A100 = {0: ("1g.10gb", 19), 7: ("1g.10gb+me", 20), 9: ("1g.20gb", 15), 1: ("2g.20gb", 14), 2: ("3g.40gb", 9)} | {
    3: ("4g.40gb", 5),
    4: ("7g.80gb", 0),
}


@dataclass
class FakePynvml:
    gpus: list[FakeGpu]
    starts: bool = True
    calls: list[str] = field(default_factory=list)

    NVMLError = NVMLError
    NVMLError_NotSupported = NotSupported
    NVMLError_InvalidArgument = InvalidArgument
    NVMLError_NotFound = NotFound
    NVMLError_NoPermission = NoPermission
    NVMLError_FunctionNotFound = FunctionNotFound
    NVML_GPU_INSTANCE_PROFILE_COUNT = 0x12
    NVML_NVLINK_MAX_LINKS = 36
    NVML_FEATURE_ENABLED = 1
    NVML_NVLINK_DEVICE_TYPE_GPU = 0x00
    NVML_NVLINK_DEVICE_TYPE_IBMNPU = 0x01
    NVML_NVLINK_DEVICE_TYPE_SWITCH = 0x02
    NVML_TOPOLOGY_MULTIPLE = 20
    nvmlMemory_v2 = 0x02000028
    c_nvmlGpuInstancePlacement_t = PlacementStruct
    c_nvmlGpuInstance_t = InstanceStruct

    def __getattr__(self, name: str) -> Any:
        def call(*arguments: Any, **named: Any) -> Any:
            self.calls.append(name)
            return getattr(self, "_" + name.removeprefix("nvml"))(*arguments, **named)

        if name.startswith("nvml"):
            return call
        raise AttributeError(name)

    def _Init(self) -> None:
        if not self.starts:
            raise NVMLError("Driver Not Loaded")

    def _Shutdown(self) -> None: ...

    def _DeviceGetCount(self) -> int:
        if not self.starts:
            raise NVMLError("Unknown Error")
        return len(self.gpus)

    def _DeviceGetHandleByIndex(self, index: int) -> FakeGpu:
        if self.gpus[index].lost:
            raise NVMLError("GPU is lost")
        return self.gpus[index]

    def _DeviceGetUUID(self, device: FakeGpu | Instance) -> bytes:
        return device.uuid.encode()

    def _DeviceGetName(self, gpu: FakeGpu) -> bytes:
        return f"NVIDIA {gpu.model.upper()}".encode()

    def _DeviceGetPciInfo(self, gpu: FakeGpu) -> SimpleNamespace:
        return SimpleNamespace(pciDeviceId=gpu.device_id << 16 | 0x10DE, busId=gpu.bus.encode())

    def _DeviceGetMemoryInfo(self, gpu: FakeGpu, version: int | None = None) -> SimpleNamespace:
        usable = catalog.load()[gpu.model].memory_mib
        if version is None:
            return SimpleNamespace(total=usable + (gpu.reserved_mib or 0) << 20)
        if gpu.reserved_mib is None:
            raise FunctionNotFound("Function Not Found")
        return SimpleNamespace(total=usable + gpu.reserved_mib << 20, reserved=gpu.reserved_mib << 20)

    def _DeviceGetMigMode(self, gpu: FakeGpu) -> list[int]:
        if gpu.mig is None:
            raise NotSupported("Not Supported")
        return list(gpu.mig)

    def _DeviceGetRemappedRows(self, gpu: FakeGpu) -> tuple[int, int, int, int]:
        return (0, 0, 0, int(gpu.remap_failed))

    def _DeviceGetNvLinkState(self, gpu: FakeGpu, link: int) -> int:
        if link >= len(gpu.far_ends):
            raise InvalidArgument("Invalid Argument") if gpu.far_ends else NotSupported("Not Supported")
        if gpu.far_ends[link] == "unplugged":
            raise NotSupported("Not Supported")
        return int(gpu.far_ends[link] != "down")

    def _DeviceGetNvLinkRemotePciInfo(self, gpu: FakeGpu, link: int) -> SimpleNamespace:
        end = gpu.far_ends[link]
        return SimpleNamespace(busId=(end if ":" in end else f"00000000:{0xC0 + link:02X}:00.0").encode())

    def _DeviceGetNvLinkRemoteDeviceType(self, gpu: FakeGpu, link: int) -> int:
        end = gpu.far_ends[link]
        if end == "old driver":
            raise FunctionNotFound("Function Not Found")
        return {"switch": 2, "npu": 1}.get(end, 0)

    def _DeviceGetTopologyCommonAncestor(self, one: FakeGpu, other: FakeGpu) -> int:
        if not one.board or not other.board:
            raise NotSupported("Not Supported")
        shared = [a == b for a, b in zip(one.board, other.board, strict=True)]
        return 10 if all(shared) else 30 if all(shared[:2]) else 40 if shared[0] else 50

    def _DeviceGetGpuInstanceProfileInfo(self, gpu: FakeGpu, enumerator: int) -> SimpleNamespace:
        if enumerator not in A100:
            raise NotSupported("Not Supported") if enumerator % 2 else InvalidArgument("Invalid Argument")
        name, number = A100[enumerator]
        profile = next(p for p in gpu.profiles if p.name == name)
        return SimpleNamespace(
            id=number,
            name=f"MIG {name}".encode(),
            sliceCount=profile.slices,
            instanceCount=profile.max_count,
            memorySizeMB=profile.memory_mib,
            multiprocessorCount=profile.sms,
        )

    def _DeviceGetGpuInstancePossiblePlacements(self, gpu: FakeGpu, number: int, found: Any, count: Any) -> None:
        if not gpu.privileged:
            raise NoPermission("Insufficient Permissions")
        profile = self._profile(gpu, number)
        if found is not None:
            assert len(found) == count._obj.value == len(profile.starts)
            for i, start in enumerate(reversed(profile.starts)):  # NVML promises no order
                found[i].start, found[i].size = start, profile.size
        count._obj.value = len(profile.starts)

    def _DeviceGetGpuInstances(self, gpu: FakeGpu, number: int, found: Any, count: Any) -> None:
        name = self._profile(gpu, number).name
        ids = [i for i, instance in enumerate(gpu.instances) if instance.placement.profile == name]
        for slot, instance_id in enumerate(ids):
            found[slot].id = instance_id
        count._obj.value = len(ids)
        self._last = gpu

    def _GpuInstanceGetInfo(self, handle: InstanceStruct) -> SimpleNamespace:
        place = self._last.instances[handle.id].placement
        return SimpleNamespace(id=handle.id, placement=SimpleNamespace(start=place.start, size=place.size))

    def _DeviceGetMaxMigDeviceCount(self, gpu: FakeGpu) -> int:
        return 2 * len(gpu.instances) + 1

    def _DeviceGetMigDeviceHandleByIndex(self, gpu: FakeGpu, index: int) -> Instance:
        if index % 2 == 0 or not gpu.instances[index // 2].uuid:
            raise NotFound("Not Found")
        return gpu.instances[index // 2]

    def _DeviceGetGpuInstanceId(self, device: Instance) -> int:
        return next(i for gpu in self.gpus for i, instance in enumerate(gpu.instances) if instance is device)

    def _DeviceGetComputeRunningProcesses(self, device: Instance) -> tuple[int, ...]:
        if device.processes == (-1,):
            raise NotSupported("Not Supported")
        return device.processes

    def _profile(self, gpu: FakeGpu, number: int) -> Profile:
        name = next(name for name, known in A100.values() if known == number)
        return next(p for p in gpu.profiles if p.name == name)
