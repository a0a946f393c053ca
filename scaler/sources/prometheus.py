"""Readings from one Prometheus, or what speaks its API: a few queries a tick, however many subjects ask."""

import asyncio
from collections.abc import Awaitable, Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Final, TypeVar

import structlog

from scaler.backends import PrometheusBackend
from scaler.signals.reading import Missing
from scaler.signals.recipes import RECIPES
from scaler.sources import Wiring, readable
from scaler.sources.base import Asks, Found, Source, SourceError, Subject
from scaler.sources.batch import CLUSTER, Kind, Question, Topic, questions
from scaler.sources.presets import Preset
from scaler.sources.prometheus_api import Answer, NotAnsweredError, Now, Past, PrometheusApi
from scaler.sources.promql import Scope, cluster
from scaler.sources.told import Outcome, Reader, Row, told

log: structlog.typing.FilteringBoundLogger = structlog.get_logger()

S = TypeVar("S")

AT_A_STRETCH: Final = 200
"""Subjects between two breaths of the event loop, which has calls to answer meanwhile."""
POINTS: Final = 20_000
"""Subjects times instants of one range query, so that its answer stays small."""
NAMELESS: Final = Missing("the workload's name is not known")


@dataclass(frozen=True, slots=True)
class Silence:
    """A question without an answer."""

    why: str


def connect(name: str, backend: PrometheusBackend, wiring: Wiring) -> Source:
    return PrometheusSource(name, backend, wiring.presets, timeout_s=wiring.timeout_s, at_once=wiring.at_once)


