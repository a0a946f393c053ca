"""The metric pipeline: what Prometheus scrapes and what its queries then answer, under the scaler's reading names.

The queries are those of the scaler's vLLM preset (`scaler/queries/vllm.toml`); `rate` extrapolates and `deriv`
regresses as Prometheus does. Source: prometheus/prometheus v3 `promql/functions.go` (extrapolatedRate,
linearRegression) and `promql/quantile.go` (bucketQuantile).
"""

from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from math import isnan
from types import MappingProxyType
from typing import Final

import numpy as np
from numpy.typing import NDArray

from scaler.signals.reading import Missing, Reading, ReadingName, Sample, reading_of
from sim.serving.pool import BUCKETS_S, COLUMNS, GAUGES, Counter, Gauge, Readout

LOOKBACK_S: Final = 300.0  # Prometheus --query.lookback-delta
FEWEST_REQUESTS: Final = 20  # of a quantile, as in the preset
_BUCKETS: Final = tuple(range(GAUGES + Counter.BUCKET, COLUMNS))
Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Scrape:
    """One round. `pods`: numbers of those that answered, ascending; `rows`: (pods, COLUMNS)."""

    at_s: float
    pods: NDArray[np.int64]
    rows: NDArray[np.int64]
    held: int  #: requests at the gateway
    sessions: int  #: alive, wherever


@dataclass(frozen=True, slots=True)
class _Window:
    """Every pod that has samples in a window; rows by pod."""

    first: Floats
    last: Floats
    first_s: Floats
    last_s: Floats
    samples: Floats


class Prometheus:
    """Keeps as much as the longest window needs."""

    def __init__(self, keep_s: float) -> None:
        self._keep_s = max(keep_s, LOOKBACK_S)
        self._scrapes: deque[Scrape] = deque()

    def scrape(self, at_s: float, pods: NDArray[np.int64], readout: Readout, held: int, sessions: int) -> None:
        """`pods`: numbers that are never used twice, one for each slot of `readout`, ascending."""
        self._scrapes.append(Scrape(at_s, pods, readout.table, held, sessions))
        while self._scrapes[0].at_s < at_s - self._keep_s:
            self._scrapes.popleft()

    def read(self, names: frozenset[str], at_s: float, window_s: float) -> Mapping[str, Reading]:
        """`names` that Prometheus has; the others are the Kubernetes API's."""
        view = _View([x for x in self._scrapes if x.at_s <= at_s], at_s, window_s)
        return MappingProxyType({name: _QUERIES[name](view) for name in sorted(names & _QUERIES.keys())})

    def read_pods(self, name: str, at_s: float, window_s: float) -> Mapping[int, float]:
        """By pod, of those that answered in the newest round; for `EACH` of them only."""
        return _View([x for x in self._scrapes if x.at_s <= at_s], at_s, window_s).each(EACH[name])


