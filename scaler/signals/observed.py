"""What was seen of a workload: each pod's answers in the words of recipes, and which of them count."""

from collections.abc import Iterable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field
from math import isfinite

from scaler.signals.histogram import Buckets
from scaler.signals.recipes import Counter, Gauge, Histogram, Own, Quantity

Labels = tuple[str, ...]
"""Values of the labels that tell series of one pod apart, in the preset's order."""


@dataclass(frozen=True, slots=True)
class Cumulative:
    """A histogram since the engine started. `buckets`: None where only sum and count are known."""

    buckets: Buckets | None
    total: float
    count: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Observation:
    """One answer of a pod at `at_s`: what it exported, each quantity by labels. What is not there was not exported."""

    at_s: float
    gauges: Mapping[Gauge | Own, Mapping[Labels, float]] = field(default_factory=dict)
    counters: Mapping[Counter, Mapping[Labels, float]] = field(default_factory=dict)
    histograms: Mapping[Histogram, Mapping[Labels, Cumulative]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Workload:
    """All that was seen of a workload.

    `pods`: observations of each pod that lives, oldest first; `gateways`: of what stands in front of them. `lazy`:
    quantities that appear with the first request, so that one who serves without them has counted nothing. `up`: the
    gauge that one who serves always exports; None: whoever answers serves.
    """

    pods: Mapping[str, Sequence[Observation]]
    gateways: Mapping[str, Sequence[Observation]] = field(default_factory=dict)
    lazy: AbstractSet[Quantity] = frozenset()
    up: Gauge | None = None


@dataclass(frozen=True, slots=True)
class Coverage:
    """`seen` of `expected` pods; `unseen` are the others, by name."""

    seen: int
    expected: int
    unseen: tuple[str, ...] = ()

    @property
    def whole(self) -> bool:
        return self.seen >= self.expected


def once(series: Iterable[tuple[Labels, float]]) -> Mapping[Labels, float]:
    """Series by what tells them apart; those that differ in nothing else were scraped twice, and the highest counts.

    What is NaN, infinite or negative was not told: no gauge or counter of a load is. Law: doubling any series changes
    nothing, nor does any order.
    """
    highest: dict[Labels, float] = {}
    for labels, value in series:
        if isfinite(value) and value >= 0:
            highest[labels] = max(value, highest.get(labels, value))
    return highest


def living(
    pods: Mapping[str, Sequence[Observation]], live: AbstractSet[str]
) -> tuple[Mapping[str, Sequence[Observation]], tuple[str, ...]]:
    """Observations of the pods that live, and the names of the ghosts: pods that are gone and whose series linger.

    Law: ghosts never change what is said of the living.
    """
    return {pod: seen for pod, seen in pods.items() if pod in live}, tuple(sorted(pods.keys() - live))


def fresh(
    pods: Mapping[str, Sequence[Observation]], *, now_s: float, max_age_s: float
) -> Mapping[str, Sequence[Observation]]:
    """Pods whose newest observation is at most `max_age_s` old, and no farther ahead of our clock either; in order.

    Observations ahead of the clock within that bound are taken as they are: clocks differ a little.
    """
    ordered = {pod: sorted(seen, key=lambda one: one.at_s) for pod, seen in pods.items() if seen}
    return {pod: seen for pod, seen in ordered.items() if abs(now_s - seen[-1].at_s) <= max_age_s}


def coverage(seen: AbstractSet[str], expected: AbstractSet[str]) -> Coverage:
    """How many of the expected pods were seen; others do not make up for one that is missing."""
    unseen = tuple(sorted(expected - seen))
    return Coverage(len(expected) - len(unseen), len(expected), unseen)
