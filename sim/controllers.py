"""KEDA's poll and the HPA's sync around recorded decisions: do the stand-ins move the scale as the real ones did?"""

from bisect import bisect_right
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import zip_longest

from scaler.signals.reading import ReadingName, Sample
from sim.cluster.autoscaler import Autoscaler
from sim.cluster.hpa import Failed, Scale
from sim.cluster.keda import Answer
from sim.cluster.scaledobject import ScaledObject, milli
from sim.recording import By, Evaluation, Recording, Turn, changes

At = tuple[float, int]  #: instant and replicas
Series = Sequence[At]  #: changes only
Decided = Sequence[tuple[Evaluation, int]]  #: with the number of the trigger


@dataclass(frozen=True, slots=True, kw_only=True)
class Pace:
    """Of the recorded cluster: the HPA's sync period, the scaler's tick and how long after it a decision is there."""

    sync_period_s: float = 15.0
    tick_s: float = 15.0
    delay_s: float = 1.0


@dataclass(frozen=True, slots=True)
class Moved:
    """The change with this number is another one, or lies too far away in time; None: there is none."""

    number: int
    recorded: At | None
    today: At | None


@dataclass(frozen=True, slots=True)
class Unexplained:
    """KEDA was answered what the scaler had not decided by then, as far as the recording says."""

    at_s: float
    by: str
    trigger: int
    answered: float
    decided: int | None


@dataclass(frozen=True, slots=True)
class Controllers:
    """`late_s`: the largest distance in time of a change, None where values differ. `allowed_s`: what is let pass.

    `turns`: how many polls and syncs were turned, at instants that were recorded or reckoned.
    """

    recorded: Series
    today: Series
    same_values: bool
    late_s: float | None
    allowed_s: float
    moved: Sequence[Moved] = ()
    unexplained: Sequence[Unexplained] = ()
    turns: int = 0
    turns_recorded: bool = False

    @property
    def agree(self) -> bool:
        in_time = self.same_values and self.late_s is not None and self.late_s <= self.allowed_s
        return in_time and not self.unexplained


def controllers(
    recording: Recording, decided: Decided, scaled_object: ScaledObject, triggers: Mapping[str, int], pace: Pace
) -> Controllers | None:
    """`triggers`: their numbers by their recorded names. None where there is nothing to hold them against."""
    mine = (scaled_object.metadata.namespace, scaled_object.metadata.name)
    scale = [(s.at_s, s.replicas) for s in recording.scale if s.of == mine]
    seen = scale or [
        (e.at_s, int(r.value)) for e, _ in decided if isinstance(r := e.readings.get(ReadingName.REPLICAS), Sample)
    ]
    recorded = changes(seen)
    if not recorded:
        return None
    turns = [t for t in recording.turns if t.of == mine]
    loops = _Loops(scaled_object, triggers, pace, recorded[0], deque(decided))
    today = loops.run(turns)
    allowed_s = pace.sync_period_s + (0.0 if scale else pace.tick_s)
    moved = _moved(recorded, today, allowed_s) if scale else ()
    late_s = _changes_apart_s(recorded, today) if scale else _ticks_apart_s(seen, today)
    return Controllers(
        recorded,
        today,
        late_s is not None,
        late_s,
        allowed_s,
        moved,
        list(_unexplained(turns, decided, triggers, pace.tick_s)),
        loops.turned,
        bool(turns),
    )


def _changes_apart_s(recorded: Series, today: Series) -> float | None:
    """Every change was recorded: the same values in the same order, or None."""
    if [v for _, v in recorded] != [v for _, v in today]:
        return None
    return max(abs(a - b) for (a, _), (b, _) in zip(recorded, today, strict=True))


def _moved(recorded: Series, today: Series, allowed_s: float) -> list[Moved]:
    """Up to the first change of another value: after it nothing can be held against anything."""
    found = list[Moved]()
    for number, (then, now) in enumerate(zip_longest(recorded, today)):
        if then is None or now is None or then[1] != now[1]:
            return [*found, Moved(number, then, now)]
        if abs(then[0] - now[0]) > allowed_s:
            found.append(Moved(number, then, now))
    return found


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


