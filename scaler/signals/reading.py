"""One measured number, or the reason why there is none."""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from math import isfinite
from typing import Final


class ReadingName(StrEnum):
    """What can be read about a workload; the unit is in the name, or a count where there is none."""

    REPLICAS = "replicas"
    """spec.replicas of the workload, through its scale subresource."""
    READY = "ready"
    """Pods of the workload that are ready."""
    PENDING = "pending"
    """Pods of the workload that are wanted and not ready yet."""
    TERMINATING = "terminating"
    """Pods of the workload that are being deleted and still there."""
    QUEUE = "queue"
    """Requests that wait: in an engine, or in a gateway for want of a pod."""
    RUNNING = "running"
    """Requests in service."""
    BACKLOG = "backlog"
    """Messages that wait in a message queue."""
    TAKEN = "taken"
    """Messages that a consumer was given and has not done yet."""
    OLDEST_WAIT_S = "oldest_wait_s"
    """How long the oldest request or message that waits has waited."""
    SESSIONS = "sessions"
    """Agent sessions that are alive, or that wait for a pod."""
    PROMPT_TOKENS_PER_S = "prompt_tokens_per_s"
    """Prompt tokens really computed: those found in a prefix cache are not counted."""
    GENERATION_TOKENS_PER_S = "generation_tokens_per_s"
    CACHED_TOKENS_PER_S = "cached_tokens_per_s"
    """Prompt tokens found in a prefix cache, hence not computed."""
    KV_USAGE = "kv_usage"
    """KV caches in use: the sum over pods of the share that is taken."""
    PREEMPTIONS_PER_S = "preemptions_per_s"
    """Requests a second that an engine threw out of its batch for want of KV cache."""
    ARRIVALS_PER_S = "arrivals_per_s"
    ENDED_PER_S = "ended_per_s"
    """Requests a second that ended, however they ended."""
    SERVICE_S = "service_s"
    """Mean time of a request in service, its wait not counted."""
    P50_S = "p50_s"
    """Median time from a request's arrival to its end."""
    P95_S = "p95_s"
    TTFT_P95_S = "ttft_p95_s"
    """95th percentile of the time from a request's arrival to its first token."""
    ITL_P95_S = "itl_p95_s"
    """95th percentile of the time between two tokens of a request."""
    ATTAINMENT = "attainment"
    """Share of requests that ended within the promised time."""
    TTFT_ATTAINMENT = "ttft_attainment"
    """Share of requests whose first token came within the promised time."""


_PODS = (ReadingName.REPLICAS, ReadingName.READY, ReadingName.PENDING, ReadingName.TERMINATING)
_TOKENS = (ReadingName.PROMPT_TOKENS_PER_S, ReadingName.GENERATION_TOKENS_PER_S, ReadingName.CACHED_TOKENS_PER_S)
UNITS: Final[Mapping[ReadingName, str]] = {
    **dict.fromkeys(_PODS, "pods"),
    **dict.fromkeys(_TOKENS, "tokens/s"),
    ReadingName.QUEUE: "requests",
    ReadingName.RUNNING: "requests",
    ReadingName.BACKLOG: "messages",
    ReadingName.TAKEN: "messages",
    ReadingName.SESSIONS: "sessions",
    ReadingName.KV_USAGE: "caches",
    ReadingName.ARRIVALS_PER_S: "requests/s",
    ReadingName.ENDED_PER_S: "requests/s",
    ReadingName.PREEMPTIONS_PER_S: "requests/s",
    ReadingName.ATTAINMENT: "share",
    ReadingName.TTFT_ATTAINMENT: "share",
}
"""Of those whose name does not end in `_s`, which are seconds."""


def unit_of(name: str) -> str:
    """Of a reading; what a dependency is measured in has none: it is a part of its bound."""
    return UNITS.get(ReadingName(name), "s") if name in set(ReadingName) else "of its bound"


@dataclass(frozen=True, slots=True)
class Sample:
    """A number that was measured at `at_s`.

    `pods`: how many pods stand behind a value that is summed or averaged over the workload's pods; None where the value
    is not of that kind. `count`: how many observations stand behind a quantile, a share or a mean. `saturated`: a
    quantile that fell into the last, open bucket, so that the truth may be higher. `doubt`: why the value may be only
    part of the truth, in the words of who gave it. Never NaN, infinite or negative: whoever reads turns those into
    `Missing` (see `reading_of`).
    """

    value: float
    at_s: float
    pods: int | None = None
    count: float | None = None
    saturated: bool = False
    doubt: str | None = None

    def __post_init__(self) -> None:
        if not (isfinite(self.value) and self.value >= 0):
            raise ValueError(f"a sample's value is finite and not negative; got {self.value}; use Missing for unknown")
        if not isfinite(self.at_s):
            raise ValueError(f"a sample's time is finite; got {self.at_s}")
        if self.pods is not None and self.pods < 0:
            raise ValueError(f"a sample stands for 0 or more pods; got {self.pods}")


@dataclass(frozen=True, slots=True)
class Missing:
    """Not known, which is not 0."""

    why: str


Reading = Sample | Missing


def reading_of(value: float, at_s: float, pods: int | None = None) -> Reading:
    """A `Sample`, or `Missing` where `value` is NaN, infinite or negative: no load that exists reads so."""
    if isfinite(value) and value >= 0:
        return Sample(value, at_s, pods)
    return Missing(f"the value is {value:g}; want a finite number, 0 or more")
