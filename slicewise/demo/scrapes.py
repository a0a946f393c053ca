"""What a Prometheus keeps of the engines: samples at every scrape, rates and quantiles over a window of them."""

from collections import deque
from collections.abc import Callable, Mapping
from copy import deepcopy
from dataclasses import dataclass, field
from typing import Final

from slicewise.demo.agents import Agents
from slicewise.demo.engines import LATENCY_BOUNDS_S, Counters, Engine, quantile

SCRAPE_S: Final = 5.0
KEPT_S: Final = 600.0


@dataclass(frozen=True, slots=True)
class Scrape:
    at_s: float
    waiting: int
    running: int
    sessions: int
    counters: Counters


@dataclass(slots=True)
class Scrapes:
    """By pod, oldest first. Times are cluster seconds."""

    by_pod: dict[str, deque[Scrape]] = field(default_factory=dict)
    _last_s: float = float("-inf")

    def scrape_if_due(self, now_s: float, engines: Mapping[str, Engine], agents: Agents) -> None:
        if now_s - self._last_s < SCRAPE_S:
            return
        self._last_s = now_s
        for pod in set(self.by_pod) - set(engines):
            del self.by_pod[pod]  # as after a staleness marker: a target that is gone has no current samples
        for pod, engine in engines.items():
            kept = self.by_pod.setdefault(pod, deque())
            sessions = agents.on_pod(pod)
            kept.append(Scrape(now_s, len(engine.waiting), len(engine.running), sessions, deepcopy(engine.counters)))
            while kept[0].at_s < now_s - KEPT_S:
                kept.popleft()

    def gauge(self, read: Callable[[Scrape], float]) -> dict[str, float]:
        """The newest sample of each pod."""
        return {pod: read(kept[-1]) for pod, kept in self.by_pod.items()}

    def rate(self, read: Callable[[Counters], float], window_s: float) -> dict[str, float]:
        """Increase a second of each pod over the samples in the window; pods with fewer than two samples have none."""
        rates = {}
        for pod, kept in self.by_pod.items():
            inside = [scrape for scrape in kept if scrape.at_s > self._last_s - window_s]
            if len(inside) >= 2:
                first, last = inside[0], inside[-1]
                rates[pod] = (read(last.counters) - read(first.counters)) / (last.at_s - first.at_s)
        return rates

    def latency(self, q: float, window_s: float) -> float | None:
        """A quantile over all pods; None where nothing ended in the window."""
        counts = [sum(self.rate(_bucket(i), window_s).values()) for i in range(len(LATENCY_BOUNDS_S) + 1)]
        return quantile(q, counts)


def _bucket(i: int) -> Callable[[Counters], float]:
    return lambda counters: counters.buckets[i]
