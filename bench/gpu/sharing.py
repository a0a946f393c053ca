"""Several processes on one GPU: what a step of each takes, in parts of the time that it takes alone."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from statistics import mean, median
from typing import IO, Final, Self

Steps = list[float]  # milliseconds


@dataclass(frozen=True, slots=True)
class Case:
    """One step: `batch` sequences of `context` tokens decode, or `prefill` tokens begin. `gap_ms`: idle after it."""

    batch: int = 0
    context: int = 0
    prefill: int = 0
    gap_ms: float = 0.0

    def __str__(self) -> str:
        step = f"prefill of {self.prefill}" if self.prefill else f"decode {self.batch} x {self.context}"
        return f"{step}, {self.gap_ms:g} ms gap" if self.gap_ms else step


CASES: Final = (
    Case(8, 1024),
    Case(8, 1024, gap_ms=3),
    Case(32, 1024),
    Case(32, 1024, gap_ms=3),
    Case(prefill=512),
    Case(prefill=2048),
)


@dataclass(frozen=True, slots=True)
class Row:
    """`ms`, `p95_ms`: of a step, mean over the processes; `times`: `ms` in parts of one process that has the GPU.

    `throughput`: steps of all processes, the gaps in between counted, in parts of that one's.
    """

    model: str
    case: str
    by: str
    processes: int
    ms: float
    p95_ms: float
    times: float
    throughput: float


def row(model: str, case: Case, by: str, alone: Steps, shared: Sequence[Steps]) -> Row:
    ms = mean(median(steps) for steps in shared)
    every_ms = mean(alone) + case.gap_ms
    return Row(
        model=model,
        case=str(case),
        by=by,
        processes=len(shared),
        ms=round(ms, 3),
        p95_ms=round(mean(sorted(steps)[int(0.95 * len(steps))] for steps in shared), 3),
        times=round(ms / median(alone), 3),
        throughput=round(sum(every_ms / (mean(steps) + case.gap_ms) for steps in shared), 3),
    )


class Worker:
    """A `bench.gpu.decoder` and its pipes."""

    def __init__(self, model: str, env: Mapping[str, str]) -> None:
        command = [sys.executable, "-m", "bench.gpu.decoder", model]
        self._process = subprocess.Popen(
            command, env={**os.environ, **env}, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.wait()

    def tell(self, text: str) -> None:
        pipe = self._pipe(self._process.stdin)
        pipe.write(text + "\n")
        pipe.flush()

    def hear(self) -> str:
        line = self._pipe(self._process.stdout).readline().strip()
        if not line:
            raise RuntimeError("a process that shares the GPU ended: what it said is above")
        return line

    @staticmethod
    def _pipe(pipe: IO[str] | None) -> IO[str]:
        if pipe is None:
            raise RuntimeError("no pipe")
        return pipe


def together(model: str, processes: int, env: Mapping[str, str], seconds: float) -> list[list[Steps]]:
    """Of each case, of each process: its steps, the first tenth left out."""
    with ExitStack() as stack:
        workers = [stack.enter_context(Worker(model, env)) for _ in range(processes)]
        return [_steps(workers, case, seconds) for case in CASES]


def _steps(workers: Sequence[Worker], case: Case, seconds: float) -> list[Steps]:
    for worker in workers:
        worker.tell(json.dumps(asdict(case)))
    for worker in workers:
        worker.hear()
    for worker in workers:
        worker.tell(str(seconds))
    found: list[Steps] = [json.loads(worker.hear()) for worker in workers]
    return [steps[len(steps) // 10 :] for steps in found]


def rows(model: str, processes: Sequence[int], mps: Mapping[str, str] | None, seconds: float) -> Iterator[Row]:
    """`mps`: what leads clients to a daemon; None: there is none, and it is left out."""
    alone = [steps for (steps,) in together(model, 1, {}, seconds)]

    def of(by: str, number: int, env: Mapping[str, str]) -> Iterator[Row]:
        for case, before, shared in zip(CASES, alone, together(model, number, env, seconds), strict=True):
            yield row(model, case, by, before, shared)

    yield from of("alone", 1, {})
    for number in processes:
        yield from of("time-slicing", number, {})
    if mps is None:
        return
    yield from of("MPS", 1, mps)
    for number in processes:
        percent = 100 // number
        part = {**mps, "CUDA_MPS_ACTIVE_THREAD_PERCENTAGE": str(percent)}
        yield from of("MPS", number, mps)
        yield from of(f"MPS, {percent} %", number, part)
        yield from of(f"MPS, {percent} %", 1, part)
