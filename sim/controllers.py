"""KEDA's poll and the HPA's sync around recorded decisions: do the stand-ins move the scale as the real ones did?"""

from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from scaler.signals.reading import ReadingName, Sample
from sim.cluster import hpa, keda
from sim.cluster.hpa import Failed, Scale
from sim.cluster.scaledobject import ScaledObject, milli
from sim.cluster.scaler import METRIC, TARGET
from sim.recording import Evaluation, Recording, changes

Series = Sequence[tuple[float, int]]  #: (instant, replicas), changes only
Decided = Sequence[tuple[Evaluation, int]]  #: with the number of the trigger


@dataclass(frozen=True, slots=True, kw_only=True)
class Pace:
    """Of the recorded cluster: the HPA's sync period, the scaler's tick and how long after it a decision is there."""

    sync_period_s: float = 15.0
    tick_s: float = 15.0
    delay_s: float = 1.0


@dataclass(frozen=True, slots=True)
class Controllers:
    """`late_s`: the largest distance in time of a change, None where values differ. `allowed_s`: what is let pass."""

    recorded: Series
    today: Series
    same_values: bool
    late_s: float | None
    allowed_s: float

    @property
    def agree(self) -> bool:
        return self.same_values and self.late_s is not None and self.late_s <= self.allowed_s


def controllers(recording: Recording, decided: Decided, scaled_object: ScaledObject, pace: Pace) -> Controllers | None:
    """None where there is nothing to hold them against: no replicas were read."""
    seen = recording.scale or [
        (e.at_s, int(r.value)) for e, _ in decided if isinstance(r := e.readings.get(ReadingName.REPLICAS), Sample)
    ]
    recorded = changes(seen)
    if not recorded:
        return None
    today = _Loops(scaled_object, pace, recorded[0], deque(decided)).run(recording.phases)
    if recording.scale:
        late_s = _changes_apart_s(recorded, today)
        return Controllers(recorded, today, late_s is not None, late_s, pace.sync_period_s)
    late_s = _ticks_apart_s(seen, today)
    return Controllers(recorded, today, late_s is not None, late_s, pace.sync_period_s + pace.tick_s)


def _changes_apart_s(recorded: Series, today: Series) -> float | None:
    """Every change was recorded: the same values in the same order, or None."""
    if [v for _, v in recorded] != [v for _, v in today]:
        return None
    return max(abs(a - b) for (a, _), (b, _) in zip(recorded, today, strict=True))


def _ticks_apart_s(seen: Series, today: Series) -> float | None:
    """The scaler's ticks alone saw the scale, and may have missed what did not last.

    Each value that they saw must be one of today's, at most so far away in time; None where it never is.
    """
    ends = [at_s for at_s, _ in today[1:]] + [float("inf")]
    spans = [(at_s, end_s, value) for (at_s, value), end_s in zip(today, ends, strict=True)]
    worst_s = 0.0
    for at_s, value in seen:
        apart_s = [max(from_s - at_s, at_s - to_s, 0.0) for from_s, to_s, v in spans if v == value]
        if not apart_s:
            return None
        worst_s = max(worst_s, min(apart_s))
    return worst_s


@dataclass(slots=True)
class _Loops:
    """Polls and syncs in the order of time, each answered with the newest decision; ready pods as recorded."""

    scaled_object: ScaledObject
    pace: Pace
    start: tuple[float, int]
    left: "deque[tuple[Evaluation, int]]"
    published: dict[int, Evaluation] = field(default_factory=dict)
    keda_past: keda.Past = field(init=False)
    hpa_past: hpa.Past = hpa.NO_PAST

    def __post_init__(self) -> None:
        self.keda_past = keda.Past(created_s=self.start[0])

    def run(self, phases: Mapping[str, float]) -> Series:
        """Without phases both begin with the first decision."""
        begin_s, end_s = self.left[0][0].at_s, self.left[-1][0].at_s + self.pace.tick_s
        poll_s, sync_s = (phases.get(key, begin_s + self.pace.delay_s) for key in ("keda_s", "hpa_s"))
        found, replicas = [self.start], self.start[1]
        while min(poll_s, sync_s) <= end_s:
            now_s, polls = min(poll_s, sync_s), poll_s <= sync_s
            wanted = self._poll(now_s, replicas) if polls else self._sync(now_s, replicas)
            if wanted is not None and wanted != replicas:
                replicas = wanted
                found.append((now_s, replicas))
            if polls:
                poll_s += self.scaled_object.spec.polling_interval
            else:
                sync_s += self.pace.sync_period_s
        return found

    def _poll(self, now_s: float, replicas: int) -> int | None:
        scale, records = self._seen(now_s, replicas)
        request, self.keda_past = keda.poll(self.scaled_object, records, scale, self.keda_past, now_s)
        return request.replicas

    def _sync(self, now_s: float, replicas: int) -> int:
        scale, records = self._seen(now_s, replicas)
        spec = self.scaled_object.hpa(lambda _: (METRIC, TARGET))
        usage = {
            target.name: record.value_milli if record.value_milli is not None else Failed(record.error)
            for target, record in zip(spec.targets, records, strict=True)
        }
        verdict, self.hpa_past = hpa.sync(spec, scale, usage, self.hpa_past, now_s)
        return verdict.replicas

    def _seen(self, now_s: float, replicas: int) -> tuple[Scale, list[keda.Record]]:
        while self.left and self.left[0][0].at_s + self.pace.delay_s <= now_s:
            evaluation, number = self.left.popleft()
            self.published[number] = evaluation
        scale, records = Scale(spec=replicas, status=replicas, ready=self._ready(replicas)), list[keda.Record]()
        spec = self.scaled_object.spec
        for number, target in enumerate(self.scaled_object.hpa(lambda _: (METRIC, TARGET)).targets):
            answer = _answer(self.published.get(number))
            record, self.keda_past = keda.observe(spec.fallback, target, answer, scale, self.keda_past)
            records.append(record)
        return scale, records

    def _ready(self, replicas: int) -> int:
        readings = (one.readings.get(ReadingName.READY) for one in self.published.values())
        return next((int(r.value) for r in readings if isinstance(r, Sample)), replicas)


def _answer(newest: Evaluation | None) -> keda.Answer | Failed:
    if newest is None or newest.replicas is None:
        return Failed("UNAVAILABLE: replicas not known")
    return keda.Answer(milli(float(newest.replicas)), newest.active)
