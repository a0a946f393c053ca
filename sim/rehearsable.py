"""Whether a scenario can be run, as far as can be told without its load: fields, a place for one pod, memory."""

from pathlib import Path

import numpy as np

from sim.changes import Changes
from sim.cluster.kubescheduler import Unschedulable
from sim.cluster.placed import EngineFitError
from sim.podtemplate import demand_of
from sim.scenario import Scenario, load
from sim.serving.compiled import CompiledPool
from sim.serving.turns import open_loop
from sim.strict import ConfigError
from sim.world import World


def faults(path: Path, changes: Changes) -> list[str]:
    """All that can be said at once, each with file and rule; none: it can be run."""
    try:
        scenario = load(path, changes)
    except ConfigError as e:
        return [str(fault) for fault in e.faults]
    return _placement(path, scenario)


def _placement(path: Path, scenario: Scenario) -> list[str]:
    """One pod, on an empty cluster."""
    nothing = open_loop(np.zeros(0), np.zeros(0, np.int64), np.zeros(0, np.int64))
    world = World(scenario, 0, CompiledPool(nothing))
    demand = demand_of(scenario.yaml.pod, "probe", "probe")
    if demand is None:
        return [f"{path}: pod: asks for no GPU"]
    answer = world.scheduler.schedule(demand, 0.0)
    if isinstance(answer, Unschedulable):
        return [f"{path}: pod: no empty node of the cluster has room for it: {answer.why}"]
    try:
        world.shape(answer.allocation, answer.node)
    except (EngineFitError, ValueError) as e:
        return [f"{path}: engine: {e}"]
    return []
