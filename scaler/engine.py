"""Around the evaluations: a tick of its own, readings collected once for all, answers from memory."""

import asyncio
import hashlib
import math
import time
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Final

from scaler.access import KEYS, Access, Role
from scaler.clock import Clock, Sleep
from scaler.evaluate import NO_PAST, Decision, Past, Step, evaluate
from scaler.forecast.headroom import NOTHING_LEARNT, Learnt
from scaler.obs import Observer, Whose
from scaler.policy.tokens_ahead import STEP_S
from scaler.recall import IN_A_ROW, Span, Wanted, beginning_s, relive, study
from scaler.signals.reading import Reading
from scaler.sources.base import Found, Place, Source, Subject
from scaler.trigger import Trigger, TriggerError

GATHERED_S: Final = 0.02
"""How long the first of several new triggers waits for the others, so that they are asked for together."""

CATCHES_UP: Final = 5
"""Times that a process which reads the past looks whether ticks have passed meanwhile: each time it takes less long."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What the server's settings allow; see settings.py for units and reasons."""

    tick_s: float
    delay_s: float
    first_answer_s: float
    forget_after_s: float
    max_objects: int
    backends: Mapping[str, Access]
    presets: frozenset[str]
    dependencies: frozenset[str]
    reads_cluster: bool

    @property
    def max_answer_age_s(self) -> float:
        """An answer older than this is none: ticks have failed three times over."""
        return 4 * self.tick_s + self.delay_s


class FullError(Exception):
    """No more objects can be registered."""


@dataclass(frozen=True, slots=True)
class Published:
    """The decision of the instant `at_s`, and what it was made from.

    `asked`: by reading, the query or command that yielded it. `learnt`: of a policy that learns, what it knows.
    """

    decision: Decision
    at_s: float
    readings: Mapping[str, Reading] = field(default_factory=dict)
    asked: Mapping[str, str] = field(default_factory=dict)
    learnt: Learnt = NOTHING_LEARNT


@dataclass(slots=True)
class Watched:
    """One trigger of one ScaledObject."""

    whose: Whose
    trigger: Trigger
    asked_s: float
    past: Past = NO_PAST
    published: Published | None = None
    news: asyncio.Event = field(default_factory=asyncio.Event)
    first: asyncio.Task[None] | None = None


Key = tuple[str, str, frozenset[tuple[str, str]]]


NOTHING: Final = Found(readings={})
Answer = asyncio.Task[Mapping[Subject, Found]]


