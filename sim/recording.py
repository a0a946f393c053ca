"""A recording: what the scaler of a live run logged, as JSON lines, and what the cluster around it did.

Read are `scaler.decided` (one evaluation: readings, steps, answer; scaler/obs.py), `scaler.listening` (a new process,
which remembers nothing) and what a recorder may add:

- `recorded.poll` and `recorded.sync`: KEDA polled, the HPA synced. `at_s`, the ScaledObject's `namespace` and
  `scaled_object`, and `answers`: by trigger what the scaler answered then, `{"replicas": 3, "active": true}` or
  `{"error": "…"}`; those are left out that nobody asked for. `wrote_s`: when the scale had what it wrote then, if it
  wrote; until then everyone else saw what was before.
- `recorded.scale`: each change of the scale. `at_s`, `namespace`, `scaled_object`, `replicas`.
- nodes and pods and what kube-scheduler asked: sim/recorded.py.

Other lines of the log are passed over. All instants are seconds of one clock.
"""

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import IO, Any, Final, Literal

from scaler.evaluate import Decision
from scaler.signals.reading import Missing, Reading, Sample
from sim import recorded
from sim.cluster.hpa import Failed
from sim.cluster.keda import Answer
from sim.cluster.scaledobject import milli
from sim.journal import Journal
from sim.workloads.trace import TraceError, at, number, opened
from sim.world import World

DECIDED, LISTENING = "scaler.decided", "scaler.listening"
POLL, SYNC, SCALE = "recorded.poll", "recorded.sync", "recorded.scale"
MISSING: Final = "missing: "
Object = tuple[str, str]  #: namespace and name of a ScaledObject
By = Literal["keda", "hpa"]
Whose = tuple[str, str, str]  #: namespace, name of the ScaledObject, trigger


@dataclass(frozen=True, slots=True)
class Evaluation:
    """As it was. `process`: which of the recorded processes it was, counted from 0. `steps`: as text."""

    line: int
    process: int
    whose: Whose
    at_s: float
    readings: Mapping[str, Reading]
    replicas: int | None
    active: bool
    steps: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Turn:
    """One poll of KEDA's or one sync of the HPA's. `answers`: by trigger, as the scaler's log names it.

    `wrote_s`: when the scale had what it wrote; None where it wrote nothing, or where that is not known.
    """

    at_s: float
    by: By
    of: Object
    answers: Mapping[str, Answer | Failed]
    wrote_s: float | None = None


@dataclass(frozen=True, slots=True)
class Scaled:
    at_s: float
    of: Object
    replicas: int


@dataclass(slots=True)
class Recording:
    """Each list in the order of its instants. All but the evaluations may be empty: nobody recorded them."""

    evaluations: list[Evaluation] = field(default_factory=list)
    turns: list[Turn] = field(default_factory=list)
    scale: list[Scaled] = field(default_factory=list)
    cluster: list[recorded.Happened] = field(default_factory=list)


def trigger_of(metadata: Mapping[str, str]) -> str:
    """How the scaler names a trigger in its log (scaler/engine.py)."""
    text = "\0".join(f"{key}={value}" for key, value in sorted(metadata.items()))
    return hashlib.sha256(text.encode()).hexdigest()[:8]


def read(path: Path) -> Recording:
    """Raises `TraceError` with file, line, field and rule."""
    found, process = Recording(), 0
    with opened(path) as text:
        for line, content in enumerate(text, 1):
            event = _event(content)
            with at(path, line):
                match event.get("event"):
                    case "scaler.listening":
                        process += 1
                    case "scaler.decided":
                        found.evaluations.append(_evaluation(event, line, process))
                    case "recorded.poll" | "recorded.sync":
                        found.turns.append(_turn(event))
                    case "recorded.scale":
                        at_s, replicas = number(event.get("at_s"), "at_s"), _count(event.get("replicas"))
                        found.scale.append(Scaled(at_s, _object(event), replicas))
                    case _:
                        found.cluster += filter(None, [recorded.parse(event)])
    found.turns.sort(key=lambda turn: turn.at_s)
    found.scale.sort(key=lambda scaled: scaled.at_s)
    found.cluster.sort(key=lambda happened: happened.at_s)
    if not found.evaluations:
        raise TraceError(
            f"{path}: no line is an event {DECIDED}; want the log of `slicewise scaler serve` as JSON lines"
        )
    return found


def _event(content: str) -> dict[str, Any]:
    """A line of the log; the log may hold lines of others, which are no JSON."""
    if not content.lstrip().startswith("{"):
        return {}
    try:
        event = json.loads(content)
    except ValueError:
        return {}
    return event if isinstance(event, dict) else {}


def _evaluation(event: Mapping[str, Any], line: int, process: int) -> Evaluation:
    at_s = number(event.get("at_s"), "at_s")
    readings: Any = event.get("readings")
    steps: Any = event.get("steps")
    if (type(readings), type(steps)) != (dict, list):
        raise ValueError("readings, steps: want an object and a list, as the scaler logs them")
    samples: Any = event.get("samples") or {}
    replicas = event.get("replicas")
    return Evaluation(
        line=line,
        process=process,
        whose=(str(event.get("namespace")), str(event.get("scaled_object")), str(event.get("trigger"))),
        at_s=at_s,
        readings={n: _reading(n, v, {"at_s": at_s} | (samples.get(n) or {})) for n, v in readings.items()},
        replicas=None if replicas is None else _count(replicas),
        active=event.get("active") is True,
        steps=tuple(map(str, steps)),
    )


