"""A source of readings that a test scripts."""

import asyncio
from collections.abc import Mapping

from scaler.signals.reading import Missing, Reading, ReadingName, Sample
from scaler.sources.base import Asks, Found, History, Source, Subject

EVERYTHING = frozenset(ReadingName)


class ScriptedSource:
    """Says what stands in `readings` (a number: a sample of the asked instant), Missing for the rest.

    `hangs`: answers never. `breaks`: raises, a SourceError or as a defect of ours would.
    """

    def __init__(
        self,
        readings: Mapping[str, Reading | float] | None = None,
        workload: str | None = None,
        provides: frozenset[str] = EVERYTHING,
    ) -> None:
        self.gives = provides
        self.readings: dict[str, Reading | float] = dict(readings or {})
        self.workload = workload
        self.asked: list[tuple[frozenset[str], Subject, float]] = []
        self.calls = 0
        self.hangs = False
        self.breaks: Exception | None = None
        self.closed = False

    def provides(self, subject: Subject) -> frozenset[str]:
        del subject
        return self.gives

    async def read(self, asks: Asks, at_s: float) -> Mapping[Subject, Found]:
        self.asked += [(names, subject, at_s) for subject, names in asks.items()]
        self.calls += 1
        if self.hangs:
            await asyncio.Event().wait()
        if self.breaks is not None:
            raise self.breaks
        return {
            subject: Found(readings={name: self._reading(name, at_s) for name in names}, workload=self.workload)
            for subject, names in asks.items()
        }

    async def close(self) -> None:
        self.closed = True

    def _reading(self, name: str, at_s: float) -> Reading:
        reading = self.readings.get(name, Missing("not scripted"))
        return reading if isinstance(reading, Sample | Missing) else Sample(reading, at_s)


async def read_one(source: Source, names: frozenset[str], subject: Subject, at_s: float) -> Found:
    """What `source` finds for a single subject."""
    return (await source.read({subject: names}, at_s))[subject]


class RememberingSource(ScriptedSource):
    """One that knows its past: `then`, readings by instant. `recalled`: the spans it was asked for."""

    def __init__(self, now: Mapping[str, Reading | float], then: Mapping[float, Mapping[str, Reading | float]]) -> None:
        super().__init__(now)
        self.then = then
        self.recalled: list[tuple[float, float, float]] = []

    async def history(self, asks: Asks, from_s: float, to_s: float, step_s: float) -> History:
        self.recalled.append((from_s, to_s, step_s))
        if self.breaks is not None:
            raise self.breaks
        past = []
        for at_s, readings in sorted(self.then.items()):
            if from_s <= at_s <= to_s and (at_s - from_s) % step_s == 0:
                moment = ScriptedSource(readings)
                past.append((at_s, await moment.read(asks, at_s)))
        return past
