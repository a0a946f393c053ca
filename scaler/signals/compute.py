"""Recipes carried out on what was scraped: the readings that PromQL would yield, from observations of pods.

Differences to PromQL, all towards knowing more: a series that is born within the window on a pod that was seen without
it began at 0, so that its first increment counts; a histogram that changes its buckets is a reset, and histograms of
different buckets are merged on their common bounds; a reading tells how many observations stand behind it, and whether
its quantile fell into the open bucket.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import accumulate
from math import inf
from typing import Any, Final

from scaler.signals.combining import Part, Term, joined
from scaler.signals.histogram import Buckets, Estimate, merged, quantile, share_within
from scaler.signals.observed import Cumulative, Labels, Observation, Workload, fresh
from scaler.signals.reading import Missing, Reading, Sample, reading_of
from scaler.signals.recipes import (
    FEWEST,
    Counter,
    CountRate,
    Expression,
    Gateway,
    Gauge,
    Growth,
    Highest,
    Histogram,
    Known,
    Less,
    OrZero,
    Own,
    Per,
    Pods,
    Quantile,
    Quantity,
    Rate,
    Sum,
    SumRate,
    Total,
    Wait,
    Within,
    is_of_pods,
)
from scaler.signals.window import Point, rate, slope, was_reset, within

AHEAD_S: Final = 5.0
"""Clocks that differ by less are said to be equal."""

Seen = Mapping[str, Sequence[Observation]]
ValuesOf = Callable[[Observation], Mapping[Labels, float]]


@dataclass(frozen=True, slots=True)
class Window:
    """The instant that is asked about, and how far back. `slo_s`: for the share within it."""

    now_s: float
    length_s: float
    max_age_s: float
    slo_s: float | None = None

    @property
    def start_s(self) -> float:
        return self.now_s - self.length_s


def reading(ways: Sequence[Expression], workload: Workload, window: Window) -> Reading:
    """The first of `ways` that yields a value, else the reasons of all. Below 0 is 0.

    `at_s` is the oldest of what was used, `pods` the fewest that stand behind a part of it.
    """
    if not ways:
        return Missing("this engine exports nothing to read it from")
    computation = _Computation(workload, window)
    why: list[str] = []
    for way in ways:
        part = computation.part(way)
        if isinstance(part, Term):
            value = 0.0 if part.value < 0 else part.value  # not max(): of NaN that would make 0
            found = reading_of(value, part.at_s, part.pods)
            if isinstance(found, Sample):
                return replace(found, count=part.count, saturated=part.saturated)
            part = found
        why.append(part.why)
    return Missing("; ".join(dict.fromkeys(why)))


class _Computation:
    def __init__(self, workload: Workload, window: Window) -> None:
        self._workload = workload
        self._window = window
        self._pods = fresh(workload.pods, now_s=window.now_s, max_age_s=window.max_age_s)
        self._gateways = fresh(workload.gateways, now_s=window.now_s, max_age_s=window.max_age_s)
        self._ways: Mapping[type[Expression], Callable[..., Part]] = {
            Sum: lambda e: self._gauge(e.gauge, sum, self._pods),
            Highest: lambda e: self._gauge(e.gauge, max, self._pods),
            Gateway: lambda e: self._own_of_gateways(e.metric),
            Pods: lambda e: self._gauge(e.metric, sum, self._pods),
            Growth: lambda e: self._growth(e.gauge),
            Rate: lambda e: self._rate(e.counter, lambda one: one.counters.get(e.counter, {})),
            SumRate: lambda e: self._rate(e.histogram, lambda one: _each(one, e.histogram, lambda h: h.total)),
            CountRate: lambda e: self._count_rate(e.histogram),
            Quantile: lambda e: self._quantile(e.p, e.histogram),
            Within: lambda e: self._within(e.histogram),
            Known: lambda e: self._known(e.parts),
            Total: lambda e: joined(sum, *map(self.part, e.parts)),
            Less: lambda e: joined(_difference, self.part(e.whole), self.part(e.part)),
            OrZero: lambda e: self._or_zero(e.part),
            Per: lambda e: self._per(self.part(e.over), self.part(e.under)),
            Wait: lambda e: self._wait(self.part(e.line), self.part(e.pace)),
        }

    def part(self, expression: Expression) -> Part:
        return self._ways[type(expression)](expression)

    def _serving(self, pods: Seen, quantity: Quantity | Own) -> Mapping[str, bool]:
        """Pods that tell of `quantity`; False: of 0, for it is lazy and they serve without it."""
        up = self._workload.up
        told = {}
        for pod, seen in pods.items():
            newest = seen[-1]
            series = _told(newest, quantity)
            if series:
                told[pod] = True
            elif series is None and quantity in self._workload.lazy and (up is None or up in newest.gauges):
                told[pod] = False
        return told

    def _gauge(self, gauge: Gauge | Own, together: Callable[[Sequence[float]], float], pods: Seen) -> Part:
        serving = self._serving(pods, gauge)
        values = [value for pod, told in serving.items() if told for value in pods[pod][-1].gauges[gauge].values()]
        if not serving:
            return self._silent(pods, gauge)
        return Term(together(values or [0.0]), min(pods[pod][-1].at_s for pod in serving), len(serving))

    def _silent(self, pods: Seen, quantity: Quantity | Own) -> Missing:
        known = len(self._workload.pods if pods is self._pods else self._workload.gateways)
        whose = "pod" if pods is self._pods else "gateway"
        if not pods:
            return Missing(f"no {whose} answered" if not known else f"none of {known} {whose}s answered lately")
        return Missing(f"none of {len(pods)} {whose}s exports {quantity}")

    def _own_of_gateways(self, metric: Own) -> Part:
        part = self._gauge(metric, sum, self._gateways)
        return part if isinstance(part, Missing) else replace(part, pods=None)

    def _rate(self, counter: Counter | Histogram, values_of: ValuesOf) -> Part:
        start_s, now_s = self._window.start_s, self._window.now_s
        return self._over_window(counter, lambda seen: _counted(seen, values_of), lambda p: rate(p, start_s, now_s))

    def _count_rate(self, histogram: Histogram) -> Part:
        part = self._rate(histogram, lambda one: _each(one, histogram, lambda h: h.count))
        return part if isinstance(part, Missing) else replace(part, count=part.value * self._window.length_s)

    def _growth(self, gauge: Gauge) -> Part:
        return self._over_window(gauge, lambda seen: _measured(seen, gauge), slope)

    def _over_window(
        self,
        quantity: Quantity,
        series_of: Callable[[Sequence[Observation]], Iterable[Sequence[Point]]],
        pace: Callable[[Sequence[Point]], float | None],
    ) -> Part:
        """Sum over pods of what `pace` makes of each series.

        A pod of which no series yields it is not behind it. Nor is one whose pace is a lower bound: because it missed
        an answer lately, or its counter was reset (what it counted between its last answer and the reset is lost), or
        its clock runs ahead (one that was set forward stretches the time in which a counter grew).
        """
        serving = self._serving(self._pods, quantity)
        if not serving:
            return self._silent(self._pods, quantity)
        counts = isinstance(quantity, Counter | Histogram)
        total, known, whole = 0.0, [], 0
        for pod, told in serving.items():
            seen = self._pods[pod]
            series = [within(s, self._window.start_s, self._window.now_s) for s in series_of(seen)]
            paces = [value for points in series if (value := pace(points)) is not None]
            if paces or (not told and len(seen) > 1):
                total += sum(paces)
                known.append(seen[-1].at_s)
                whole += self._is_steady(seen) and not (counts and any(map(was_reset, series)))
        if not known:
            return Missing(f"{quantity}: wants two answers of a pod within {self._window.length_s:g} s")
        return Term(total, min(known), whole)

    def _is_steady(self, seen: Sequence[Observation]) -> bool:
        """Whether the newest answer is no older than answers are apart, nor of a clock that runs ahead."""
        lately = [one.at_s for one in seen if self._window.start_s < one.at_s]
        if len(lately) < 2:
            return False
        mean_s = (lately[-1] - lately[0]) / (len(lately) - 1)
        return -AHEAD_S <= self._window.now_s - lately[-1] <= 1.1 * mean_s

    def _observations(self, histogram: Histogram) -> tuple[Buckets, float, int] | Missing:
        """What all pods observed within the window, when, and how many pods stand behind it."""
        serving = self._serving(self._pods, histogram)
        if not serving:
            return self._silent(self._pods, histogram)
        parts: list[Buckets] = []
        behind = []
        for pod in serving:
            seen = [one for one in self._pods[pod] if self._window.start_s < one.at_s <= self._window.now_s]
            if len(seen) > 1:
                behind.append(pod)
                parts.extend(_grown(seen, histogram))
        if not behind:
            return Missing(f"{histogram}: wants two answers of a pod within {self._window.length_s:g} s")
        if not parts:
            return Missing(f"{histogram}: no pod told of its buckets")
        return merged(parts), min(self._pods[pod][-1].at_s for pod in behind), len(behind)

    def _quantile(self, p: float, histogram: Histogram) -> Part:
        observed = self._observations(histogram)
        if isinstance(observed, Missing):
            return observed
        buckets, at_s, pods = observed
        estimate = quantile(p, buckets, fewest=FEWEST)
        return estimate if isinstance(estimate, Missing) else _term(estimate, at_s, pods)

    def _within(self, histogram: Histogram) -> Part:
        if self._window.slo_s is None:
            return Missing("no SLO is given: p95Target or firstTokenTarget")
        observed = self._observations(histogram)
        if isinstance(observed, Missing):
            return observed
        buckets, at_s, pods = observed
        share = share_within(self._window.slo_s, buckets, fewest=FEWEST)
        return share if isinstance(share, Missing) else Term(share.at_least, at_s, pods, share.count)

    def _known(self, parts: Sequence[Expression]) -> Part:
        made = [self.part(part) for part in parts]
        terms = [part for part in made if isinstance(part, Term)]
        if not terms:
            return Missing("; ".join(part.why for part in made if isinstance(part, Missing)))
        silent = any(isinstance(m, Missing) and is_of_pods(part) for m, part in zip(made, parts, strict=True))
        known = joined(sum, *terms)
        return replace(known, pods=0) if silent and isinstance(known, Term) else known

    def _or_zero(self, part: Expression) -> Part:
        made = self.part(part)
        return Term(0.0, inf) if isinstance(made, Missing) else made

    def _per(self, over: Part, under: Part) -> Part:
        if isinstance(under, Term) and under.value <= 0:
            return Missing(f"nothing to divide by within {self._window.length_s:g} s")
        return joined(lambda values: values[0] / values[1], over, under)

    def _wait(self, line: Part, pace: Part) -> Part:
        if isinstance(line, Term) and line.value <= 0:
            return replace(line, value=0.0)
        return self._per(line, pace)


def _told(one: Observation, quantity: Quantity | Own) -> bool | None:
    """Whether a number of `quantity` was told; None where it was not exported, False where none could be read."""
    kinds: tuple[Mapping[Any, Mapping[Labels, object]], ...] = (one.gauges, one.counters, one.histograms)
    exported = [kind[quantity] for kind in kinds if quantity in kind]
    return any(exported) if exported else None


def _each(one: Observation, histogram: Histogram, take: Callable[[Cumulative], float]) -> Mapping[Labels, float]:
    return {labels: take(cumulative) for labels, cumulative in one.histograms.get(histogram, {}).items()}


def _counted(seen: Sequence[Observation], values_of: ValuesOf) -> Iterable[Sequence[Point]]:
    """Each series of a counter; one that an earlier answer lacks was 0 then."""
    found: dict[Labels, list[Point]] = {}
    absent_s: float | None = None
    for one in seen:
        for labels, value in values_of(one).items():
            if labels not in found:
                found[labels] = [] if absent_s is None else [(absent_s, 0.0)]
            found[labels].append((one.at_s, value))
        absent_s = one.at_s
    return found.values()


def _measured(seen: Sequence[Observation], gauge: Gauge) -> Iterable[Sequence[Point]]:
    """Each series of a gauge; where it was not there it was not 0."""
    found: dict[Labels, list[Point]] = {}
    for one in seen:
        for labels, value in one.gauges.get(gauge, {}).items():
            found.setdefault(labels, []).append((one.at_s, value))
    return found.values()


def _grown(seen: Sequence[Observation], histogram: Histogram) -> Iterator[Buckets]:
    """What each answer of a pod has more than the one before it; all of it after a reset."""
    before: dict[Labels, Buckets] = {}
    for n, one in enumerate(seen):
        for labels, cumulative in one.histograms.get(histogram, {}).items():
            if cumulative.buckets is not None:
                if n:
                    yield _since(before.get(labels), cumulative.buckets)
                before[labels] = cumulative.buckets


def _since(before: Buckets | None, now: Buckets) -> Buckets:
    if before is None or before.bounds != now.bounds:
        return now
    grown = tuple(new - old for new, old in zip(now.counts, before.counts, strict=True))
    return now if min(grown) < 0 else Buckets(now.bounds, tuple(accumulate(grown, max)))


def _difference(values: Sequence[float]) -> float:
    whole, part = values
    return whole - part


def _term(estimate: Estimate, at_s: float, pods: int) -> Term:
    return Term(estimate.value, at_s, pods, estimate.count, estimate.saturated)
