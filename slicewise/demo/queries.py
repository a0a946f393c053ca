"""The scaler's own questions, answered from the scrapes: each query text that its source writes, and what it yields."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Final

import numpy as np

from scaler.sources.base import Subject
from scaler.sources.batch import OLDEST, SEEN, YOUNG, Kind, questions
from scaler.sources.presets import Preset
from sim.serving.pool import BUCKETS_S, Counter
from slicewise.demo.metric_source import Labels, UnknownQueryError, Vector
from slicewise.demo.scrapes import US_PER_S
from slicewise.demo.world import World

Answer = Callable[[], float | None]
BUCKETS: Final = "e2e_s.0"


@dataclass(frozen=True, slots=True)
class Answers:
    """What the metric source knows about `subject`, in the words of `presets`. `names`: the readings that are asked."""

    world: World
    subject: Subject
    names: frozenset[str]
    presets: Mapping[str, Preset]

    def answer(self, query: str) -> Vector:
        """Raises UnknownQueryError."""
        kind = Kind.of(self.subject, self.names)
        for question in questions({kind: {self.subject.namespace: 1}}, self.presets):
            if question.text == query:
                return [found for tag in question.tags for found in self._part(tag)]
        raise UnknownQueryError(query)

    def _part(self, tag: str) -> Vector:
        labels = {"namespace": self.subject.namespace, "workload": self.subject.workload or "", "part": tag}
        if tag == BUCKETS:
            return self._buckets(labels)
        value = self._numbers().get(tag, lambda: None)()
        return () if value is None else [(labels, value)]

    def _numbers(self) -> Mapping[str, Answer]:
        """By tag. Those that are not here no engine of the demo exports."""
        newest, window_s = self.world.scrapes.newest, self.subject.window_s
        return {
            YOUNG: lambda: self.world.scrapes.young(window_s) or None,
            SEEN: lambda: len(self.world.scrapes.by_pod) or None,
            OLDEST: self._oldest_s,
            "sum.waiting": lambda: total(scrape.waiting for scrape in newest()),
            "sum.running": lambda: total(scrape.running for scrape in newest()),
            "gateway.agent_requests_waiting": lambda: self.world.serving.held or None,
            # Sessions are known to the gateway that sends them to pods; a pod knows its own only.
            "gateway.agent_sessions_active": self.world.serving.sessions,
            "pods.agent_sessions_active": lambda: total(scrape.sessions for scrape in newest()),
            "rate.prompt_tokens": lambda: self._rate(Counter.PROMPT_TOKENS),
            "rate.generation_tokens": lambda: self._rate(Counter.GENERATED_TOKENS),
            "rate.ended": lambda: self._rate(Counter.FINISHED),
            "growth.running": lambda: self.world.scrapes.growth(lambda scrape: scrape.running, window_s),
            "growth.waiting": lambda: self.world.scrapes.growth(lambda scrape: scrape.waiting, window_s),
            "sumrate.e2e_s": lambda: self._rate(Counter.LATENCY_US, 1 / US_PER_S),
            "sumrate.queue_s": lambda: self._rate(Counter.WAITED_US, 1 / US_PER_S),
            "countrate.e2e_s": lambda: self._rate(Counter.FINISHED),
        }

    def _rate(self, counter: Counter, unit: float = 1.0) -> float | None:
        rate = self.world.scrapes.rate(counter, self.subject.window_s)
        return None if rate is None else rate * unit

    def _oldest_s(self) -> float | None:
        times = [scrape.at_s for scrape in self.world.scrapes.newest()]
        return min(times) + self.world.epoch_s if times else None

    def _buckets(self, labels: Labels) -> Vector:
        """Requests a second that took up to each bound, as cumulative as Prometheus's."""
        rates = self.world.scrapes.rates(self.subject.window_s)
        if rates is None:
            return ()
        below = np.cumsum(rates[Counter.BUCKET : Counter.FIRST_BUCKET])
        return [({**labels, "le": f"{le}"}, float(n)) for le, n in zip((*BUCKETS_S, "+Inf"), below, strict=True)]


def total(values: Iterable[float]) -> float | None:
    """PromQL's sum: nothing of nothing, not 0."""
    known = list(values)
    return sum(known) if known else None
