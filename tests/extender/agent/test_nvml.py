from pathlib import Path
from types import SimpleNamespace

import pytest

from extender.agent.nvml import Library
from extender.agent.reading import InstanceReading, NvmlError
from extender.placement import catalog
from extender.placement.links import NO_LINKS, Links
from extender.placement.profile import Placement
from tests.fakes.nvml import FakeGpu, FakePynvml, Instance

NOWHERE = Path("/nonexistent")


def test_what_nvml_reports_of_an_a100_is_what_the_catalog_has() -> None:
    (gpu,) = Library(FakePynvml([FakeGpu("a100-80")]), NOWHERE).gpus()
    assert (gpu.uuid, gpu.index, gpu.device_id, gpu.memory_mib, gpu.mig) == ("GPU-0", 0, "20b5", 81920, True)
    assert gpu.profiles is not None
    assert {p.name: p for p in gpu.profiles} == {p.name: p for p in catalog.load()["a100-80"].profiles}
    assert (gpu.fault, gpu.numa, gpu.instances) == (None, None, ())


@pytest.mark.parametrize(
    ("reserved_mib", "usable_mib"),
    [
        pytest.param(480, 81079, id="what the driver keeps back is nobody's, as on a real H100"),
        pytest.param(None, 81079, id="a driver that does not tell it apart: all of it"),
    ],
)
def test_memory_is_what_processes_can_have(reserved_mib: int | None, usable_mib: int) -> None:
    (gpu,) = Library(FakePynvml([FakeGpu("h100-80", mig=None, reserved_mib=reserved_mib)]), NOWHERE).gpus()
    assert gpu.memory_mib == usable_mib


def test_instances_are_joined_with_their_mig_devices() -> None:
    instances = [
        Instance(Placement("1g.10gb", 0, 1), "MIG-a", processes=(4711,)),
        Instance(Placement("3g.40gb", 4, 4), "MIG-b"),
        Instance(Placement("1g.10gb", 1, 1), ""),
        Instance(Placement("2g.20gb", 2, 2), "MIG-d", processes=(-1,)),
    ]
    (gpu,) = Library(FakePynvml([FakeGpu("a100-80", instances=instances)]), NOWHERE).gpus()
    assert sorted(gpu.instances, key=lambda i: i.placement.start) == [
        InstanceReading(Placement("1g.10gb", 0, 1), "MIG-a", busy=True),
        InstanceReading(Placement("1g.10gb", 1, 1), "", busy=False),  # no compute instance yet
        InstanceReading(Placement("2g.20gb", 2, 2), "MIG-d", busy=True),  # whether processes run is not known
        InstanceReading(Placement("3g.40gb", 4, 4), "MIG-b", busy=False),
    ]


@pytest.mark.parametrize(
    ("gpu", "mig", "fault"),
    [
        pytest.param(FakeGpu("a100-80", mig=(0, 0)), False, None, id="MIG mode off"),
        pytest.param(FakeGpu("l40s", mig=None), False, None, id="MIG unknown to the GPU"),
        pytest.param(FakeGpu("a100-80", mig=(0, 1)), False, "waits for a reset", id="MIG mode about to change"),
        pytest.param(FakeGpu("l40s", mig=None, remap_failed=True), False, "remapped", id="memory rows broken"),
    ],
)
def test_mode_and_health(gpu: FakeGpu, mig: bool, fault: str | None) -> None:
    (found,) = Library(FakePynvml([gpu]), NOWHERE).gpus()
    assert (found.mig, found.profiles, found.instances) == (mig, None, ())
    assert fault is None if found.fault is None else fault is not None and fault in found.fault


def test_without_privileges_the_profiles_are_left_to_the_catalog() -> None:
    (gpu,) = Library(FakePynvml([FakeGpu("a100-80", privileged=False)]), NOWHERE).gpus()
    assert (gpu.mig, gpu.profiles, gpu.fault) == (True, None, None)


def test_a_gpu_that_is_lost_does_not_hide_the_others() -> None:
    gpus = Library(FakePynvml([FakeGpu("l40s", lost=True), FakeGpu("l40s", uuid="GPU-1", mig=None)]), NOWHERE).gpus()
    assert [(g.index, g.uuid) for g in gpus] == [(1, "GPU-1")]


def test_a_gpu_that_fails_while_it_is_read_is_published_as_faulty() -> None:
    class Failing(FakePynvml):
        def _DeviceGetMemoryInfo(self, gpu: FakeGpu, version: int | None = None) -> SimpleNamespace:  # noqa: N802  # pynvml's name
            raise self.NVMLError("Unknown Error")

    (gpu,) = Library(Failing([FakeGpu("a100-80")]), NOWHERE).gpus()
    assert (gpu.uuid, gpu.fault, gpu.mig) == ("GPU-0", "Unknown Error", False)


