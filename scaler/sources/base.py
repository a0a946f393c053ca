"""What a source of readings is."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

from scaler.signals.reading import Reading


@dataclass(frozen=True, slots=True, kw_only=True)
class Subject:
    """Whose readings, and how they are to be taken.

    `namespace`, `scaled_object`: as KEDA names the ScaledObject; readings are of this namespace only. `workload`: name
    of what is scaled, None as long as it is not known.
    """

    namespace: str
    scaled_object: str
    workload: str | None
    backend: str
    preset: str
    window_s: float
    max_age_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """What a source knows of a subject."""

    readings: Mapping[str, Reading]
    workload: str | None = None


class Source(Protocol):
    """Where readings come from."""

    async def read(self, names: frozenset[str], subject: Subject, at_s: float) -> Found:
        """Readings of those `names` that this source provides, as they were at `at_s`.

        Never raises for the far side's faults and never says 0 for unknown: those are Missing with the reason. Equal
        questions for one `at_s` reach the far side once.
        """
        ...

    async def close(self) -> None: ...