class Engine:
    """Evaluates every registered trigger at each multiple of the tick, `delay_s` after it.

    `cluster`: knows what runs and what a ScaledObject scales; it is asked first, None where the Kubernetes API is not
    read. `sources`: asked at once, each with all subjects; the first that provides a name gives it.
    """

    def __init__(
        self,
        cluster: Source | None,
        sources: Sequence[Source],
        limits: Limits,
        observer: Observer,
        *,
        clock: Clock,
        sleep: Sleep = asyncio.sleep,
    ) -> None:
        self._cluster = cluster
        self._sources = sources
        self._limits = limits
        self._observer = observer
        self._clock = clock
        self._sleep = sleep
        self._watched: dict[Key, Watched] = {}
        self._first: set[asyncio.Task[None]] = set()
        self._new: list[Watched] = []
        self._gathering: asyncio.Task[None] | None = None
        self._unstudied: list[tuple[Watched, Subject]] = []
        self._studying: asyncio.Task[None] | None = None

    def admit(self, namespace: str, metadata: Mapping[str, str]) -> Trigger:
        """The trigger that `metadata` describe, if this server can serve it to `namespace`.

        Raises TriggerError with all faults.
        """
        faults: list[str] = []
        trigger = None
        try:
            trigger = Trigger.parse(metadata)
        except TriggerError as e:
            faults.extend(e.faults)
        limits = self._limits
        faults += self._access_faults(namespace, metadata, trigger)
        preset = metadata.get("preset") if trigger is None else trigger.preset
        if preset is not None and preset not in limits.presets:
            faults.append(
                f"trigger metadata 'preset': this server knows {', '.join(sorted(limits.presets))} (got {preset!r})"
            )
        if trigger is not None:
            faults += [
                f"trigger metadata 'dependsOn': this server knows {', '.join(sorted(limits.dependencies)) or 'none'} "
                f"(got {name!r})"
                for name in trigger.depends_on
                if name not in limits.dependencies
            ]
        if trigger is not None and trigger.workload is None and not limits.reads_cluster:
            faults.append("trigger metadata: this server does not read the Kubernetes API, so it needs workload")
        if trigger is not None and trigger.max_age_s < 2 * limits.tick_s:
            faults.append(
                f"trigger metadata 'maxAge': this server measures every {limits.tick_s:g} s, so want at least "
                f"{2 * limits.tick_s:g}s (got '{trigger.max_age_s:g}s')"
            )
        if faults or trigger is None:
            raise TriggerError(tuple(faults))
        return trigger

    def _access_faults(self, namespace: str, metadata: Mapping[str, str], trigger: Trigger | None) -> list[str]:
        """Backends that are not there for `namespace`, and names in them that it may not ask for."""
        faults = []
        for role, backend, name in _uses(metadata, trigger):
            known = {n: a for n, a in self._limits.backends.items() if role in a.roles and a.allows(namespace)}
            if backend not in known:
                listed = ", ".join(sorted(known)) or "none"
                faults.append(
                    f"trigger metadata {KEYS[role]!r}: for namespace {namespace!r} this server knows {listed} "
                    f"(got {backend!r})"
                )
            elif name is not None and (why := known[backend].refusal(role, name, namespace)) is not None:
                faults.append(why)
        return faults

    async def decide(self, namespace: str, name: str, metadata: Mapping[str, str]) -> Published:
        """The newest decision for a trigger; for one not seen before, its first evaluation.

        Raises TriggerError, or FullError where no more objects can be registered.
        """
        watched = self._watch(namespace, name, metadata)
        if watched.published is None:
            await self._first_answer(watched)
        return self._newest(watched)

    async def caught_up(self, namespace: str, name: str, metadata: Mapping[str, str]) -> Published:
        """As `decide`, after everything has been learnt that backends remember: for someone who can wait."""
        await self.decide(namespace, name, metadata)
        watched = self._watch(namespace, name, metadata)
        if watched.trigger.learns and watched.published is not None and self._studying is not None:
            await self._studying
            watched.published = None
            await self._evaluate([watched], self._instant())
        return self._newest(watched)

    async def news(self, namespace: str, name: str, metadata: Mapping[str, str]) -> None:
        """Returns once the trigger has been evaluated again. Raises as `decide`."""
        await self._watch(namespace, name, metadata).news.wait()

    async def run(self) -> None:
        """Ticks until it is cancelled. A tick that takes longer than its time leaves out those it covers."""
        while True:
            at_s = self._instant() + self._limits.tick_s
            await self._sleep(max(0.0, at_s + self._limits.delay_s - self._clock()))
            await self.tick(at_s)

    async def tick(self, at_s: float) -> None:
        """Evaluates everything as it was at `at_s`, and forgets what nobody has asked for."""
        for key, watched in list(self._watched.items()):
            if at_s - watched.asked_s > self._limits.forget_after_s:
                del self._watched[key]
                self._observer.forgotten(watched.whose)
        self._observer.watching(len(self._watched))
        await self._evaluate(list(self._watched.values()), at_s)

    async def close(self) -> None:
        under_way = [*self._first, *([] if self._studying is None else [self._studying])]
        for task in under_way:
            task.cancel()
        await asyncio.gather(*under_way, return_exceptions=True)
        for source in (*self._sources, *([] if self._cluster is None else [self._cluster])):
            await source.close()

    def _instant(self) -> float:
        """The newest multiple of the tick whose measurements have had time to arrive."""
        tick_s = self._limits.tick_s
        return math.floor((self._clock() - self._limits.delay_s) / tick_s) * tick_s

    def _watch(self, namespace: str, name: str, metadata: Mapping[str, str]) -> Watched:
        key = (namespace, name, frozenset(metadata.items()))
        watched = self._watched.get(key)
        if watched is None:
            trigger = self.admit(namespace, metadata)
            if len(self._watched) >= self._limits.max_objects:
                raise FullError(f"this server evaluates {self._limits.max_objects} triggers already (max_objects)")
            text = "\0".join(f"{key}={value}" for key, value in sorted(metadata.items()))
            whose = Whose(
                namespace=namespace, scaled_object=name, trigger=hashlib.sha256(text.encode()).hexdigest()[:8]
            )
            watched = self._watched[key] = Watched(whose, trigger, self._clock())
        watched.asked_s = self._clock()
        return watched

    async def _first_answer(self, watched: Watched) -> None:
        """Evaluates at once, so that a new trigger need not wait for a tick; goes on by itself when that is late."""
        if watched.first is None or watched.first.done():
            watched.first = self._gathered(watched)
        await asyncio.wait({watched.first}, timeout=self._limits.first_answer_s)

    def _gathered(self, watched: Watched) -> asyncio.Task[None]:
        """The evaluation of all that are new at about the same time: after a restart these are thousands."""
        self._new.append(watched)
        if self._gathering is None:
            self._gathering = asyncio.create_task(self._evaluate_new())
            self._first.add(self._gathering)
            self._gathering.add_done_callback(self._first.discard)
        return self._gathering

    async def _evaluate_new(self) -> None:
        await asyncio.sleep(GATHERED_S)
        new, self._new, self._gathering = self._new, [], None
        await self._evaluate(new, self._instant())

    def _newest(self, watched: Watched) -> Published:
        published, now_s = watched.published, self._clock()
        if published is None:
            why = f"the first evaluation has not ended within {self._limits.first_answer_s:g} s"
        elif now_s - published.at_s > self._limits.max_answer_age_s:
            why = f"the last evaluation is {now_s - published.at_s:.0f} s old"
        else:
            return published
        active = watched.past.active
        return Published(Decision(replicas=None, active=active, steps=(Step("no-answer", None, None, why),)), now_s)

    async def _evaluate(self, watched: Sequence[Watched], at_s: float) -> None:
        """Asks each source once for all, and decides for each as soon as its own sources have answered."""
        begun_s = time.perf_counter()
        located = await self._located(watched, at_s)
        asks: list[dict[Subject, frozenset[str]]] = [{} for _ in self._sources]
        groups: dict[frozenset[int], list[tuple[Watched, Subject]]] = {}
        for one, (subject, found) in zip(watched, located, strict=True):
            left = one.trigger.wanted() - found.readings.keys()
            uses = set()
            for number, source in enumerate(self._sources):
                if names := left & source.provides(subject):
                    asks[number][subject] = asks[number].get(subject, frozenset()) | names
                    left -= names
                    uses.add(number)
            groups.setdefault(frozenset(uses), []).append((one, subject))
        answers = [
            asyncio.create_task(source.read(ask, at_s)) if ask else None
            for source, ask in zip(self._sources, asks, strict=True)
        ]
        await self._remember([(one, subject) for group in groups.values() for one, subject in group], at_s)
        of_cluster = dict(located)
        await asyncio.gather(
            *(
                self._conclude(group, of_cluster, [a for n in sorted(uses) if (a := answers[n])], at_s, begun_s)
                for uses, group in groups.items()
            )
        )
        if self._unstudied and (self._studying is None or self._studying.done()):
            self._studying = asyncio.create_task(self._study())

    async def _remember(self, watched: Sequence[tuple[Watched, Subject]], at_s: float) -> None:
        """Fills the windows of those that are new with what was decided, had this process run already.

        Only by sources that know the past; without them a new process holds until it has seen whole windows itself.
        """
        new = [(one, subject) for one, subject in watched if one.published is None and one.past == NO_PAST]
        if not new:
            return
        self._unstudied += [(one, subject) for one, subject in new if one.trigger.learns]
        wanted = [(one.trigger, subject) for one, subject in new]
        tick_s = self._limits.tick_s
        span = Span(at_s - self._window_s(wanted), at_s - tick_s, tick_s)
        pasts = await relive(self._sources, wanted, [NO_PAST] * len(new), span)
        for (one, _), past in zip(new, pasts, strict=True):
            one.past = past

    def _window_s(self, wanted: Wanted) -> float:
        """How far back the longest window reaches, in whole ticks and one more."""
        tick_s = self._limits.tick_s
        longest_s = max(max(trigger.windows.up_s, trigger.windows.down_s) for trigger, _ in wanted)
        return (math.ceil(longest_s / tick_s) + 1) * tick_s

    async def _study(self) -> None:
        """Teaches those that learn what backends remember of the last days; meanwhile they answer, and never lower."""
        while self._unstudied:
            pupils, self._unstudied = self._unstudied, []
            try:
                await self._taught(pupils)
            except Exception as e:  # noqa: BLE001  # a defect of ours: they go on with what they see themselves
                for one, _ in pupils:
                    self._observer.failed(one.whose, e)

    async def _taught(self, pupils: Sequence[tuple[Watched, Subject]]) -> None:
        """Gives them the past of a process that was there, in place of the few ticks that they have seen themselves."""
        wanted = [(one.trigger, subject) for one, subject in pupils]
        pasts: Sequence[Past] = [NO_PAST] * len(pupils)
        learnt: Sequence[Learnt] = [NOTHING_LEARNT] * len(pupils)
        at_s = self._instant()
        from_s = min(beginning_s(at_s, trigger) for trigger, _ in wanted)
        for _ in range(CATCHES_UP):
            window_s = self._window_s(wanted)
            to_s = math.ceil((at_s - window_s) / STEP_S) * STEP_S - STEP_S  # the last minute before the windows
            if from_s <= to_s:
                learnt = await study(self._sources, wanted, learnt, from_s, to_s)
                from_s = to_s + STEP_S
            span = Span(at_s - window_s, at_s, self._limits.tick_s)
            pasts = await relive(self._sources, wanted, [replace(NO_PAST, learnt=found) for found in learnt], span)
            if self._instant() == at_s:
                break
            at_s = self._instant()
        for (one, _), past in zip(pupils, pasts, strict=True):
            if past != NO_PAST:
                one.past = past

    async def _located(self, watched: Collection[Watched], at_s: float) -> Sequence[tuple[Subject, Found]]:
        """The subject of each, with the name of its workload, and what the cluster says of it."""
        subjects = [_subject(one) for one in watched]
        if self._cluster is None:
            return [(subject, NOTHING) for subject in subjects]
        asks: dict[Subject, frozenset[str]] = {}
        for one, subject in zip(watched, subjects, strict=True):
            names = one.trigger.wanted() & self._cluster.provides(subject)
            asks[subject] = asks.get(subject, frozenset()) | names
        try:
            answer = await self._cluster.read(asks, at_s)
        except Exception as e:  # noqa: BLE001  # a defect of ours: the other sources still raise what has to rise
            for one in watched:
                self._observer.failed(one.whose, e)
            answer = {}
        found = [answer.get(subject, NOTHING) for subject in subjects]
        return [
            (replace(subject, workload=subject.workload or f.workload), f)
            for subject, f in zip(subjects, found, strict=True)
        ]

    async def _conclude(
        self,
        group: Sequence[tuple[Watched, Subject]],
        of_cluster: Mapping[Subject, Found],
        answers: Sequence[Answer],
        at_s: float,
        begun_s: float,
    ) -> None:
        """Decides for those who want the same sources, once these have answered."""
        ends = await asyncio.gather(*answers, return_exceptions=True)
        found = [end for end in ends if not isinstance(end, BaseException)]
        defects = [end for end in ends if isinstance(end, BaseException)]
        for n, (watched, subject) in enumerate(group):
            if n % IN_A_ROW == IN_A_ROW - 1:
                await asyncio.sleep(0)
            if defects:
                self._observer.failed(watched.whose, defects[0])
            elif watched.published is None or watched.published.at_s < at_s:
                told = [of_cluster[subject], *(answer[subject] for answer in found if subject in answer)]
                self._publish(watched, told, at_s, begun_s)

    def _publish(self, watched: Watched, told: Sequence[Found], at_s: float, begun_s: float) -> None:
        readings = {name: reading for one in told for name, reading in one.readings.items()}
        asked = {name: query for one in told for name, query in one.asked.items()}
        try:
            decision, watched.past = evaluate(watched.trigger, readings, at_s, watched.past)
        except Exception as e:  # noqa: BLE001  # a defect of ours in one decision; the others go on
            self._observer.failed(watched.whose, e)
            return
        watched.published = Published(decision, at_s, readings, asked, watched.past.learnt)
        news, watched.news = watched.news, asyncio.Event()
        news.set()
        self._observer.decided(watched.whose, decision, readings, at_s=at_s, took_s=time.perf_counter() - begun_s)


