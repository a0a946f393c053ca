"""A recording through today's code: the scaler's decisions, what KEDA and the HPA make of them, where pods go."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Final

from scaler.evaluate import NO_PAST, Decision, Past, evaluate
from scaler.forecast.headroom import HISTORY_H, HOUR_S
from scaler.trigger import Trigger
from sim.cluster.scaledobject import ScaledObject
from sim.controllers import At, Controllers, Pace, controllers
from sim.placements import Placements, placements
from sim.recording import Evaluation, Recording, Whose, trigger_of

SCHEMA: Final = "slicewise.dev/sim-replay/1"


class NotRecordedError(ValueError):
    """The recording holds nothing of the ScaledObject that was asked for."""


@dataclass(frozen=True, slots=True)
class Difference:
    """One evaluation in which today's policy answers differently. Steps as text."""

    at_s: float
    line: int
    trigger: int
    recorded: int | None
    today: int | None
    recorded_steps: Sequence[str]
    today_steps: Sequence[str]
    warming_up: bool  #: the recording may have begun after the scaler did: it remembers what we cannot know


@dataclass(frozen=True, slots=True)
class Replay:
    scaled_object: str
    evaluations: int
    same_trigger: bool  #: the recorded metadata are those of today
    differences: Sequence[Difference]
    controllers: Controllers | None
    placements: Placements | None

    @property
    def same(self) -> bool:
        moved = self.controllers is not None and not self.controllers.agree
        misplaced = self.placements is not None and self.placements.differences
        return not (self.differences or moved or misplaced)

    def to_json(self) -> str:
        controllers = None if self.controllers is None else asdict(self.controllers) | {"agree": self.controllers.agree}
        document = {"schema": SCHEMA, "same": self.same} | asdict(self) | {"controllers": controllers}
        return json.dumps(document, indent=1) + "\n"


def replay(recording: Recording, scaled_object: ScaledObject, triggers: Sequence[Trigger], pace: Pace) -> Replay:
    """Raises `NotRecordedError`."""
    mine = _of_object(recording, scaled_object)
    numbers, same_trigger = _numbers(mine, scaled_object)
    differences, decisions = list[Difference](), list[tuple[Evaluation, int]]()
    pasts: dict[tuple[int, int], Past] = {}
    first_s: dict[tuple[int, int], float] = {}
    for one in mine:
        number = numbers[one.whose]
        trigger, key = triggers[number], (one.process, number)
        decision, pasts[key] = evaluate(trigger, one.readings, one.at_s, pasts.get(key, NO_PAST))
        window_s = max(trigger.stabilization_up_s, trigger.stabilization_down_s)
        begun_s = first_s.setdefault(key, one.at_s)
        # what a process has read of the backend's past is not in its log
        learning = trigger.learns and one.at_s < begun_s + HISTORY_H * HOUR_S
        warming_up = learning or (one.process == 0 and one.at_s < begun_s + window_s)
        decisions.append((one, number))
        if not _same(one, decision, same_steps=same_trigger):
            differences.append(_difference(one, number, decision, warming_up=warming_up))
    return Replay(
        scaled_object=f"{scaled_object.metadata.namespace}/{scaled_object.metadata.name}",
        evaluations=len(mine),
        same_trigger=same_trigger,
        differences=differences,
        controllers=controllers(recording, decisions, scaled_object, {w[2]: n for w, n in numbers.items()}, pace),
        placements=placements(recording.cluster),
    )


def _of_object(recording: Recording, scaled_object: ScaledObject) -> list[Evaluation]:
    name = (scaled_object.metadata.namespace, scaled_object.metadata.name)
    mine = [e for e in recording.evaluations if e.whose[:2] == name]
    if not mine:
        there = ", ".join(sorted({"/".join(e.whose[:2]) for e in recording.evaluations}))
        raise NotRecordedError(f"nothing was recorded of {'/'.join(name)}; the recording has {there}")
    return mine


def _numbers(mine: Sequence[Evaluation], scaled_object: ScaledObject) -> tuple[Mapping[Whose, int], bool]:
    """Which of today's triggers each recorded one is: by its metadata; where they changed, in the order of the log."""
    whose = list(dict.fromkeys(e.whose for e in mine))
    names = [trigger_of(t.metadata) for t in scaled_object.spec.triggers]
    if all(w[2] in names for w in whose):
        return {w: names.index(w[2]) for w in whose}, True
    if len(whose) != len(names):
        raise NotRecordedError(
            f"the recording has {len(whose)} triggers of it with other metadata, the ScaledObject has {len(names)}: it "
            f"is not known which is which"
        )
    return {w: i for i, w in enumerate(whose)}, False


