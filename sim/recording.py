"""A recording: what the scaler of a live run logged, as JSON lines, and when the controllers around it acted.

Read are `scaler.decided` (one evaluation: readings, steps, answer; scaler/obs.py), `scaler.listening` (a new process,
which remembers nothing) and two that a recorder may add: `recorded.phases` with `keda_s` and `hpa_s`, an instant at
which KEDA polled and the HPA synced, and `recorded.scale` with `at_s` and `replicas`, each change of the scale. Other
lines of the log are passed over.
"""

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import IO, Any, Final

from scaler.evaluate import Decision
from scaler.signals.reading import Missing, Reading, Sample
from sim.journal import Journal
from sim.workloads.trace import TraceError, at, number, opened
from sim.world import World

DECIDED, LISTENING, PHASES, SCALE = "scaler.decided", "scaler.listening", "recorded.phases", "recorded.scale"
MISSING: Final = "missing: "
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


@dataclass(slots=True)
class Recording:
    """`scale`: (instant, replicas), ascending. `phases`: empty where nobody recorded them."""

    evaluations: list[Evaluation] = field(default_factory=list)
    scale: list[tuple[float, int]] = field(default_factory=list)
    phases: dict[str, float] = field(default_factory=dict)


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
                    case "recorded.scale":
                        found.scale.append((number(event.get("at_s"), "at_s"), _count(event.get("replicas"))))
                    case "recorded.phases":
                        found.phases = {k: number(event.get(k), k) for k in ("keda_s", "hpa_s")}
                    case _:
                        pass
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
    scaled_object = world.scenario.yaml.scaled_object
    lines: list[tuple[float, int, Mapping[str, object]]] = [(-1.0, 0, {"event": LISTENING})]
    if journal.polls and journal.syncs:
        phases: dict[str, object] = {"keda_s": journal.polls[0].at_s, "hpa_s": journal.syncs[0].at_s}
        lines.append((-1.0, 1, {"event": PHASES, **phases}))
    for event in world.scale_events:
        lines.append((event.at_s, 3, {"event": SCALE, "at_s": event.at_s, "replicas": event.after}))  # noqa: PERF401
    names = [trigger_of(t.metadata) for t in scaled_object.spec.triggers]
    for tick in journal.ticks:
        whose: dict[str, object] = {
            "namespace": scaled_object.metadata.namespace,
            "scaled_object": scaled_object.metadata.name,
            "trigger": names[tick.trigger],
            "at_s": tick.as_of_s,
        }
        lines.append((tick.at_s, 2, {"event": DECIDED, **whose, **_decided(tick.decision, tick.readings)}))
    for _, _, line in sorted(lines, key=lambda entry: entry[:2]):
        out.write(json.dumps(line) + "\n")


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
