"""The metric pipeline: what Prometheus scrapes and what its queries then answer, under the scaler's reading names.

The queries are those of the scaler's vLLM preset (`scaler/presets/vllm.toml`, `scaler/signals/recipes.py`); `rate`
extrapolates and `deriv` regresses as Prometheus does. Source: prometheus/prometheus v3 `promql/functions.go`
(extrapolatedRate, linearRegression). Quantiles and shares are the scaler's own arithmetic on buckets.
"""

from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from itertools import accumulate
from math import inf, isnan
from types import MappingProxyType
from typing import Final

import numpy as np
from numpy.typing import NDArray

from scaler.signals.histogram import Buckets, Estimate, quantile, share_within
from scaler.signals.reading import Missing, Reading, ReadingName, Sample, reading_of
from scaler.signals.recipes import FEWEST
from sim.serving.pool import BUCKETS_S, FIRST_BUCKETS_S, GAUGES, Counter, Gauge, Readout

LOOKBACK_S: Final = 300.0  # Prometheus --query.lookback-delta
Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class _Histogram:
    """Where its buckets stand in a row, and their upper bounds."""

    first: Counter
    bounds_s: tuple[float, ...]

    @property
    def columns(self) -> tuple[int, ...]:
        begin = GAUGES + int(self.first)
        return tuple(range(begin, begin + len(self.bounds_s) + 1))


_END_TO_END: Final = _Histogram(Counter.BUCKET, BUCKETS_S)
_FIRST_TOKEN: Final = _Histogram(Counter.FIRST_BUCKET, FIRST_BUCKETS_S)


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

    def read(
        self, names: frozenset[str], at_s: float, window_s: float, slo_s: float | None = None
    ) -> Mapping[str, Reading]:
        """`names` that Prometheus has; the others are the Kubernetes API's. `slo_s`: of shares that were on time."""
        view = _View([x for x in self._scrapes if x.at_s <= at_s], at_s, window_s, slo_s)
        return MappingProxyType({name: _QUERIES[name](view) for name in sorted(names & _QUERIES.keys())})

    def read_pods(self, name: str, at_s: float, window_s: float) -> Mapping[int, float]:
        """By pod, of those that answered in the newest round; for `EACH` of them only."""
        return _View([x for x in self._scrapes if x.at_s <= at_s], at_s, window_s).each(EACH[name])


class _View:
    """One instant of one trigger; what several queries need is computed once."""

    def __init__(self, scrapes: list[Scrape], at_s: float, window_s: float, slo_s: float | None = None) -> None:
        self.at_s = at_s
        self.window_s = window_s
        self.slo_s = slo_s
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


def _buckets(view: _View, histogram: _Histogram) -> Buckets | Missing:
    """Requests within the window, up to each bound."""
    rates = view.rates(histogram.columns)
    if isnan(float(rates[0])):
        return Missing("no series")
    return Buckets((*histogram.bounds_s, inf), tuple(accumulate((rates * view.window_s).tolist())))


def _told(view: _View, found: Estimate | Missing) -> Reading:
    if isinstance(found, Missing):
        return found
    sample = view.per_pod(found.value)
    return replace(sample, count=found.count, saturated=found.saturated) if isinstance(sample, Sample) else sample


def _quantile(view: _View, p: float, histogram: _Histogram) -> Reading:
    buckets = _buckets(view, histogram)
    return buckets if isinstance(buckets, Missing) else _told(view, quantile(p, buckets, fewest=FEWEST))


def _within(view: _View, histogram: _Histogram) -> Reading:
    buckets = _buckets(view, histogram)
    if isinstance(buckets, Missing):
        return buckets
    if view.slo_s is None:
        return Missing("no SLO is given: p95Target or firstTokenTarget")
    share = share_within(view.slo_s, buckets, fewest=FEWEST)
    return share if isinstance(share, Missing) else _told(view, Estimate(share.at_least, share.count))


def _kv_usage(view: _View) -> Reading:
    """Caches in use: the sum over pods of the share that is taken."""
    if view.newest is None or not len(view.newest.pods):
        return Missing("no series")
    rows = view.newest.rows
    return view.per_pod(float((rows[:, Gauge.KV_USED] / rows[:, Gauge.KV_BLOCKS]).sum()))


def _rate(counter: Counter) -> Callable[[_View], Reading]:
    return lambda view: view.per_pod(view.counter_rate(counter))


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
        ReadingName.PROMPT_TOKENS_PER_S: _rate(Counter.PROMPT_TOKENS),
        ReadingName.GENERATION_TOKENS_PER_S: _rate(Counter.GENERATED_TOKENS),
        ReadingName.CACHED_TOKENS_PER_S: _rate(Counter.CACHED_TOKENS),
        ReadingName.KV_USAGE: _kv_usage,
        ReadingName.PREEMPTIONS_PER_S: _rate(Counter.PREEMPTED),
        ReadingName.ARRIVALS_PER_S: _arrivals,
        ReadingName.ENDED_PER_S: _rate(Counter.FINISHED),
        ReadingName.SERVICE_S: _service,
        ReadingName.P50_S: partial(_quantile, p=0.5, histogram=_END_TO_END),
        ReadingName.P95_S: partial(_quantile, p=0.95, histogram=_END_TO_END),
        ReadingName.TTFT_P95_S: partial(_quantile, p=0.95, histogram=_FIRST_TOKEN),
        ReadingName.ATTAINMENT: partial(_within, histogram=_END_TO_END),
        ReadingName.TTFT_ATTAINMENT: partial(_within, histogram=_FIRST_TOKEN),
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
