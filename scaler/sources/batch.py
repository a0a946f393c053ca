"""Which queries a tick needs: all subjects that share a preset, a window and an age are asked for together.

A topic is one query with several parts. Three kinds for each preset: what is now, what happened within a window, and a
histogram's buckets (a query of their own: they are as many series as all the rest). Answers go to the subjects whose
namespace and workload they name, and to no other.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

from scaler.signals.reading import ReadingName
from scaler.signals.recipes import (
    CountRate,
    Expression,
    Gateway,
    Growth,
    Highest,
    Histogram,
    Pods,
    Quantile,
    Rate,
    Sum,
    SumRate,
    Within,
    is_of_pods,
    parts_of,
)
from scaler.sources import promql
from scaler.sources.base import Subject
from scaler.sources.presets import Preset

NOW: Final = (Sum, Highest, Gateway, Pods)
WINDOWED: Final = (Growth, Rate, SumRate, CountRate)
OF_BUCKETS: Final = (Quantile, Within)
AT_ONCE: Final = 1000
"""Subjects of one query: their buckets keep Prometheus busy for a second, and it works on several queries at a time."""
# Tags of what is told of the pods behind a value.
SEEN: Final = "seen"
YOUNG: Final = "young"
OLDEST: Final = "oldest"
CLUSTER: Final = frozenset({ReadingName.REPLICAS, ReadingName.READY, ReadingName.PENDING, ReadingName.TERMINATING})
"""From kube-state-metrics, whatever the preset."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Topic:
    """What one query is about. `preset` None: the cluster. Fields that do not matter to its kind are None."""

    preset: str | None
    max_age_s: float | None = None
    window_s: float | None = None
    histogram: Histogram | None = None


@dataclass(frozen=True, slots=True)
class Question:
    """`tags`: what its series may say in `part`. `scales`: for each tag of buckets, the unit of its `le`."""

    topic: Topic
    namespaces: tuple[str, ...]
    text: str
    tags: tuple[str, ...]
    scales: Mapping[str, float]


def tag(part: Expression) -> str:
    """What a part is called in a query's answer."""
    match part:
        case Sum(of) | Highest(of) | Growth(of) | Rate(of) | SumRate(of) | CountRate(of) | Gateway(of) | Pods(of):
            return f"{type(part).__name__.lower()}.{of}"
        case _:
            raise TypeError(f"{part!r} has no tag: it is made of others")


@lru_cache(maxsize=1024)
def leaves(way: Expression) -> tuple[Expression, ...]:
    """The parts of `way` that are asked for, each once."""
    return tuple(dict.fromkeys(part for part in parts_of(way) if isinstance(part, NOW + WINDOWED + OF_BUCKETS)))


@dataclass(frozen=True, slots=True)
class Kind:
    """Subjects that differ in name only: what they want is in the same topics."""

    preset: str
    max_age_s: float
    window_s: float
    names: frozenset[str]

    @classmethod
    def of(cls, subject: Subject, names: frozenset[str]) -> "Kind":
        return cls(subject.preset, subject.max_age_s, subject.window_s, names)

    @property
    def now(self) -> Topic:
        return Topic(preset=self.preset, max_age_s=self.max_age_s)

    @property
    def windowed(self) -> Topic:
        return Topic(preset=self.preset, max_age_s=self.max_age_s, window_s=self.window_s)

    @property
    def cluster(self) -> Topic:
        return Topic(preset=None, max_age_s=self.max_age_s)

    def topic(self, part: Expression) -> Topic:
        match part:
            case Quantile(_, histogram) | Within(histogram):
                return Topic(preset=self.preset, window_s=self.window_s, histogram=histogram)
            case _ if isinstance(part, WINDOWED):
                return self.windowed
            case _:
                return self.now

    def topics(self, way: Expression) -> frozenset[Topic]:
        """Where `way` is answered: its parts, and the pods behind them."""
        found = {self.topic(part) for part in leaves(way)}
        if is_of_pods(way):
            found.add(self.now)
            if any(isinstance(part, WINDOWED + OF_BUCKETS) for part in leaves(way)):
                found.add(self.windowed)
        return frozenset(found)


def questions(asks: Mapping[Kind, Mapping[str, int]], presets: Mapping[str, Preset]) -> tuple[Question, ...]:
    """The queries of a tick. `asks`: kind of subject -> how many of them there are in each namespace."""
    parts: dict[Topic, set[Expression | str]] = {}
    subjects: dict[Topic, dict[str, int]] = {}
    for kind, of in asks.items():
        for topic, wanted in _wanted(kind, presets[kind.preset]).items():
            parts.setdefault(topic, set()).update(wanted)
            known = subjects.setdefault(topic, {})
            for namespace, count in of.items():
                known[namespace] = known.get(namespace, 0) + count
    found = (
        _question(topic, parts[topic], namespaces, presets)
        for topic in parts
        for namespaces in _shares(subjects[topic])
    )
    return tuple(sorted((question for question in found if question is not None), key=lambda question: question.text))


def _shares(subjects: Mapping[str, int]) -> Iterator[tuple[str, ...]]:
    """Namespaces that are asked for in one query, in order: of `AT_ONCE` subjects or a few more."""
    share: list[str] = []
    count = 0
    for namespace in sorted(subjects):
        share.append(namespace)
        count += subjects[namespace]
        if count >= AT_ONCE:
            yield tuple(share)
            share, count = [], 0
    if share:
        yield tuple(share)


def _wanted(kind: Kind, preset: Preset) -> Mapping[Topic, set[Expression | str]]:
    wanted: dict[Topic, set[Expression | str]] = {}
    for name in kind.names:
        if name in CLUSTER:
            wanted.setdefault(kind.cluster, set()).add(name)
        for way in preset.ways(name):
            for topic in kind.topics(way):
                wanted.setdefault(topic, set())
            for part in leaves(way):
                if _exports(preset, part):
                    wanted[kind.topic(part)].add(part)
    return wanted


def _exports(preset: Preset, part: Expression) -> bool:
    """Parts under `OrZero` may be of quantities that the preset lacks."""
    match part:
        case Gateway() | Pods():
            return True
        case Sum(of) | Highest(of) | Growth(of) | Rate(of) | SumRate(of) | CountRate(of) | Quantile(_, of) | Within(of):
            return of in preset.quantities
        case _:
            return False


def _question(
    topic: Topic, wanted: Iterable[Expression | str], namespaces: tuple[str, ...], presets: Mapping[str, Preset]
) -> Question | None:
    scope = promql.Scope(namespaces=namespaces, window_s=topic.window_s or 0.0, max_age_s=topic.max_age_s or 0.0)
    scales: dict[str, float] = {}
    if topic.preset is None:
        texts = {name: text for name, text in promql.cluster(scope).items() if name in wanted}
    elif topic.histogram is not None:
        buckets = promql.Writer(presets[topic.preset], scope).buckets(topic.histogram)
        texts = {tag: text for tag, _, text in buckets}
        scales = {tag: scale for tag, scale, _ in buckets}
    else:
        writer = promql.Writer(presets[topic.preset], scope)
        texts = {tag(part): writer.part(part) for part in wanted if not isinstance(part, str)}
        if presets[topic.preset].up is not None:
            pods = {SEEN: writer.seen, OLDEST: writer.oldest} if topic.window_s is None else {YOUNG: writer.young}
            texts |= {name: write() for name, write in pods.items()}
    return Question(topic, namespaces, promql.together(texts), tuple(sorted(texts)), scales) if texts else None
