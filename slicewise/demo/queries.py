"""The scaler's own questions, answered from the scrapes: each query text that its preset writes, and what it yields."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Final

from scaler.signals.reading import ReadingName
from scaler.sources.base import Subject
from scaler.sources.questions import Preset, newest_query, seen_query
from sim.serving.pool import Counter
from slicewise.demo.metric_source import UnknownQueryError, Vector
from slicewise.demo.scrapes import US_PER_S
from slicewise.demo.world import World

NOTHING: Final[Vector] = ()
#: As in the preset: quantiles of fewer requests say nothing.
FEWEST_REQUESTS: Final = 20


@dataclass(frozen=True, slots=True)
class Answers:
    """What the metric source knows about `subject`, in the words of `preset`."""

    world: World
    subject: Subject
    preset: Preset

    def answer(self, query: str) -> Vector:
        """Raises UnknownQueryError."""
        found = self._table().get(" ".join(query.split()))
        if found is None:
            raise UnknownQueryError(query)
        value = found()
        return NOTHING if value is None else [({}, value)]

    def _table(self) -> Mapping[str, Callable[[], float | None]]:
        table: dict[str, Callable[[], float | None]] = {}
        for name, questions in self.preset.readings.items():
            for question in questions:
                table[question.text(self.subject)] = self._value(name, gateway=question.series is None)
                if question.series is not None:
                    table[seen_query(question.series, self.subject)] = self._pods
                    table[newest_query(question.series, self.subject)] = self._newest_s
        return table

    def _value(self, name: ReadingName, *, gateway: bool) -> Callable[[], float | None]:
        """Sessions are known to the gateway that sends them to pods; a pod knows its own only."""
        values: dict[ReadingName, Callable[[], float | None]] = {
            ReadingName.QUEUE: self._queue,
            ReadingName.RUNNING: lambda: total(scrape.running for scrape in self.world.scrapes.newest()),
            ReadingName.SESSIONS: self.world.serving.sessions if gateway else self._sessions,
            ReadingName.PROMPT_TOKENS_PER_S: lambda: self._rate(Counter.PROMPT_TOKENS),
            ReadingName.GENERATION_TOKENS_PER_S: lambda: self._rate(Counter.GENERATED_TOKENS),
            ReadingName.ARRIVALS_PER_S: lambda: self._rate(Counter.ARRIVED),
            ReadingName.SERVICE_S: self._service_s,
            ReadingName.P50_S: lambda: self._quantile_s(0.50),
            ReadingName.P95_S: lambda: self._quantile_s(0.95),
        }
        return values.get(name, lambda: None)

    def _rate(self, counter: Counter) -> float | None:
        return self.world.scrapes.rate(counter, self.subject.window_s)

    def _sessions(self) -> float | None:
        return total(scrape.sessions for scrape in self.world.scrapes.newest())

    def _pods(self) -> float | None:
        return len(self.world.scrapes.by_pod) or None

    def _newest_s(self) -> float | None:
        times = [scrape.at_s for scrape in self.world.scrapes.newest()]
        return max(times) + self.world.epoch_s if times else None

    def _queue(self) -> float | None:
        """Waiting in the engines, and at the gateway while no pod is open."""
        inside = total(scrape.waiting for scrape in self.world.scrapes.newest())
        outside = self.world.serving.held
        return inside if not outside else outside + (inside or 0.0)

    def _service_s(self) -> float | None:
        rates = self.world.scrapes.rates(self.subject.window_s)
        if rates is None or rates[Counter.FINISHED] <= 0:
            return None
        served_us = rates[Counter.LATENCY_US] - rates[Counter.WAITED_US]
        return max(0.0, float(served_us / rates[Counter.FINISHED]) / US_PER_S)

    def _quantile_s(self, q: float) -> float | None:
        ended = (self._rate(Counter.FINISHED) or 0.0) * self.subject.window_s
        return None if ended < FEWEST_REQUESTS else self.world.scrapes.latency_s(q, self.subject.window_s)


def total(values: Iterable[float]) -> float | None:
    """PromQL's sum: nothing of nothing, not 0."""
    known = list(values)
    return sum(known) if known else None