@pytest.mark.parametrize(
    ("text", "numa"),
    [pytest.param("1\n", 1, id="a node"), pytest.param("-1\n", None, id="the kernel does not know")],
)
def test_numa_comes_from_sysfs(tmp_path: Path, text: str, numa: int | None) -> None:
    (tmp_path / "0000:3b:00.0").mkdir()
    (tmp_path / "0000:3b:00.0" / "numa_node").write_text(text)
    (gpu,) = Library(FakePynvml([FakeGpu("l40s", mig=None)]), tmp_path).gpus()
    assert gpu.numa == numa


def bus(number: int) -> str:
    return f"00000000:{number:02X}:00.0"


def links_of(*gpus: FakeGpu) -> list[Links]:
    for i, one in enumerate(gpus):
        one.bus = bus(i)
    return [g.links for g in Library(FakePynvml(list(gpus)), NOWHERE).gpus()]


def test_links_end_at_other_gpus_at_switches_or_nowhere() -> None:
    a100 = FakeGpu(
        "a100-80", "GPU-0", (0, 0), far_ends=(bus(1), "down", bus(1), "unplugged", "npu", bus(9), "old driver")
    )
    assert links_of(a100, FakeGpu("a100-80", "GPU-1", (0, 0), far_ends=(bus(0).lower(), bus(0)))) == [
        Links(nvlink=((1, 2),)),
        Links(nvlink=((0, 2),)),
    ]
    assert links_of(*(FakeGpu("h100-80", f"GPU-{i}", (0, 0), far_ends=("switch",) * 18) for i in range(2))) == [
        Links(nvswitch=18),
        Links(nvswitch=18),
    ]


def test_gpus_in_mig_mode_and_faulty_ones_are_joined_to_nobody() -> None:
    cut = FakeGpu("a100-80", "GPU-0", (1, 1), far_ends=(bus(2),))
    broken = FakeGpu("a100-80", "GPU-1", (0, 0), far_ends=(bus(2),), remap_failed=True)
    assert links_of(cut, broken, FakeGpu("a100-80", "GPU-2", (0, 0), far_ends=(bus(0), bus(1)))) == [NO_LINKS] * 3


def test_gpus_behind_the_same_pcie_switches_share_a_number() -> None:
    """Sockets 0 and 1; on the first two host bridges, one of them with two GPUs behind it."""
    boards = [(0, 0, 0), (0, 0, 0), (0, 1, 0), (1, 0, 0), (1, 0, 1)]
    gpus = [FakeGpu("l40s", f"GPU-{i}", None, board=one) for i, one in enumerate(boards)]
    assert [one.pcie for one in links_of(*gpus)] == [0, 0, None, None, None]


def test_a_driver_that_tells_nothing_of_links_costs_no_gpu() -> None:
    class Silent(FakePynvml):
        NVML_NVLINK_MAX_LINKS = 2

        def _DeviceGetNvLinkState(self, gpu: FakeGpu, link: int) -> int:  # noqa: N802  # pynvml's name
            raise self.NVMLError("Unknown Error")

    gpus = [FakeGpu("l40s", f"GPU-{i}", None) for i in range(2)]
    assert [(g.links, g.fault) for g in Library(Silent(gpus), NOWHERE).gpus()] == [(NO_LINKS, None)] * 2


def test_without_a_driver_the_error_says_what_is_missing() -> None:
    with pytest.raises(NvmlError, match="NVML does not start: Driver Not Loaded; is NVIDIA's driver installed"):
        Library(FakePynvml([], starts=False), NOWHERE)
    library = FakePynvml([])
    reader = Library(library, NOWHERE)
    library.starts = False
    with pytest.raises(NvmlError, match="does not count the GPUs"):
        reader.gpus()
    reader.close()
    assert library.calls[-1] == "nvmlShutdown"


def test_the_real_library_has_every_function_that_is_called() -> None:
    import pynvml  # noqa: PLC0415  # only this test needs it

    fake = FakePynvml([FakeGpu("a100-80", instances=[Instance(Placement("1g.10gb", 0, 1), "MIG-a")])])
    Library(fake, NOWHERE).gpus()
    names = {*fake.calls, "NVML_GPU_INSTANCE_PROFILE_COUNT", "c_nvmlGpuInstancePlacement_t", "c_nvmlGpuInstance_t"}
    names |= {n for n in vars(FakePynvml) if n.startswith("NVMLError_")}
    pynvml.NVMLError  # noqa: B018  # makes the classes of the errors
    assert [n for n in sorted(names) if not hasattr(pynvml, n)] == []