def _object(event: Mapping[str, Any]) -> Object:
    namespace, name = event.get("namespace"), event.get("scaled_object")
    if (type(namespace), type(name)) != (str, str):
        raise ValueError("namespace, scaled_object: want the ScaledObject's")
    return str(namespace), str(name)


def _turn(event: Mapping[str, Any]) -> Turn:
    answers: Any = event.get("answers")
    if type(answers) is not dict:
        raise ValueError("answers: want an object, {} where nobody was asked")
    return Turn(
        at_s=number(event.get("at_s"), "at_s"),
        by="keda" if event["event"] == POLL else "hpa",
        of=_object(event),
        answers={trigger: _answer(trigger, answer) for trigger, answer in answers.items()},
        wrote_s=None if event.get("wrote_s") is None else number(event["wrote_s"], "wrote_s"),
    )


def _answer(trigger: str, answer: Any) -> Answer | Failed:  # noqa: ANN401  # JSON
    if type(answer) is not dict:
        raise ValueError(f"answers.{trigger}: want an object with replicas and active, or with error")
    if "error" in answer:
        return Failed(str(answer["error"]))
    replicas = number(answer.get("replicas"), f"answers.{trigger}.replicas", 0)
    return Answer(milli(replicas), answer.get("active") is True)


def _reading(name: str, value: object, told: Mapping[str, Any]) -> Reading:
    """`told`: the other fields of a `Sample`, those that were not as usual."""
    if isinstance(value, str):
        return Missing(value.removeprefix(MISSING))
    found = number(value, f"readings.{name}", 0)
    if unknown := told.keys() - {field.name for field in fields(Sample)}:
        raise ValueError(f"samples.{name}: {', '.join(sorted(unknown))} is not known here: written by another version")
    numbers = {k: number(told[k], f"samples.{name}.{k}") for k in ("at_s", "count") if told.get(k) is not None}
    if told.get("pods") is not None:
        _count(told["pods"])
    return Sample(found, **(dict(told) | numbers))


def _count(value: object) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or value < 0:
        raise ValueError(f"replicas, pods: want a whole number, 0 or more (got {value!r})")
    return value


def write(journal: Journal, world: World, out: IO[str]) -> None:
    """What a live run with the same decisions would have logged; `took_s`, which is the machine's, is left out."""
    scaled_object = world.scenario.yaml.keda
    whose = {"namespace": scaled_object.metadata.namespace, "scaled_object": scaled_object.metadata.name}
    names = [trigger_of(t.metadata) for t in scaled_object.spec.triggers]
    lines: list[tuple[float, int, Mapping[str, object]]] = [(-1.0, 0, {"event": LISTENING})]
    lines += [(h.at_s, 1, recorded.line(h)) for h in journal.cluster]
    for tick in journal.ticks:
        told = whose | {"trigger": names[tick.trigger], "at_s": tick.as_of_s}
        lines.append((tick.at_s, 2, {"event": DECIDED, **told, **_decided(tick.decision, tick.readings)}))
    for kind, turns in ((POLL, journal.polls), (SYNC, journal.syncs)):
        for turn in turns:
            answers = {names[number]: _told(answer) for number, answer in turn.answers.items()}
            lines.append((turn.at_s, 3, {"event": kind, **whose, "at_s": turn.at_s, "answers": answers}))
    for event in world.scale_events:
        lines.append((event.at_s, 4, {"event": SCALE, **whose, "at_s": event.at_s, "replicas": event.after}))
    for _, _, line in sorted(lines, key=lambda entry: entry[:2]):
        out.write(json.dumps(line) + "\n")


def _told(answer: Answer | Failed) -> Mapping[str, object]:
    if isinstance(answer, Failed):
        return {"error": answer.why}
    return {"replicas": answer.value_milli / 1000, "active": answer.active}


def _decided(decision: Decision, readings: Mapping[str, Reading]) -> dict[str, object]:
    samples = {n: r for n, r in sorted(readings.items()) if isinstance(r, Sample)}
    return {
        "replicas": decision.replicas,
        "active": decision.active,
        "current": decision.current,
        "hpa": decision.hpa,
        "readings": {n: r.value if isinstance(r, Sample) else MISSING + r.why for n, r in sorted(readings.items())},
        "samples": {n: {k: v for k, v in asdict(r).items() if k != "value"} for n, r in samples.items()},
        "steps": [str(step) for step in decision.steps],
    }


def changes(values: Iterable[tuple[float, int]]) -> Sequence[tuple[float, int]]:
    """Only where the value is another one than before."""
    found: list[tuple[float, int]] = []
    for instant_s, value in values:
        if not found or found[-1][1] != value:
            found.append((instant_s, value))
    return found