def _unexplained(
    turns: Sequence[Turn], decided: Decided, triggers: Mapping[str, int], tick_s: float
) -> Iterator[Unexplained]:
    """The newest decision was served, or the one before it while the newest may still have been in the making.

    Failures explain themselves, and so does what was answered before the first decision in the recording.
    """
    by_trigger: dict[int, list[Evaluation]] = {}
    for evaluation, number in decided:
        by_trigger.setdefault(number, []).append(evaluation)
    instants = {number: [e.at_s for e in several] for number, several in by_trigger.items()}
    for turn in turns:
        for name, answer in turn.answers.items():
            if name not in triggers or isinstance(answer, Failed):
                continue
            number = triggers[name]
            newest = bisect_right(instants[number], turn.at_s) - 1
            if newest < 0:
                continue
            served = [by_trigger[number][newest]]
            if newest and turn.at_s < served[0].at_s + tick_s:
                served.append(by_trigger[number][newest - 1])
            if answer not in map(_answer, served):
                answered = answer.value_milli / 1000
                yield Unexplained(turn.at_s, turn.by, number, answered, served[0].replicas)


@dataclass(slots=True)
class _Loops:
    """Polls and syncs in the order of time, and what they write when it was written; ready pods as recorded.

    Each is answered as it was then, where that was recorded, else with the newest decision.
    """

    scaled_object: ScaledObject
    triggers: Mapping[str, int]
    pace: Pace
    start: At
    left: "deque[tuple[Evaluation, int]]"
    published: dict[int, Evaluation] = field(default_factory=dict)
    turned: int = 0

    def run(self, turns: Sequence[Turn]) -> Series:
        found, replicas, written = [self.start], self.start[1], list[At]()
        autoscaler = Autoscaler(self.scaled_object, created_s=self.start[0])
        begun = autoscaler.begin(Scale(spec=replicas, status=replicas, ready=replicas)).replicas
        if begun is not None:
            replicas = begun
            found.append((self.start[0], replicas))
        for turn in [*self._all(turns), None]:
            while written and (turn is None or written[0][0] <= turn.at_s):
                if written[0][1] != replicas:
                    found.append(written[0])
                replicas = written.pop(0)[1]
            if turn is None:
                break
            while self.left and self.left[0][0].at_s + self.pace.delay_s <= turn.at_s:
                evaluation, number = self.left.popleft()
                self.published[number] = evaluation
            scale = Scale(spec=replicas, status=replicas, ready=self._ready(replicas))
            ask = partial(self._ask, {self.triggers.get(name): answer for name, answer in turn.answers.items()})
            if turn.by == "keda":
                wanted = autoscaler.poll(ask, scale, turn.at_s).request.replicas
            else:
                wanted = autoscaler.sync(ask, scale, turn.at_s).verdict.replicas
            self.turned += 1
            if wanted is not None and wanted != replicas:
                written.append((turn.at_s if turn.wrote_s is None else turn.wrote_s, wanted))
                written.sort()
        return found

    def _all(self, turns: Sequence[Turn]) -> list[Turn]:
        """As recorded; where that was one of a kind at most, one each period from it, or from the first decision."""
        begin_s, end_s = self.left[0][0].at_s + self.pace.delay_s, self.left[-1][0].at_s + self.pace.tick_s
        found = list[Turn]()
        of = (self.scaled_object.metadata.namespace, self.scaled_object.metadata.name)
        for by, period_s in self._periods():
            mine = [t for t in turns if t.by == by]
            if len(mine) < 2:
                first_s = mine[0].at_s if mine else begin_s
                count = max(0, int((end_s - first_s) / period_s) + 1)
                mine = [Turn(first_s + i * period_s, by, of, {}) for i in range(count)]
            found += mine
        return sorted(found, key=lambda t: (t.at_s, t.by == "hpa"))

    def _periods(self) -> tuple[tuple[By, float], tuple[By, float]]:
        return ("keda", float(self.scaled_object.spec.polling_interval)), ("hpa", self.pace.sync_period_s)

    def _ask(self, answered: Mapping[int | None, Answer | Failed], number: int) -> Answer | Failed:
        return answered[number] if number in answered else _answer(self.published.get(number))

    def _ready(self, replicas: int) -> int:
        readings = (one.readings.get(ReadingName.READY) for one in self.published.values())
        return next((int(r.value) for r in readings if isinstance(r, Sample)), replicas)


def _answer(newest: Evaluation | None) -> Answer | Failed:
    if newest is None or newest.replicas is None:
        return Failed("UNAVAILABLE: replicas not known")
    return Answer(milli(float(newest.replicas)), newest.active)