def _subject(watched: Watched) -> Subject:
    trigger = watched.trigger
    backlog = sessions = None
    if trigger.backlog_backend is not None and trigger.backlog_name is not None:
        backlog = Place(backend=trigger.backlog_backend, name=trigger.backlog_name, group=trigger.backlog_group)
    if trigger.sessions_backend is not None and trigger.sessions_key is not None:
        sessions = Place(backend=trigger.sessions_backend, name=trigger.sessions_key)
    return Subject(
        namespace=watched.whose.namespace,
        scaled_object=watched.whose.scaled_object,
        workload=trigger.workload,
        backend=trigger.backend,
        preset=trigger.preset,
        window_s=trigger.window_s,
        max_age_s=trigger.max_age_s,
        slo_s=trigger.slo_s,
        backlog=backlog,
        sessions=sessions,
        depends_on=trigger.depends_on,
    )


def _uses(metadata: Mapping[str, str], trigger: Trigger | None) -> list[tuple[Role, str, str | None]]:
    """Which backends a trigger uses in which role, and what it names there.

    Of metadata that are no trigger: the backends that stand in their text.
    """
    if trigger is None:
        given = [(role, metadata[key]) for role, key in KEYS.items() if key in metadata]
        return [(role, backend, None) for role, backend in given]
    uses: list[tuple[Role, str, str | None]] = []
    if trigger.asks_engine() or "backend" in metadata:
        uses.append(("metrics", trigger.backend, None))
    if trigger.backlog_backend is not None:
        uses.append(("backlog", trigger.backlog_backend, trigger.backlog_name))
    if trigger.sessions_backend is not None:
        uses.append(("sessions", trigger.sessions_backend, trigger.sessions_key))
    return uses
