"""One decision at one instant, told from the readings to the pods: who saw what, who wanted what, who did what."""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

from scaler.signals.reading import Missing, Reading
from sim.cluster.deployment import Pod
from sim.cluster.hpa import Failed
from sim.journal import Journal, Poll, Sync, Tick
from sim.run import EngineKind, prepare
from sim.scenario import Scenario
from sim.serving.pool import Gauge
from sim.serving.turns import to_ps
from sim.units import duration
from sim.world import ScaleEvent, World

SCHEMA: Final = "slicewise.dev/sim-story/1"


class TooLateError(ValueError):
    """An instant at which nothing has happened yet, or nothing any more."""


@dataclass(frozen=True, slots=True)
class Chapter:
    """What one of them did last, before the instant; `lines`: why, in its own words."""

    who: str
    at_s: float
    lines: Sequence[str]


@dataclass(frozen=True, slots=True)
class Story:
    scenario: str
    seed: int
    at_s: float
    waiting: int
    running: int
    sessions: int
    replicas: int
    ready: int
    last_change: str
    chapters: Sequence[Chapter]
    pods: Sequence[str]

    def to_json(self) -> str:
        return json.dumps({"schema": SCHEMA} | asdict(self), indent=1) + "\n"


def tell(scenario: Scenario, seed: int, trace: Path | None, at_s: float, engine: EngineKind) -> Story:
    """Runs until `at_s`. Raises `TooLateError`, and what `prepare` raises."""
    if not 0 <= at_s <= scenario.yaml.duration:
        raise TooLateError(f"--at: the scenario lasts from 0 to {duration(scenario.yaml.duration)}")
    journal = Journal()
    world = prepare(scenario, seed, trace, engine, journal).world
    world.run(at_s)
    world.pool.run_until(to_ps(at_s))
    shown, census = world.pool.read(world.census().slots), world.census()
    return Story(
        scenario=scenario.yaml.name,
        seed=seed,
        at_s=at_s,
        waiting=int(shown.gauge(Gauge.QUEUED).sum()) + world.pool.held(),
        running=int(shown.gauge(Gauge.RUNNING).sum()),
        sessions=int(shown.gauge(Gauge.SESSIONS).sum()) + world.pool.held_sessions(),
        replicas=world.replicas,
        ready=census.ready,
        last_change=_change(world.scale_events),
        chapters=_chapters(scenario, journal),
        pods=[_pod(world, pod, at_s) for pod in world.active.values()],
    )


def _change(events: Sequence[ScaleEvent]) -> str:
    last = events[-1]
    return f"{last.before} -> {last.after} at {duration(last.at_s)} by {last.by}: {last.why}"


def _chapters(scenario: Scenario, journal: Journal) -> list[Chapter]:
    triggers = len(scenario.triggers)
    found = [_scaler(tick, triggers) for tick in journal.ticks[-triggers:]] if triggers else []
    if journal.polls:
        found.append(_keda(journal.polls[-1]))
    if journal.syncs:
        found.append(_hpa(journal.syncs[-1]))
    return found


def _scaler(tick: Tick, triggers: int) -> Chapter:
    lines = [f"read as of {duration(tick.as_of_s)}:"]
    lines += [f"  {name} {_shown(reading, tick.as_of_s)}" for name, reading in sorted(tick.readings.items())]
    lines += [str(step) for step in tick.decision.steps]
    lines.append(f"answers {'nothing' if tick.decision.replicas is None else tick.decision.replicas}")
    return Chapter("scaler" if triggers == 1 else f"scaler, trigger {tick.trigger}", tick.at_s, lines)


def _shown(reading: Reading, as_of_s: float) -> str:
    if isinstance(reading, Missing):
        return f"is not known: {reading.why}"
    pods = "" if reading.pods is None else f", of {reading.pods} pods"
    return f"{reading.value:g} ({duration(as_of_s - reading.at_s)} old{pods})"


def _keda(poll: Poll) -> Chapter:
    lines = [
        f"trigger {i}: {record.error or f'{(record.value_milli or 0) / 1000:g}'}"
        + (" by fallback" if record.fallback else "")
        + (", active" if record.active else "")
        for i, record in enumerate(poll.records)
    ]
    to = "leaves the scale to the HPA" if poll.request.replicas is None else f"sets {poll.request.replicas}"
    return Chapter("KEDA's poll", poll.at_s, [*lines, f"{to}: {poll.request.reason}"])


def _hpa(sync: Sync) -> Chapter:
    lines = [
        f"{name} = {usage.why if isinstance(usage, Failed) else f'{usage / 1000:g}'}"
        for name, usage in sync.usage_milli.items()
    ]
    lines.append(f"scale: {sync.scale.spec} asked, {sync.scale.status} there, {sync.scale.ready} ready")
    lines += [str(step) for step in sync.verdict.steps]
    moved = f"{sync.scale.spec} -> {sync.verdict.replicas}" if sync.verdict.replicas != sync.scale.spec else "stays"
    return Chapter("the HPA's sync", sync.at_s, [*lines, f"{moved}: {sync.verdict.reason}"])


def _pod(world: World, pod: Pod, now_s: float) -> str:
    if pod.node is None:
        return (
            f"{pod.name} has waited {duration(now_s - pod.created_s)} for a place: {pod.waits_for or 'not tried yet'}"
        )
    if pod.deleted_s is not None:
        open_ = world.pool.load(pod.slot) if pod.slot is not None else 0
        return f"{pod.name} on {pod.node} ends since {duration(now_s - pod.deleted_s)}, {open_} requests left"
    if pod.slot is None and pod.bound_s is not None:
        return f"{pod.name} on {pod.node} starts since {duration(now_s - pod.bound_s)}"
    return f"{pod.name} on {pod.node} serves {world.pool.load(pod.slot) if pod.slot is not None else 0} requests"


def as_text(story: Story) -> str:
    lines = [
        f"{story.scenario}, seed {story.seed}, at {duration(story.at_s)}",
        f"  {story.waiting} requests wait, {story.running} are in service, {story.sessions} sessions are alive",
        f"  {story.replicas} replicas asked for, {story.ready} ready",
        f"  last change: {story.last_change}",
    ]
    for chapter in story.chapters:
        lines += ["", f"{chapter.who}, {duration(story.at_s - chapter.at_s)} before"]
        lines += [f"  {line}" for line in chapter.lines]
    return "\n".join([*lines, "", "pods", *(f"  {pod}" for pod in story.pods)])
