"""What a source of readings is."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol, runtime_checkable

from scaler.signals.reading import Missing, Reading


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Something in a backend that a trigger names: a topic, a queue, a stream, a list, a key or a pattern of keys.

    `group`: who consumes it: a Kafka consumer group, a NATS consumer, a Redis stream's group.
    """

    backend: str
    name: str
    group: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Subject:
    """Whose readings, and how they are to be taken.

    `namespace`, `scaled_object`: as KEDA names the ScaledObject; readings are of this namespace only. `workload`: name
    of what is scaled, None as long as it is not known. `backend`, `preset`: where the engine's metrics come from and
    how they are named. `slo_s`: the promised latency, for the share of requests that keep it.
    """

    namespace: str
    scaled_object: str
    workload: str | None
    backend: str
    preset: str
    window_s: float
    max_age_s: float
    slo_s: float | None = None
    backlog: Place | None = None
    sessions: Place | None = None
    depends_on: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """What a source knows of a subject.

    `asked`: by reading, the query or command that yields it, for a person to repeat.
    """

    readings: Mapping[str, Reading]
    workload: str | None = None
    asked: Mapping[str, str] = field(default_factory=dict)


Asks = Mapping[Subject, frozenset[str]]
"""What a tick wants to know: the names of the readings of each subject."""


class SourceError(Exception):
    """The far side as a whole could not be asked. Says why, without secrets."""


class Source(Protocol):
    """One backend of readings."""

    def provides(self, subject: Subject) -> frozenset[str]:
        """Names of the readings that this source can give for `subject`; decided without I/O."""
        ...

    async def read(self, asks: Asks, at_s: float) -> Mapping[Subject, Found]:
        """The readings of a tick, as they were at `at_s`; a name or a subject left out is missing.

        Never says 0 for unknown: that is Missing with the reason. Raises SourceError where nothing could be asked.
        """
        ...

    async def close(self) -> None: ...


History = Sequence[tuple[float, Mapping[Subject, Found]]]
"""What `read` would have found at earlier instants, the oldest first."""


@runtime_checkable
class Remembers(Protocol):
    """A source that also knows the past."""

    async def history(self, asks: Asks, from_s: float, to_s: float, step_s: float) -> History:
        """As `Source.read` at each instant from `from_s` to `to_s`. Raises SourceError where nothing could be asked."""
        ...


def missing(asks: Asks, why: str) -> dict[Subject, Found]:
    """`why` for everything that was asked."""
    return {subject: Found(readings=dict.fromkeys(names, Missing(why))) for subject, names in asks.items()}


class PodAddress(Protocol):
    """Where a pod is. `ip`: None until it has one."""

    @property
    def name(self) -> str: ...
    @property
    def ip(self) -> str | None: ...
    @property
    def terminating(self) -> bool: ...


class PodDirectory(Protocol):
    """Who knows which pods a workload has now; the watch of the cluster does."""

    def pods(self, namespace: str, workload: str) -> Sequence[PodAddress] | Missing: ...
