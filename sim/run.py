"""`load` a scenario, `simulate` it, get a report."""

from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Final

from sim.control import Control
from sim.journal import Journal
from sim.report.model import Report
from sim.report.recorder import Recorder
from sim.report.summarise import summarise
from sim.scenario import Scenario, load
from sim.serving.compiled import CompiledPool
from sim.serving.pool import Pool
from sim.serving.reference import ReferencePool
from sim.world import World

__all__ = ["EngineKind", "Run", "finish", "load", "prepare", "simulate"]

ROWS: Final = 120  # of a time line
SHORTEST_STEP_S: Final = 15.0


class EngineKind(StrEnum):
    """Both give the same report."""

    COMPILED = "compiled"
    REFERENCE = "reference"


@dataclass(frozen=True, slots=True)
class Run:
    """A world with its loops, before its first instant."""

    world: World
    control: Control
    recorder: Recorder


def prepare(
    scenario: Scenario,
    seed: int,
    trace: Path | None = None,
    engine: EngineKind = EngineKind.COMPILED,
    journal: Journal | None = None,
) -> Run:
    """Raises `TraceError` for a trace that cannot be used."""
    yaml = scenario.yaml
    turns = scenario.workload.turns(scenario.load, seed, yaml.duration, trace)
    pool: Pool = CompiledPool(turns) if engine is EngineKind.COMPILED else ReferencePool(turns)
    world = World(scenario, seed, pool) if journal is None else World(scenario, seed, pool, journal.cluster.append)
    control = Control(world, journal)
    recorder = Recorder(world, max(SHORTEST_STEP_S, yaml.duration / ROWS), control.desired)
    world.scale_to(yaml.start_replicas, "start", "startReplicas of the scenario")
    control.start()
    recorder.start()
    return Run(world, control, recorder)


def finish(run: Run) -> Report:
    """Raises `EngineFitError`, and `BrokenLawError` where the simulator is wrong."""
    run.world.run(run.world.scenario.yaml.duration)
    return summarise(run.world, run.recorder)


def simulate(
    scenario: Scenario, seed: int, trace: Path | None = None, engine: EngineKind = EngineKind.COMPILED
) -> Report:
    """Raises `TraceError` for a trace that cannot be used, and as `finish`."""
    return finish(prepare(scenario, seed, trace, engine))
