"""KEDA's operator and the HPA around one scale: what each asks, sees, remembers and wants; the clock is the caller's.

`sim run` and `sim replay` both turn this one, so that a replay of a live run is a test of what rehearsals run on.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from sim.cluster import hpa, keda
from sim.cluster.hpa import Failed, Scale
from sim.cluster.keda import Answer, Record, Unreachable
from sim.cluster.scaledobject import COMPOSITE, ScaledObject
from sim.cluster.scaler import METRIC, TARGET

Ask = Callable[[int], Answer | Failed]  #: one trigger's GetMetrics and IsActive, now
Answers = Mapping[int, Answer | Failed]  #: by trigger


@dataclass(frozen=True, slots=True)
class Polled:
    """One turn of KEDA's loop. `answers`: of those triggers that it asked itself."""

    records: Sequence[Record]
    request: keda.Request
    answers: Answers


@dataclass(frozen=True, slots=True)
class Synced:
    """One turn of the HPA. `usage_milli`: what it read, by metric; empty where it needed none."""

    usage_milli: Mapping[str, int | Failed]
    verdict: hpa.Verdict
    answers: Answers


@dataclass(slots=True)
class Autoscaler:
    """`hpa_active`: the HPA's condition ScalingActive."""

    scaled_object: ScaledObject
    created_s: float = 0.0
    spec: hpa.Spec = field(init=False)
    queries: Sequence[hpa.Target] = field(init=False)  #: by trigger
    hpa_past: hpa.Past = hpa.NO_PAST
    hpa_active: bool = False
    keda_past: keda.Past = field(init=False)
    observed: dict[int, Record] = field(default_factory=dict)  #: what the HPA's calls saw
    cached: dict[int, Record] = field(default_factory=dict)  #: what the poll saw, for useCachedMetrics

    def __post_init__(self) -> None:
        self.spec = self.scaled_object.hpa(lambda _: (METRIC, TARGET))
        self.queries = self.scaled_object.queries(lambda _: (METRIC, TARGET))
        self.keda_past = keda.Past(created_s=self.created_s)

    def begin(self, scale: Scale) -> keda.Request:
        """The ScaledObject is new."""
        return keda.pause(self.scaled_object, scale) if self.scaled_object.metadata.paused else keda.NOTHING

    def push(self, scale: Scale, now_s: float) -> keda.Request:
        """A `true` on StreamIsActive."""
        if self.scaled_object.metadata.paused:
            return keda.NOTHING
        request, self.keda_past = keda.push(self.scaled_object, scale, self.keda_past, now_s)
        return request

    def poll(self, ask: Ask, scale: Scale, now_s: float) -> Polled:
        if self.scaled_object.metadata.paused:
            return Polled((), keda.NOTHING, {})
        answers: dict[int, Answer | Failed] = {}
        records = list[Record]()
        borrow = self.scaled_object.uses_hpa_observations() and self.hpa_active
        for number in range(len(self.scaled_object.spec.triggers)):
            seen = self.observed.get(number) if borrow else None
            if seen is None:
                answers[number] = ask(number)
                seen = self._observe(number, answers[number], scale)
            records.append(seen)
        self.cached = dict(enumerate(records))
        request, self.keda_past = keda.poll(self.scaled_object, records, scale, self.keda_past, now_s)
        return Polled(records, request, answers)

    def sync(self, ask: Ask, scale: Scale, now_s: float) -> Synced:
        if self.scaled_object.metadata.paused:
            return Synced({}, hpa.Verdict(scale.spec, "there is no HPA: the ScaledObject is paused"), {})
        usage: dict[str, int | Failed] = {}
        answers: dict[int, Answer | Failed] = {}
        if self.spec.min_replicas <= scale.spec <= self.spec.max_replicas:
            usage = self._usage(ask, scale, answers)
            self.hpa_active = any(isinstance(u, int) for u in usage.values())
        elif scale.spec == 0:
            self.hpa_active = False
        verdict, self.hpa_past = hpa.sync(self.spec, scale, usage, self.hpa_past, now_s)
        return Synced(usage, verdict, answers)

    def _usage(self, ask: Ask, scale: Scale, answers: dict[int, Answer | Failed]) -> dict[str, int | Failed]:
        for number, trigger in enumerate(self.scaled_object.spec.triggers):
            cached = self.cached.get(number) if trigger.use_cached_metrics else None
            if cached is None:
                answers[number] = ask(number)
            record = self._observe(number, answers[number] if cached is None else _again(cached), scale)
            self.observed[number] = record
        if self.scaled_object.spec.advanced.scaling_modifiers is not None:
            records = [record for _, record in sorted(self.observed.items())]
            return {COMPOSITE: keda.composite(self.scaled_object, records)}
        return {
            target.name: Failed(record.error) if record.value_milli is None else record.value_milli
            for target, (_, record) in zip(self.queries, sorted(self.observed.items()), strict=True)
        }

    def _observe(self, number: int, answer: Answer | Failed, scale: Scale) -> Record:
        """One query; a cached record counts for fallback as a fresh one does."""
        if isinstance(answer, Unreachable):
            return Record(None, active=False, error=answer.why)
        fallback = keda.fallback_of(self.scaled_object)
        record, self.keda_past = keda.observe(fallback, self.queries[number], answer, scale, self.keda_past)
        return record


def _again(record: Record) -> Answer | Failed:
    return Failed(record.error) if record.value_milli is None else Answer(record.value_milli, record.active)