class _View:
    """One instant of one trigger; what several queries need is computed once."""

    def __init__(self, scrapes: list[Scrape], at_s: float, window_s: float) -> None:
        self.at_s = at_s
        self.window_s = window_s
        self.scrapes = [x for x in scrapes if x.at_s > at_s - window_s]
        newest = scrapes[-1] if scrapes else None
        self.newest = newest if newest is not None and newest.at_s > at_s - LOOKBACK_S else None

    def per_pod(self, value: float) -> Reading:
        """A value of the pods that answered in the newest round."""
        if self.newest is None or not len(self.newest.pods):
            return Missing("no series")
        reading = reading_of(value, self.at_s, len(self.newest.pods))
        if isinstance(reading, Missing):
            return reading
        return Sample(reading.value, self.newest.at_s, reading.pods)

    def gauge(self, column: Gauge) -> float:
        return float(self.newest.rows[:, column].sum()) if self.newest is not None else float("nan")

    def each(self, column: Gauge | Counter) -> Mapping[int, float]:
        """A gauge as it is, a counter as its rate over the window where the pod has two samples."""
        if self.newest is None:
            return {}
        pods = self.newest.pods.tolist()
        if isinstance(column, Gauge):
            return dict(zip(pods, self.newest.rows[:, column].astype(float).tolist(), strict=True))
        found: dict[int, float] = {}
        for pod in pods:
            only = [replace(x, pods=x.pods[x.pods == pod], rows=x.rows[x.pods == pod]) for x in self.scrapes]
            alone = _View(only, self.at_s, self.window_s)
            alone.scrapes = [x for x in only if len(x.pods)]
            rate = alone.counter_rate(column)
            if not isnan(rate):
                found[pod] = rate
        return found

    def window(self, columns: tuple[int, ...]) -> _Window:
        numbers = [int(x.pods[-1]) for x in self.scrapes if len(x.pods)]
        size = max(numbers, default=-1) + 1
        first, last = np.zeros((size, len(columns))), np.zeros((size, len(columns)))
        first_s, last_s, samples = np.zeros(size), np.zeros(size), np.zeros(size)
        for scrape in self.scrapes:
            pods, values = scrape.pods, scrape.rows[:, columns]
            new = samples[pods] == 0
            first[pods[new]], first_s[pods[new]] = values[new], scrape.at_s
            last[pods], last_s[pods] = values, scrape.at_s
            samples[pods] += 1
        chosen = samples >= 2
        return _Window(first[chosen], last[chosen], first_s[chosen], last_s[chosen], samples[chosen])

    def rates(self, columns: tuple[int, ...]) -> Floats:
        """(columns,) sum over pods of rate(counter[window]); NaN where no pod has two samples."""
        return _rates(self.window(columns), self.at_s, self.window_s)

    def counter_rate(self, counter: Counter) -> float:
        return float(self.rates((GAUGES + counter,))[0])

    def slope(self, column: Gauge) -> float:
        """Sum over pods of deriv(gauge[window])."""
        sums: dict[int, list[float]] = {}
        for scrape in self.scrapes:
            x = scrape.at_s - self.at_s
            for pod, value in zip(scrape.pods.tolist(), scrape.rows[:, column].tolist(), strict=True):
                n, sx, sy, sxy, sxx = sums.get(pod, [0.0] * 5)
                sums[pod] = [n + 1, sx + x, sy + value, sxy + x * value, sxx + x * x]
        slopes = [(n * sxy - sx * sy) / (n * sxx - sx * sx) for n, sx, sy, sxy, sxx in sums.values() if n >= 2]
        return sum(slopes) if slopes else float("nan")


def _rates(window: _Window, at_s: float, window_s: float) -> Floats:
    if not len(window.samples):
        return np.full(window.last.shape[1], np.nan)
    grown = window.last - window.first
    sampled_s = window.last_s - window.first_s
    apart_s = sampled_s / (window.samples - 1)
    to_start_s = window.first_s - (at_s - window_s)
    to_end_s = at_s - window.last_s
    to_start_s = np.where(to_start_s >= 1.1 * apart_s, apart_s / 2, to_start_s)
    to_end_s = np.where(to_end_s >= 1.1 * apart_s, apart_s / 2, to_end_s)
    # a counter cannot have been below zero: the start is not extrapolated past where it would have been
    with np.errstate(divide="ignore", invalid="ignore"):
        to_zero_s = np.where(grown > 0, sampled_s[:, None] * (window.first / grown), np.inf)
    back_s = np.minimum(to_start_s[:, None], to_zero_s)
    factor = (sampled_s[:, None] + back_s + to_end_s[:, None]) / sampled_s[:, None] / window_s
    return np.asarray((grown * factor).sum(axis=0))