def _same(one: Evaluation, decision: Decision, *, same_steps: bool) -> bool:
    if (one.replicas, one.active) != (decision.replicas, decision.active):
        return False
    return not same_steps or one.steps == tuple(map(str, decision.steps))


def _difference(one: Evaluation, number: int, decision: Decision, *, warming_up: bool) -> Difference:
    steps = [str(step) for step in decision.steps]
    return Difference(one.at_s, one.line, number, one.replicas, decision.replicas, one.steps, steps, warming_up)


def as_text(found: Replay, most: int) -> str:
    lines = [f"{found.scaled_object}: {found.evaluations} evaluations recorded"]
    if not found.same_trigger:
        lines.append("the trigger's metadata are others today: values are compared, and not the steps")
    real = [d for d in found.differences if not d.warming_up]
    early = len(found.differences) - len(real)
    if not found.differences:
        lines.append("today's policy answers every one of them the same")
    else:
        lines.append(f"today's policy answers {len(found.differences)} of them differently")
    if early:
        lines.append(f"{early} of those lie within the first window, before which the scaler may have known more")
    for d in found.differences[:most]:
        lines += [
            "",
            f"at {d.at_s:g} s (line {d.line}, trigger {d.trigger}): {_n(d.recorded)} then, {_n(d.today)} today",
        ]
        lines += [f"  - {step}" for step in d.recorded_steps] + [f"  + {step}" for step in d.today_steps]
    if (left := len(found.differences) - most) > 0:
        lines += ["", f"… and {left} more: --differences {len(found.differences)}, or --json"]
    if found.controllers is not None:
        lines += ["", *_controllers(found.controllers, most)]
    if found.placements is not None:
        lines += ["", *_placements(found.placements, most)]
    return "\n".join(lines)


def _controllers(c: Controllers, most: int) -> list[str]:
    begin_s = c.recorded[0][0]
    how = f"{c.turns} polls and syncs {'as recorded' if c.turns_recorded else 'by their periods'}"
    lines = [f"KEDA and the HPA, {how}, with the recorded decisions: {_agreement(c)}"]
    lines += [f"  recorded {_series(c.recorded)}", f"  replayed {_series(c.today)}"]
    for moved in c.moved[:most]:
        apart = ""
        if moved.recorded is not None and moved.today is not None:
            apart = f", {abs(moved.recorded[0] - moved.today[0]):.1f} s apart"
        then, today = _when(moved.recorded, begin_s), _when(moved.today, begin_s)
        lines.append(f"  change {moved.number}: {then} then, {today} today{apart}")
    for one in c.unexplained[:most]:
        who = "KEDA's poll" if one.by == "keda" else "the HPA"
        at = f"at {one.at_s - begin_s:.1f} s (trigger {one.trigger})"
        lines.append(f"  {at}: {who} was answered {one.answered:g}, the scaler had decided {_n(one.decided)}")
    return [*lines, *_left(len(c.unexplained), most)]


def _when(change: At | None, begin_s: float) -> str:
    return "none" if change is None else f"{change[1]} at {change[0] - begin_s:.1f} s"


def _left(count: int, most: int) -> list[str]:
    return [f"  … and {count - most} more: --differences {count}, or --json"] if count > most else []


def _placements(p: Placements, most: int) -> list[str]:
    nodes = len({place.node for place in p.places})
    if not p.differences:
        return [f"kube-scheduler and the extender: the same places for all {len(p.places)} pods on {nodes} nodes"]
    lines = [f"kube-scheduler and the extender: other places, {len(p.differences)} times among {len(p.places)} pods"]
    for d in p.differences[:most]:
        lines += [f"  {d.pod}", f"    - {d.recorded}", f"    + {d.today}"]
    return [*lines, *_left(len(p.differences), most)]


def _agreement(c: Controllers) -> str:
    if not c.same_values:
        return "other replicas than recorded"
    if c.unexplained:
        return f"the same replicas, but {len(c.unexplained)} answers that the scaler had not decided"
    return f"the same replicas, at most {c.late_s:.1f} s apart in time; {c.allowed_s:g} s are allowed"


def _n(replicas: int | None) -> str:
    return "unknown" if replicas is None else str(replicas)


def _series(values: Sequence[tuple[float, int]]) -> str:
    begin_s = values[0][0]
    shown = [f"{value} at {instant_s - begin_s:.0f} s" for instant_s, value in values]
    return ", ".join(shown if len(shown) <= 14 else [*shown[:14], "…"])
