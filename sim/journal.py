"""What the control loops saw and decided, turn by turn."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from scaler.evaluate import Decision
from scaler.signals.reading import Reading
from sim.cluster.autoscaler import Answers
from sim.cluster.hpa import Failed, Scale, Verdict
from sim.cluster.keda import Record, Request
from sim.cluster.scaler import Published
from sim.recorded import Happened


@dataclass(frozen=True, slots=True)
class Tick:
    """One evaluation of the trigger with that number, as of `as_of_s`."""

    at_s: float
    as_of_s: float
    trigger: int
    readings: Mapping[str, Reading]
    decision: Decision


@dataclass(frozen=True, slots=True)
class Poll:
    """KEDA's operator: what it saw of each trigger, and what it did to the scale. `answers`: where it asked itself."""

    at_s: float
    records: tuple[Record, ...]
    request: Request
    scale: Scale
    answers: Answers


@dataclass(frozen=True, slots=True)
class Sync:
    """The HPA's controller: sums by metric name in thousandths, what it wrote, the scale before."""

    at_s: float
    usage_milli: Mapping[str, int | Failed]
    verdict: Verdict
    scale: Scale
    answers: Answers


@dataclass(slots=True)
class Journal:
    ticks: list[Tick] = field(default_factory=list)
    polls: list[Poll] = field(default_factory=list)
    syncs: list[Sync] = field(default_factory=list)
    cluster: list[Happened] = field(default_factory=list)
    readings: list[Mapping[str, Reading]] = field(default_factory=list)  #: of evaluations that are not told yet

    def ticked(self, at_s: float, published: Mapping[int, Published]) -> None:
        newest = self.readings[-len(published) :]
        self.readings.clear()
        for (number, one), readings in zip(sorted(published.items()), newest, strict=True):
            self.ticks.append(Tick(at_s, one.at_s, number, readings, one.decision))
