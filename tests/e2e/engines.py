"""The load of one workload: requests of a trace, a queue at the door, engines with slots. No I/O, no clock.

Each running pod is an engine with `slots` requests in service at a time and a queue of its own; a new request goes
to the pod with the fewest requests. While no pod runs, requests wait at the door (the gateway). What a pod had not
finished when it ended goes back to the door. So load, replicas and latency answer each other as in a deployment.
"""

import bisect
import csv
import gzip
import heapq
import itertools
import math
from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Final

#: Upper bounds of vLLM's latency histogram, shortened to what tests reach. vllm/v1/metrics/loggers.py
LATENCY_BUCKETS_S: Final = (0.3, 0.5, 0.8, 1.0, 1.5, 2.0, 2.5, 5.0, 10.0, 15.0, 20.0, 30.0, 40.0, 50.0, 60.0, 120.0)


@dataclass(frozen=True, slots=True, order=True)
class Request:
    arrives_s: float
    prompt_tokens: int
    generated_tokens: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Speed:
    """How fast one slot of an engine works."""

    prompt_tokens_per_s: float
    generated_tokens_per_s: float

    def service_s(self, request: Request) -> float:
        return request.prompt_tokens / self.prompt_tokens_per_s + request.generated_tokens / self.generated_tokens_per_s


@dataclass(slots=True)
class Histogram:
    sum_s: float = 0.0
    counts: list[int] = field(default_factory=lambda: [0] * (len(LATENCY_BUCKETS_S) + 1))  # the last one: above all

    def observe(self, seconds: float) -> None:
        self.sum_s += seconds
        self.counts[bisect.bisect_left(LATENCY_BUCKETS_S, seconds)] += 1


@dataclass(slots=True)
class Engine:
    """One pod: what waits, what runs, what its /metrics counts. An engine knows nothing of the time at the door."""

    waiting: deque[tuple[float, Request]] = field(default_factory=deque)  # (came_s, request)
    running: list[tuple[float, float, float, Request]] = field(
        default_factory=list
    )  # heap: (ends_s, began_s, came_s, …)
    prompt_tokens: int = 0
    generated_tokens: int = 0
    finished: int = 0
    latency: Histogram = field(default_factory=Histogram)
    queue_time: Histogram = field(default_factory=Histogram)
    service_time: Histogram = field(default_factory=Histogram)

    @property
    def requests(self) -> int:
        return len(self.waiting) + len(self.running)

    def fill(self, now_s: float, slots: int, speed: Speed) -> None:
        while self.waiting and len(self.running) < slots:
            came_s, request = self.waiting.popleft()
            heapq.heappush(self.running, (now_s + speed.service_s(request), now_s, came_s, request))

    def finish_first(self) -> float:
        """Ends the request that is next to end; returns when that was."""
        ends_s, began_s, came_s, request = heapq.heappop(self.running)
        self.finished += 1
        self.prompt_tokens += request.prompt_tokens
        self.generated_tokens += request.generated_tokens
        self.latency.observe(ends_s - came_s)
        self.queue_time.observe(began_s - came_s)
        self.service_time.observe(ends_s - began_s)
        return ends_s


class Load:
    """A workload's requests and its engines, as they are at `now_s`; seconds since the load began."""

    def __init__(self, requests: Iterable[Request], *, slots: int, speed: Speed) -> None:
        self.door: deque[Request] = deque()
        self.engines: dict[str, Engine] = {}
        self.finished = 0
        self.now_s = 0.0
        self._slots = slots
        self._speed = speed
        self._coming = deque(sorted(requests))

    @property
    def over(self) -> bool:
        """Nothing comes, waits or runs any more."""
        return not self._coming and not self.unfinished

    @property
    def unfinished(self) -> int:
        return len(self.door) + sum(engine.requests for engine in self.engines.values())

    def set_pods(self, pods: Sequence[str]) -> None:
        """Which pods run from now on."""
        for gone in self.engines.keys() - set(pods):
            engine = self.engines.pop(gone)
            waited, ran = [entry[1] for entry in engine.waiting], [entry[3] for entry in engine.running]
            self.door.extend(sorted([*waited, *ran]))
        for pod in pods:
            self.engines.setdefault(pod, Engine())
        self._dispatch()

    def advance(self, now_s: float) -> None:
        """Lets time pass: arrivals and ends in their order."""
        while True:
            ending = min(
                (engine for engine in self.engines.values() if engine.running),
                key=lambda engine: engine.running[0][0],
                default=None,
            )
            ends_s = ending.running[0][0] if ending is not None else float("inf")
            arrives_s = self._coming[0].arrives_s if self._coming else float("inf")
            if min(ends_s, arrives_s) > now_s:
                break
            if ending is not None and ends_s <= arrives_s:
                self.now_s = ending.finish_first()
                self.finished += 1
                ending.fill(self.now_s, self._slots, self._speed)
            else:
                self.now_s = arrives_s
                self.door.append(self._coming.popleft())
                self._dispatch()
        self.now_s = now_s

    def _dispatch(self) -> None:
        while self.door and self.engines:
            engine = min(self.engines.values(), key=lambda candidate: candidate.requests)
            engine.waiting.append((self.now_s, self.door.popleft()))
            engine.fill(self.now_s, self._slots, self._speed)


def azure_trace(path: Path) -> list[Request]:
    """Requests of Azure's LLM inference trace 2023 (TIMESTAMP, ContextTokens, GeneratedTokens), from time 0 on."""
    with gzip.open(path, "rt") as text:
        rows = list(csv.DictReader(text))
    at = [datetime.fromisoformat(row["TIMESTAMP"][:26]) for row in rows]
    return [
        Request((when - at[0]).total_seconds(), int(row["ContextTokens"]), int(row["GeneratedTokens"]))
        for when, row in zip(at, rows, strict=True)
    ]


def synthetic_trace(*, lasts_s: float) -> list[Request]:
    """A stand-in of the same kind where the recorded one is absent: bursts, long prompts, short answers."""
    prompts = itertools.cycle([400, 1200, 2000, 4100, 700, 2600, 3100])
    answers = itertools.cycle([8, 12, 25, 40, 70, 16])
    seconds = range(int(lasts_s))
    bursts = [round(8 * math.sin(math.pi * s / lasts_s) * (1.6 if s % 5 < 2 else 0.6)) for s in seconds]
    times = [s + i / burst for s, burst in zip(seconds, bursts, strict=True) for i in range(burst)]
    return [Request(*request) for request in zip(times, prompts, answers, strict=False)]


def window(requests: Iterable[Request], *, from_s: float, lasts_s: float, replayed_in_s: float) -> list[Request]:
    """A part of a trace, its pattern in time stretched or pressed into `replayed_in_s`."""
    factor = replayed_in_s / lasts_s
    return [
        Request((request.arrives_s - from_s) * factor, request.prompt_tokens, request.generated_tokens)
        for request in requests
        if from_s <= request.arrives_s < from_s + lasts_s
    ]


def speed_for(requests: Sequence[Request], *, concurrency: float) -> Speed:
    """The engine with which, on average over the replay, `concurrency` requests are in service when none has to wait.

    A prompt token costs a hundredth of a generated one: prefill is compute-bound and batched, decoding is not.
    """
    cost = sum(request.prompt_tokens / 100 + request.generated_tokens for request in requests)
    generated_tokens_per_s = cost / (concurrency * max(request.arrives_s for request in requests))
    return Speed(prompt_tokens_per_s=100 * generated_tokens_per_s, generated_tokens_per_s=generated_tokens_per_s)
