"""Around the evaluations: a tick of its own, readings collected once for all, answers from memory."""

import asyncio
import hashlib
import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from scaler.clock import Clock, Sleep
from scaler.evaluate import NO_PAST, Decision, Past, Step, evaluate
from scaler.obs import Observer, Whose
from scaler.signals.reading import Missing, Reading
from scaler.sources.base import Found, Source, Subject
from scaler.trigger import Trigger, TriggerError

AT_ONCE: Final = 64
"""Evaluations of a tick at a time: each has its sources' time-outs from its turn on, however many there are."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What the server's settings allow; see settings.py for units and reasons."""

    tick_s: float
    delay_s: float
    source_timeout_s: float
    first_answer_s: float
    forget_after_s: float
    max_objects: int
    backends: frozenset[str]
    presets: frozenset[str]
    reads_cluster: bool

    @property
    def max_answer_age_s(self) -> float:
        """An answer older than this is none: ticks have failed three times over."""
        return 4 * self.tick_s + self.delay_s


class FullError(Exception):
    """No more objects can be registered."""


@dataclass(frozen=True, slots=True)
class Published:
    """The decision of the instant `at_s`."""

    decision: Decision
    at_s: float


@dataclass(slots=True)
class Watched:
    """One trigger of one ScaledObject."""

    whose: Whose
    trigger: Trigger
    asked_s: float
    past: Past = NO_PAST
    published: Published | None = None
    news: asyncio.Event = field(default_factory=asyncio.Event)
    busy: asyncio.Lock = field(default_factory=asyncio.Lock)


Key = tuple[str, str, frozenset[tuple[str, str]]]


class Engine:
    """Evaluates every registered trigger at each multiple of the tick, `delay_s` after it.

    `sources`: names that each provides, in the order in which they are asked; the first that provides a name gives it.
    """

    def __init__(
        self,
        sources: Sequence[tuple[frozenset[str], Source]],
        limits: Limits,
        observer: Observer,
        *,
        clock: Clock,
        sleep: Sleep = asyncio.sleep,
    ) -> None:
        self._sources = sources
        self._limits = limits
        self._observer = observer
        self._clock = clock
        self._sleep = sleep
        self._watched: dict[Key, Watched] = {}
        self._first: set[asyncio.Task[None]] = set()
        self._turns = asyncio.Semaphore(AT_ONCE)

    def admit(self, metadata: Mapping[str, str]) -> Trigger:
        """The trigger that `metadata` describe, if this server can serve it. Raises TriggerError with all faults."""
        faults: list[str] = []
        trigger = None
        try:
            trigger = Trigger.parse(metadata)
        except TriggerError as e:
            faults.extend(e.faults)
        limits = self._limits
        for key, allowed in (("backend", limits.backends), ("preset", limits.presets)):
            name = metadata.get(key) if trigger is None else getattr(trigger, key)
            if name is not None and name not in allowed:
                faults.append(
                    f"trigger metadata {key!r}: this server knows {', '.join(sorted(allowed))} (got {name!r})"
                )
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

    async def decide(self, namespace: str, name: str, metadata: Mapping[str, str]) -> Published:
        """The newest decision for a trigger; for one not seen before, its first evaluation.

        Raises TriggerError, or FullError where no more objects can be registered.
        """
        watched = self._watch(namespace, name, metadata)
        if watched.published is None:
            await self._first_answer(watched)
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
        watched_now = list(self._watched.values())
        ends = await asyncio.gather(*(self._evaluate(w, at_s) for w in watched_now), return_exceptions=True)
        for watched, end in zip(watched_now, ends, strict=True):
            if isinstance(end, Exception):
                self._observer.failed(watched.whose, end)

    async def close(self) -> None:
        for task in self._first:
            task.cancel()
        await asyncio.gather(*self._first, return_exceptions=True)
        for _, source in self._sources:
            await source.close()

    def _instant(self) -> float:
        """The newest multiple of the tick whose measurements have had time to arrive."""
        tick_s = self._limits.tick_s
        return math.floor((self._clock() - self._limits.delay_s) / tick_s) * tick_s

    def _watch(self, namespace: str, name: str, metadata: Mapping[str, str]) -> Watched:
        key = (namespace, name, frozenset(metadata.items()))
        watched = self._watched.get(key)
        if watched is None:
            trigger = self.admit(metadata)
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

        async def evaluate_now() -> None:
            async with watched.busy:
                if watched.published is None:
                    await self._evaluate_alone(watched, self._instant())

        task = asyncio.create_task(evaluate_now())
        self._first.add(task)
        task.add_done_callback(self._first.discard)
        await asyncio.wait({task}, timeout=self._limits.first_answer_s)
        if task.done() and not task.cancelled() and (error := task.exception()) is not None:
            self._observer.failed(watched.whose, error)

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

    async def _evaluate(self, watched: Watched, at_s: float) -> None:
        async with self._turns, watched.busy:
            if watched.published is None or watched.published.at_s < at_s:
                await self._evaluate_alone(watched, at_s)

    async def _evaluate_alone(self, watched: Watched, at_s: float) -> None:
        begun_s = time.perf_counter()
        readings = await self._collect(watched, at_s)
        decision, watched.past = evaluate(watched.trigger, readings, at_s, watched.past)
        watched.published = Published(decision, at_s)
        news, watched.news = watched.news, asyncio.Event()
        news.set()
        self._observer.decided(watched.whose, decision, readings, at_s=at_s, took_s=time.perf_counter() - begun_s)

    async def _collect(self, watched: Watched, at_s: float) -> Mapping[str, Reading]:
        """Every wanted reading, from the first source that provides it.

        Where the trigger does not name the workload, the first source that knows the name tells those after it.
        """
        trigger, workload = watched.trigger, watched.trigger.workload
        wanted = trigger.wanted()
        readings: dict[str, Reading] = {}
        for provides, source in self._sources:
            names = (wanted & provides) - readings.keys()
            subject = Subject(
                namespace=watched.whose.namespace,
                scaled_object=watched.whose.scaled_object,
                workload=workload,
                backend=trigger.backend,
                preset=trigger.preset,
                window_s=trigger.window_s,
                max_age_s=trigger.max_age_s,
            )
            found = await self._read(source, names, subject, at_s)
            readings.update(found.readings)
            workload = workload or found.workload
        return readings

    async def _read(self, source: Source, names: frozenset[str], subject: Subject, at_s: float) -> Found:
        try:
            async with asyncio.timeout(self._limits.source_timeout_s):
                return await source.read(names, subject, at_s)
        except TimeoutError:
            why = Missing(f"not read within {self._limits.source_timeout_s:g} s")
            return Found(readings=dict.fromkeys(names, why))
