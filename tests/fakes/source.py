"""A source of readings that a test scripts."""

import asyncio
from collections.abc import Mapping

from scaler.signals.reading import Missing, Reading, ReadingName, Sample
from scaler.sources.base import Found, Subject

EVERYTHING = frozenset(ReadingName)


class ScriptedSource:
    """Says what stands in `readings` (a number: a sample of the asked instant), Missing for the rest.

    `hangs`: answers never. `breaks`: raises, as a defect of ours would.
    """

    def __init__(self, readings: Mapping[str, Reading | float] | None = None, workload: str | None = None) -> None:
        self.readings: dict[str, Reading | float] = dict(readings or {})
        self.workload = workload
        self.asked: list[tuple[frozenset[str], Subject, float]] = []
        self.hangs = False
        self.breaks: Exception | None = None
        self.closed = False

    async def read(self, names: frozenset[str], subject: Subject, at_s: float) -> Found:
        self.asked.append((names, subject, at_s))
        if self.hangs:
            await asyncio.Event().wait()
        if self.breaks is not None:
            raise self.breaks
        return Found(readings={name: self._reading(name, at_s) for name in names}, workload=self.workload)

    async def close(self) -> None:
        self.closed = True

    def _reading(self, name: str, at_s: float) -> Reading:
        reading = self.readings.get(name, Missing("not scripted"))
        return reading if isinstance(reading, Sample | Missing) else Sample(reading, at_s)
