"""What a Prometheus keeps of the engines: samples at every scrape; rates, slopes, quantiles over a window of them."""

from collections import deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Final

import numpy as np
from numpy.typing import NDArray

from scaler.signals.window import slope
from sim.serving.pool import BUCKETS_S, Counter, Gauge, Readout

SCRAPE_S: Final = 5.0
KEPT_S: Final = 600.0
US_PER_S: Final = 1_000_000


@dataclass(frozen=True, slots=True)
class Scrape:
    """`counters`: (COUNTERS,), see sim.serving.pool.Counter."""

    at_s: float
    waiting: int
    running: int
    sessions: int
    counters: NDArray[np.int64]


@dataclass(slots=True)
class Scrapes:
    """By pod, oldest first. Times are cluster seconds."""

    by_pod: dict[str, deque[Scrape]] = field(default_factory=dict)
    last_s: float = 0.0

    def scrape(self, now_s: float, pods: Sequence[str], readout: Readout) -> None:
        self.last_s = now_s
        for pod in set(self.by_pod) - set(pods):
            del self.by_pod[pod]  # as after a staleness marker: a target that is gone has no current samples
        for i, pod in enumerate(pods):
            kept = self.by_pod.setdefault(pod, deque())
            queued, running, sessions = (
                int(readout.table[i, g]) for g in (Gauge.QUEUED, Gauge.RUNNING, Gauge.SESSIONS)
            )
            kept.append(Scrape(now_s, queued, running, sessions, readout.counters[i]))
            while kept[0].at_s < now_s - KEPT_S:
                kept.popleft()

    def newest(self) -> list[Scrape]:
        """The last sample of each pod."""
        return [kept[-1] for kept in self.by_pod.values()]

    def rates(self, window_s: float) -> NDArray[np.float64] | None:
        """Increase a second of each counter, summed over the pods: (COUNTERS,).

        None where no pod has two samples in the window.
        """
        found = []
        for kept in self.by_pod.values():
            inside = self._lately(kept, window_s)
            if len(inside) >= 2:
                first, last = inside[0], inside[-1]
                found.append((last.counters - first.counters) / (last.at_s - first.at_s))
        return np.sum(found, axis=0, dtype=np.float64) if found else None

    def rate(self, counter: Counter, window_s: float) -> float | None:
        rates = self.rates(window_s)
        return None if rates is None else float(rates[counter])

    def latency_s(self, q: float, window_s: float) -> float | None:
        """A quantile over the requests of all pods; None where nothing ended in the window."""
        rates = self.rates(window_s)
        return (
            None
            if rates is None
            else quantile(q, [float(rate) for rate in rates[Counter.BUCKET : Counter.FIRST_BUCKET]])
        )

    def growth(self, gauge: Callable[[Scrape], int], window_s: float) -> float | None:
        """Sum over the pods of a gauge's slope over the window [1/s]; None where no pod has two samples in it."""
        lately = [self._lately(kept, window_s) for kept in self.by_pod.values()]
        slopes = [slope([(scrape.at_s, float(gauge(scrape))) for scrape in scrapes]) for scrapes in lately]
        known = [value for value in slopes if value is not None]
        return sum(known) if known else None

    def young(self, window_s: float) -> int:
        """Pods with fewer than two samples in the window."""
        return sum(len(self._lately(kept, window_s)) < 2 for kept in self.by_pod.values())

    def _lately(self, kept: Iterable[Scrape], window_s: float) -> list[Scrape]:
        return [scrape for scrape in kept if scrape.at_s > self.last_s - window_s]


def quantile(q: float, buckets: Sequence[float]) -> float | None:
    """PromQL's histogram_quantile over counts of `BUCKETS_S` and one above: linear inside a bucket. None of nothing.

    Source: prometheus/prometheus promql/quantile.go, classic histograms.
    """
    total = sum(buckets)
    if total <= 0:
        return None
    rank, seen = q * total, 0.0
    for i, count in enumerate(buckets[:-1]):
        if count > 0 and seen + count >= rank:
            lower = BUCKETS_S[i - 1] if i else 0.0
            return lower + (BUCKETS_S[i] - lower) * (rank - seen) / count
        seen += count
    return BUCKETS_S[-1]