def _queue(view: _View) -> Reading:
    """Waiting in engines or at the gateway; the gateway is always there, so nothing to wait is known to be 0."""
    if view.newest is None:
        return Missing("no series")
    waiting = view.gauge(Gauge.QUEUED) if len(view.newest.pods) else 0.0
    return Sample(waiting + view.newest.held, view.newest.at_s, len(view.newest.pods))


def _sessions(view: _View) -> Reading:
    return Missing("no series") if view.newest is None else Sample(float(view.newest.sessions), view.newest.at_s)


def _arrivals(view: _View) -> Reading:
    rate = view.counter_rate(Counter.FINISHED) + view.slope(Gauge.RUNNING) + view.slope(Gauge.QUEUED)
    return view.per_pod(max(rate, 0.0) if not isnan(rate) else rate)


def _service(view: _View) -> Reading:
    finished = view.counter_rate(Counter.FINISHED)
    if isnan(finished) or finished <= 0:
        return Missing("no series")
    in_service_us = view.counter_rate(Counter.LATENCY_US) - view.counter_rate(Counter.WAITED_US)
    return view.per_pod(max(in_service_us, 0.0) / 1e6 / finished)


def _quantile(view: _View, q: float) -> Reading:
    rates = view.rates(_BUCKETS)
    if isnan(float(rates[0])) or rates.sum() * view.window_s < FEWEST_REQUESTS:
        return Missing("no series")
    below = np.cumsum(rates)
    rank = q * float(below[-1])
    bucket = int(np.searchsorted(below, rank, side="left"))
    if bucket >= len(BUCKETS_S):
        return view.per_pod(BUCKETS_S[-1])
    low_s = BUCKETS_S[bucket - 1] if bucket else 0.0
    before = float(below[bucket - 1]) if bucket else 0.0
    within = (rank - before) / float(rates[bucket])
    return view.per_pod(low_s + (BUCKETS_S[bucket] - low_s) * within)


def _oldest_wait(view: _View) -> Reading:
    """As the recipes have it where an engine does not export it: waiting / pace (scaler/signals/recipes.py)."""
    waiting, ended = view.gauge(Gauge.QUEUED), view.counter_rate(Counter.FINISHED)
    if waiting > 0 and not ended > 0:
        return Missing("requests wait, and none has ended within the window")
    return view.per_pod(waiting / ended if waiting > 0 else waiting)


_QUERIES: Final[Mapping[str, Callable[[_View], Reading]]] = MappingProxyType(
    {
        ReadingName.QUEUE: _queue,
        ReadingName.RUNNING: lambda view: view.per_pod(view.gauge(Gauge.RUNNING)),
        ReadingName.SESSIONS: _sessions,
        ReadingName.PROMPT_TOKENS_PER_S: lambda view: view.per_pod(view.counter_rate(Counter.PROMPT_TOKENS)),
        ReadingName.GENERATION_TOKENS_PER_S: lambda view: view.per_pod(view.counter_rate(Counter.GENERATED_TOKENS)),
        ReadingName.ARRIVALS_PER_S: _arrivals,
        ReadingName.ENDED_PER_S: lambda view: view.per_pod(view.counter_rate(Counter.FINISHED)),
        ReadingName.SERVICE_S: _service,
        ReadingName.P50_S: lambda view: _quantile(view, 0.5),
        ReadingName.P95_S: lambda view: _quantile(view, 0.95),
        ReadingName.OLDEST_WAIT_S: _oldest_wait,
    }
)
READS: Final = frozenset(map(str, _QUERIES))
"""Names of the readings that it has."""
EACH: Final[Mapping[str, Gauge | Counter]] = MappingProxyType(
    {
        ReadingName.QUEUE: Gauge.QUEUED,
        ReadingName.RUNNING: Gauge.RUNNING,
        ReadingName.PROMPT_TOKENS_PER_S: Counter.PROMPT_TOKENS,
        ReadingName.GENERATION_TOKENS_PER_S: Counter.GENERATED_TOKENS,
    }
)
"""Readings that each pod has for itself."""
