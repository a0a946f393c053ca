"""What a Prometheus answered, by workload, and the readings that are made of it. Pure."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from math import isfinite
from sys import intern
from typing import Final

from scaler.signals import histogram, native
from scaler.signals.combining import NOTHING, Part, Term, combine
from scaler.signals.histogram import Buckets, Estimate
from scaler.signals.native import Native
from scaler.signals.reading import Missing, Reading, Sample, reading_of
from scaler.signals.recipes import FEWEST, CountRate, Expression, Gateway, Growth, Quantile, Within
from scaler.sources.batch import CLUSTER, OF_BUCKETS, OLDEST, SEEN, WINDOWED, YOUNG, Kind, Topic, leaves, tag
from scaler.sources.presets import Preset
from scaler.sources.prometheus_api import Labels, NativeHistogram

Workload = tuple[str, str]
"""(namespace, name)."""
Row = tuple[Labels, str | NativeHistogram]
"""A series at one instant."""


@dataclass(slots=True)
class Told:
    """Of one workload: numbers by tag; histograms as rates: by tag, up to each upper edge; and native ones."""

    numbers: dict[str, float] = field(default_factory=dict)
    classic: dict[str, dict[float, float]] = field(default_factory=dict)
    native: list[Native | Missing] = field(default_factory=list)


@dataclass(slots=True)
class Outcome:
    """What the questions about one topic brought.

    `silent`: by namespace, why its question has no answer. `warned`: by namespace, why its answer may be only part of
    the truth.
    """

    by_workload: dict[Workload, Told] = field(default_factory=dict)
    silent: dict[str, str] = field(default_factory=dict)
    warned: dict[str, str] = field(default_factory=dict)

    def of(self, workload: Workload) -> Told:
        """Raises SilentError."""
        if self.silent and (why := self.silent.get(workload[0])) is not None:
            raise SilentError(why)
        return self.by_workload.get(workload, NOBODY)


class SilentError(Exception):
    """A question that a reading needs has no answer; `str(e)` says why."""


NOBODY: Final = Told()
NOT_ASKED: Final = Outcome()


def told(rows: Iterable[Row], scales: Mapping[str, float]) -> Mapping[Workload, Told]:
    """The series of one instant, by workload. `scales`: see Question; empty where the answer has no buckets."""
    found: dict[Workload, Told] = {}
    edges: dict[tuple[str, str], float] = {}
    for labels, value in rows:
        whose = (labels.namespace, labels.workload)
        of = found.get(whose)
        if of is None:
            of = found[whose] = Told()
        scale = scales.get(labels.part)
        if not isinstance(value, str):
            of.native.append(_scaled(native.decoded(value.buckets, float(value.sum)), scale or 1.0))
        elif scale is None:
            of.numbers[intern(labels.part)] = float(value)
        else:
            edge = edges.get((labels.part, labels.le))
            if edge is None:
                edge = edges[labels.part, labels.le] = float(labels.le) * scale
            rates = of.classic.setdefault(intern(labels.part), {})
            rates[edge] = rates.get(edge, 0.0) + float(value)  # `le="1"` of one pod and `le="1.0"` of another
    return found


def _scaled(histogram: Native | Missing, scale: float) -> Native | Missing:
    if isinstance(histogram, Missing) or scale == 1:
        return histogram
    buckets = (replace(b, lower=b.lower * scale, upper=b.upper * scale) for b in histogram.buckets)
    return Native(tuple(buckets), histogram.total * scale)


@dataclass(frozen=True, slots=True)
class _Leaf:
    """Where a part of a recipe is answered. `tag`: None for what is made of buckets."""

    outcome: Outcome
    tag: str | None
    windowed: bool


class Reader:
    """Makes readings of the subjects of one kind, as of one instant."""

    def __init__(self, preset: Preset, kind: Kind, outcomes: Mapping[Topic, Outcome], at_s: float) -> None:
        self._kind = kind
        self._at_s = at_s
        self._has_pods = preset.scope == "pod"
        self._ways = {name: preset.ways(name) for name in kind.names}
        self._cluster = outcomes.get(kind.cluster, NOT_ASKED)
        self._now = outcomes.get(kind.now, NOT_ASKED)
        self._windowed = outcomes.get(kind.windowed, NOT_ASKED)
        parts = (part for ways in self._ways.values() for way in ways for part in leaves(way))
        self._leaves = {
            part: _Leaf(
                outcomes.get(kind.topic(part), NOT_ASKED),
                None if isinstance(part, OF_BUCKETS) else tag(part),
                isinstance(part, WINDOWED + OF_BUCKETS),
            )
            for part in parts
        }

    def reading(self, name: str, workload: Workload, slo_s: float | None) -> Reading:
        """The first way to `name` of which anything is said; Missing where a query for any of them was not answered.

        A later way is no substitute for one that could not be asked: it may know of less.
        """
        try:
            if name in CLUSTER:
                value = self._cluster.of(workload).numbers.get(name)
                return NOTHING if value is None else reading_of(value, self._at_s)
            part = self._part(name, workload, slo_s)
        except SilentError as e:
            return Missing(str(e))
        if isinstance(part, Missing):
            return part
        value = max(0.0, part.value)
        return Sample(value, part.at_s, part.pods, count=part.count, saturated=part.saturated, doubt=part.doubt)

    def _part(self, name: str, workload: Workload, slo_s: float | None) -> Part:
        part: Part = Missing(f"preset {self._kind.preset!r} knows no metric for it")
        for way in self._ways[name]:
            part = combine(way, lambda leaf: self._leaf(leaf, workload, slo_s))
            if part != NOTHING:
                break
        return part

    def _leaf(self, part: Expression, workload: Workload, slo_s: float | None) -> Part:
        leaf = self._leaves[part]
        told = leaf.outcome.of(workload)
        if isinstance(part, Quantile | Within):
            found = _observed(part, told, self._kind.window_s, slo_s)
        else:
            found = _number(part, told.numbers.get(leaf.tag or ""), self._kind.window_s)
        if isinstance(found, Missing):
            return found
        at_s, pods = (self._at_s, None) if isinstance(part, Gateway) else self._behind(leaf, workload)
        return Term(found.value, at_s, pods, found.count or None, found.saturated, leaf.outcome.warned.get(workload[0]))

    def _behind(self, leaf: _Leaf, workload: Workload) -> tuple[float, int | None]:
        """When the pod behind a value that was measured longest ago was measured, and how many pods there are."""
        now = self._now.of(workload).numbers
        at_s = min(self._at_s, now.get(OLDEST, self._at_s))
        if not self._has_pods:
            return at_s, None
        pods = now.get(SEEN, 0.0)
        if leaf.windowed:
            pods -= self._windowed.of(workload).numbers.get(YOUNG, 0.0)
        return at_s, max(0, int(pods))


def _number(part: Expression, value: float | None, window_s: float) -> Estimate | Missing:
    """NaN and infinity are no numbers; nothing is below 0 but a slope."""
    if value is None:
        return NOTHING
    if not isfinite(value) or (value < 0 and not isinstance(part, Growth)):
        return Missing(f"the value is {value:g}; want a finite number, 0 or more")
    return Estimate(value, value * window_s if isinstance(part, CountRate) else 0.0)


def _observed(part: Quantile | Within, told: Told, window_s: float, slo_s: float | None) -> Estimate | Missing:
    """Where some pods have native histograms and others classic ones, the worse of the two answers."""
    classic = [histogram.buckets_of(rates.items()) for rates in told.classic.values()]
    for found in (*classic, *told.native):
        if isinstance(found, Missing):
            return found
    every = [found for found in (_merged(classic), *told.native) if isinstance(found, Buckets | Native)]
    if not every:
        return NOTHING
    count = window_s * sum(found.count for found in every)
    if count < FEWEST:
        return Missing(f"{count:.0f} observations within the window; want {FEWEST} or more")
    estimates: list[Estimate] = []
    for found in every:
        estimate = _estimate(part, found, slo_s) if found.count > 0 else None
        if isinstance(estimate, Missing):
            return estimate
        estimates += [] if estimate is None else [estimate]
    worst = max if isinstance(part, Quantile) else min
    value = worst(estimate.value for estimate in estimates)
    return Estimate(value, count, saturated=any(estimate.saturated for estimate in estimates))


def _merged(parts: Iterable[Buckets | Missing]) -> Buckets | None:
    known = [part for part in parts if isinstance(part, Buckets)]
    return histogram.merged(known) if known else None


def _estimate(part: Quantile | Within, found: Buckets | Native, slo_s: float | None) -> Estimate | Missing:
    if isinstance(part, Quantile):
        if isinstance(found, Native):
            return native.quantile(part.p, found, fewest=0)
        return histogram.quantile(part.p, found, fewest=0)
    if slo_s is None:
        return Missing("there is no p95Target or firstTokenTarget to hold the requests against")
    if isinstance(found, Native):
        return Estimate(
            sum(bucket.count for bucket in found.buckets if bucket.upper <= slo_s) / found.count, found.count
        )
    share = histogram.share_within(slo_s, found, fewest=0)
    return share if isinstance(share, Missing) else Estimate(share.at_least, share.count)
