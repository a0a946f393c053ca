"""The scaler's own questions, answered from the scrapes: each query text that its preset writes, and what it yields."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

from scaler.signals.reading import ReadingName
from scaler.sources.base import Subject
from scaler.sources.presets import Preset, newest_query, seen_query
from slicewise.demo.metric_source import UnknownQueryError, Vector
from slicewise.demo.world import STEP_S, World

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
        scrapes, agents = self.world.scrapes, self.world.agents
        values: dict[ReadingName, Callable[[], float | None]] = {
            ReadingName.QUEUE: self._queue,
            ReadingName.RUNNING: lambda: total(scrapes.gauge(lambda s: s.running)),
            ReadingName.SESSIONS: lambda: (
                len(agents.sessions) if gateway else total(scrapes.gauge(lambda s: s.sessions))
            ),
            ReadingName.PROMPT_TOKENS_PER_S: lambda: total(scrapes.rate(lambda c: c.prompt_tokens, self._window_s)),
            ReadingName.GENERATION_TOKENS_PER_S: lambda: total(
                scrapes.rate(lambda c: c.generation_tokens, self._window_s)
            ),
            ReadingName.ARRIVALS_PER_S: lambda: total(scrapes.rate(lambda c: c.arrivals, self._window_s)),
            ReadingName.SERVICE_S: self._service_s,
            ReadingName.P50_S: lambda: self._quantile_s(0.50),
            ReadingName.P95_S: lambda: self._quantile_s(0.95),
        }
        return values.get(name, lambda: None)

    @property
    def _window_s(self) -> float:
        return self.subject.window_s

    def _pods(self) -> float | None:
        return len(self.world.scrapes.by_pod) or None

    def _newest_s(self) -> float | None:
        times = self.world.scrapes.gauge(lambda scrape: scrape.at_s).values()
        return max(times) + self.world.epoch_s if times else None

    def _queue(self) -> float | None:
        """Waiting in the engines, and at the gateway while no pod is open."""
        inside = total(self.world.scrapes.gauge(lambda scrape: scrape.waiting))
        outside = self.world.agents.at_the_door(self.world.now_s - STEP_S)
        return inside if not outside else outside + (inside or 0.0)

    def _service_s(self) -> float | None:
        ended = total(self.world.scrapes.rate(lambda c: c.finished, self._window_s))
        spent = total(self.world.scrapes.rate(lambda c: c.latency_sum_s - c.queue_sum_s, self._window_s))
        return max(spent, 0.0) / ended if ended and spent is not None else None

    def _quantile_s(self, q: float) -> float | None:
        rates = self.world.scrapes.rate(lambda c: c.finished, self._window_s)
        if sum(rates.values()) * self._window_s < FEWEST_REQUESTS:
            return None
        return self.world.scrapes.latency(q, self._window_s)


def total(by_pod: Mapping[str, float]) -> float | None:
    """PromQL's sum: nothing of nothing, not 0."""
    return sum(by_pod.values()) if by_pod else None
