"""An MPS daemon of our own, and what it keeps of its promises: compute, memory, number of clients, faults."""

import ctypes
import json
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

MIB: Final = 1 << 20
SMS: Final = 16  # CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT
CLIENTS_TRIED: Final = 64
PERCENT: Final = "CUDA_MPS_ACTIVE_THREAD_PERCENTAGE"
LIMIT: Final = "CUDA_MPS_PINNED_DEVICE_MEM_LIMIT"
FAULT: Final = b"""
.version 7.0
.target sm_70
.address_size 64
.visible .entry fault() { .reg .b64 %a; .reg .b32 %v; mov.u64 %a, 16; mov.u32 %v, 1; st.global.u32 [%a], %v; ret; }
"""


@contextmanager
def daemon(folder: Path) -> Iterator[dict[str, str]]:
    """Yields the environment that leads clients to it. Raises FileNotFoundError where the driver has no MPS."""
    env = {"CUDA_MPS_PIPE_DIRECTORY": str(folder / "pipe"), "CUDA_MPS_LOG_DIRECTORY": str(folder / "log")}
    for path in env.values():
        Path(path).mkdir(parents=True)
    control, ours = "nvidia-cuda-mps-control", {**os.environ, **env}
    subprocess.run([control, "-d"], env=ours, check=True, timeout=30)
    try:
        yield env
    finally:
        subprocess.run([control], input="quit\n", text=True, env=ours, check=False, timeout=60)


class Client:
    """A process with a context on GPU 0, or the error that refused it one."""

    def __init__(self, env: Mapping[str, str]) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "bench.gpu.mps"],
            env={**os.environ, **env},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self.began: dict[str, Any] = json.loads(self._line())

    def asked(self, what: str, mib: int = 0) -> str:
        """The name of the driver's error, or CUDA_SUCCESS."""
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps([what, mib]) + "\n")
        self._process.stdin.flush()
        return self._line()

    def _line(self) -> str:
        assert self._process.stdout is not None
        return self._process.stdout.readline().strip() or "the process ended"

    def end(self) -> None:
        self._process.kill()
        self._process.wait()


@contextmanager
def client(env: Mapping[str, str]) -> Iterator[Client]:
    one = Client(env)
    try:
        yield one
    finally:
        one.end()


def compute(env: Mapping[str, str]) -> Iterator[str]:
    for percent in (100, 50, 25, 10, 1):
        with client({**env, PERCENT: str(percent)}) as one:
            yield f"{percent:>3} % of the compute: {one.began['sms']} SMs, {one.began['kept_mib']} MiB for its context"


def memory(env: Mapping[str, str]) -> Iterator[str]:
    with client({**env, LIMIT: "0=4G"}) as one:
        began = one.began
        yield f"limit 4096 MiB: a client is told {began['free_mib']} MiB free of {began['total_mib']}"
        yield f"  3072 MiB: {one.asked('allocate', 3072)}; 512 more: {one.asked('allocate', 512)}"


def clients(env: Mapping[str, str]) -> Iterator[str]:
    found = list[Client]()
    try:
        for _ in range(CLIENTS_TRIED):
            found.append(Client(env))
            if found[-1].began["error"]:
                yield f"clients at once: {len(found) - 1}; the next one: {found[-1].began['error']}"
                return
        yield f"clients at once: {len(found)}, no more were tried"
    finally:
        for one in found:
            one.end()


def faults(env: Mapping[str, str]) -> Iterator[str]:
    with client(env) as bystander, client(env) as guilty:
        bystander.asked("allocate", 1024)
        yield f"before a fault, the neighbour: {bystander.asked('touch')}"
        yield f"a store to an address that is nobody's: {guilty.asked('fault')}"
        yield f"after it, the neighbour: {bystander.asked('touch')}"
    with client(env) as late:
        yield f"a client that comes then: {late.began['error'] or 'CUDA_SUCCESS'}"


def limits(env: Mapping[str, str]) -> Iterator[str]:
    for check in (compute, memory, clients, faults):
        yield from check(env)


# -- the client's own process ------------------------------------------------------------------------------------------


class Cuda:
    """The driver's API, as far as a client needs it; each call answers with the name of its error."""

    def __init__(self) -> None:
        self._api = ctypes.CDLL("libcuda.so.1")
        self._held = ctypes.c_void_p()
        self.device = ctypes.c_int()

    def call(self, name: str, *arguments: object) -> str:
        text = ctypes.c_char_p()
        self._api.cuGetErrorName(getattr(self._api, name)(*arguments), ctypes.byref(text))
        return (text.value or b"unknown").decode()

    def begin(self) -> dict[str, Any]:
        context, sms = ctypes.c_void_p(), ctypes.c_int()
        free, total = ctypes.c_size_t(), ctypes.c_size_t()
        for name, arguments in (
            ("cuInit", (0,)),
            ("cuDeviceGet", (ctypes.byref(self.device), 0)),
            ("cuCtxCreate_v2", (ctypes.byref(context), 0, self.device)),
        ):
            if (error := self.call(name, *arguments)) != "CUDA_SUCCESS":
                return {"error": error}
        self.call("cuDeviceGetAttribute", ctypes.byref(sms), SMS, self.device)
        self.call("cuMemGetInfo_v2", ctypes.byref(free), ctypes.byref(total))
        found = {"free_mib": free.value // MIB, "total_mib": total.value // MIB}
        return {"error": "", "sms": sms.value, **found, "kept_mib": found["total_mib"] - found["free_mib"]}

    def allocate(self, mib: int) -> str:
        return self.call("cuMemAlloc_v2", ctypes.byref(self._held), ctypes.c_size_t(mib * MIB))

    def touch(self, _: int) -> str:
        written = self.call("cuMemsetD8_v2", self._held, 1, ctypes.c_size_t(MIB))
        return written if written != "CUDA_SUCCESS" else self.call("cuCtxSynchronize")

    def fault(self, _: int) -> str:
        module, kernel = ctypes.c_void_p(), ctypes.c_void_p()
        self.call("cuModuleLoadData", ctypes.byref(module), FAULT)
        self.call("cuModuleGetFunction", ctypes.byref(kernel), module, b"fault")
        self.call("cuLaunchKernel", kernel, 1, 1, 1, 1, 1, 1, 0, None, None, None)
        return self.call("cuCtxSynchronize")


def main() -> None:
    cuda = Cuda()
    print(json.dumps(cuda.begin()), flush=True)
    does = {"allocate": cuda.allocate, "touch": cuda.touch, "fault": cuda.fault}
    for line in sys.stdin:
        what, mib = json.loads(line)
        print(does[what](mib), flush=True)


if __name__ == "__main__":
    main()