class PrometheusSource:
    """One backend, which triggers call `name`. `timeout_s`: for one query; `at_once`: queries under way, at most."""

    def __init__(
        self,
        name: str,
        backend: PrometheusBackend,
        presets: Mapping[str, Preset],
        *,
        timeout_s: float = 5.0,
        at_once: int = 8,
    ) -> None:
        self._name = name
        self._presets = presets
        self._api = PrometheusApi(backend, timeout_s=timeout_s)
        self._turns = asyncio.Semaphore(at_once)

    def provides(self, subject: Subject) -> frozenset[str]:
        if subject.backend != self._name:
            return frozenset()
        preset = self._presets[subject.preset]
        return CLUSTER | {name for name in RECIPES if preset.ways(name)}

    async def read(self, asks: Asks, at_s: float) -> Mapping[Subject, Found]:
        """Everything as of `at_s`. Raises SourceError where no query was answered."""
        kinds = _kinds(asks)
        asked = questions(kinds, self._presets)
        answers = await self._answers(asked, lambda question: self._api.instant(question.text, at_s))
        outcomes = _outcomes((question, _now(answer)) for question, answer in zip(asked, answers, strict=True))
        return await self._found(asks, kinds, outcomes, at_s)

    async def history(
        self, asks: Asks, from_s: float, to_s: float, step_s: float
    ) -> Sequence[tuple[float, Mapping[Subject, Found]]]:
        """As `read`, for each instant from `from_s` to `to_s`, by range queries: what a new process fills windows with.

        Raises SourceError where no query was answered.
        """
        instants = [from_s + n * step_s for n in range(int((to_s - from_s) / step_s + 1e-9) + 1)]
        at_once = max(1, POINTS // max(1, len(asks)))
        past: list[tuple[float, Mapping[Subject, Found]]] = []
        for n in range(0, len(instants), at_once):
            past += await self._stretch(asks, instants[n : n + at_once], step_s)
        return past

    async def close(self) -> None:
        await self._api.close()

    async def _stretch(
        self, asks: Asks, instants: Sequence[float], step_s: float
    ) -> Sequence[tuple[float, Mapping[Subject, Found]]]:
        kinds = _kinds(asks)
        asked = questions(kinds, self._presets)
        answers = await self._answers(
            asked, lambda question: self._api.over(question.text, instants[0], instants[-1], step_s)
        )
        moments = [_moments(answer) for answer in answers]
        past = []
        for at_s in instants:
            outcomes = _outcomes((question, then(at_s)) for question, then in zip(asked, moments, strict=True))
            past.append((at_s, await self._found(asks, kinds, outcomes, at_s)))
        return past

    async def _answers(
        self, asked: Sequence[Question], ask: Callable[[Question], Awaitable[Answer[S]]]
    ) -> Sequence[Answer[S] | Silence]:
        async def in_turn(question: Question) -> Answer[S] | Silence:
            async with self._turns:  # the time-out is for the answer, not for the wait in our own line
                try:
                    return await ask(question)
                except NotAnsweredError as e:
                    return Silence(str(e))

        answers = await asyncio.gather(*(in_turn(question) for question in asked))
        if answers and all(isinstance(answer, Silence) for answer in answers):
            raise SourceError(next(answer.why for answer in answers if isinstance(answer, Silence)))
        return answers

    async def _found(
        self, asks: Asks, kinds: Mapping[Kind, Mapping[str, int]], outcomes: Mapping[Topic, Outcome], at_s: float
    ) -> Mapping[Subject, Found]:
        texts = {kind: self._texts(kind, namespaces) for kind, namespaces in kinds.items()}
        readers = {kind: Reader(self._presets[kind.preset], kind, outcomes, at_s) for kind in kinds}
        found: dict[Subject, Found] = {}
        for n, (subject, names) in enumerate(asks.items()):
            if n % AT_A_STRETCH == AT_A_STRETCH - 1:
                await asyncio.sleep(0)
            if subject.workload is None:
                found[subject] = Found(readings=dict.fromkeys(names, NAMELESS))
                continue
            kind, whose = Kind.of(subject, names), (subject.namespace, subject.workload)
            reader = readers[kind]
            readings = {name: reader.reading(name, whose, subject.slo_s) for name in names}
            found[subject] = Found(readings=readings, asked=texts[kind])
        return found

    def _texts(self, kind: Kind, namespaces: Collection[str]) -> Mapping[str, str]:
        """By reading, a query that yields it for all subjects of a kind."""
        scope = Scope(namespaces=tuple(sorted(namespaces)), window_s=kind.window_s, max_age_s=kind.max_age_s)
        preset = self._presets[kind.preset]
        texts = {name: cluster(scope)[name] for name in kind.names & CLUSTER}
        for name in sorted(kind.names - CLUSTER):
            for way in preset.ways(name)[:1]:
                texts[name] = readable.text(preset, way, scope)
        return texts


def _kinds(asks: Asks) -> Mapping[Kind, Mapping[str, int]]:
    """How many subjects of each kind there are in each namespace."""
    counts: dict[Kind, dict[str, int]] = {}
    for subject, names in asks.items():
        if subject.workload is not None:
            of = counts.setdefault(Kind.of(subject, names), {})
            of[subject.namespace] = of.get(subject.namespace, 0) + 1
    return counts


@dataclass(frozen=True, slots=True)
class _Rows:
    """The series of one instant."""

    rows: Iterable[Row]
    warnings: tuple[str, ...]


def _outcomes(said: Iterable[tuple[Question, _Rows | Silence]]) -> Mapping[Topic, Outcome]:
    """By topic, of all the namespaces that were asked for."""
    outcomes: dict[Topic, Outcome] = {}
    for question, rows in said:
        outcome = outcomes.setdefault(question.topic, Outcome())
        if isinstance(rows, Silence):
            outcome.silent |= dict.fromkeys(question.namespaces, rows.why)
            continue
        if rows.warnings:
            warning = f"the backend warns: {'; '.join(rows.warnings)}"[:500]
            outcome.warned |= dict.fromkeys(question.namespaces, warning)
        try:
            outcome.by_workload |= told(rows.rows, question.scales)
        except ValueError as e:
            log.debug("prometheus.garbled", query=question.text[:2000], why=str(e)[:500])
            outcome.silent |= dict.fromkeys(question.namespaces, "the answer has values that are no numbers")
    return outcomes


def _now(answer: Answer[Now] | Silence) -> _Rows | Silence:
    if isinstance(answer, Silence):
        return answer
    return _Rows(
        chain(
            ((series.metric, series.value.value) for series in answer.series if series.value is not None),
            ((series.metric, series.histogram.histogram) for series in answer.series if series.histogram is not None),
        ),
        answer.warnings,
    )


def _moments(answer: Answer[Past] | Silence) -> Callable[[float], _Rows | Silence]:
    """What a range query says of each of its instants; Prometheus rounds those to milliseconds."""
    if isinstance(answer, Silence):
        return lambda _: answer
    rows: dict[int, list[Row]] = {}
    for series in answer.series:
        for point in series.values:
            rows.setdefault(round(point.at_s * 1000), []).append((series.metric, point.value))
        for native in series.histograms:
            rows.setdefault(round(native.at_s * 1000), []).append((series.metric, native.histogram))
    return lambda at_s: _Rows(rows.get(round(at_s * 1000), ()), answer.warnings)
