"""Run experiments, one policy after another on the same arrivals, and time the decisions."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from time import perf_counter
from typing import Final

import numpy as np

from sim.packing.bound import bound_100_pct
from sim.packing.curve import Curve, trace_curve
from sim.packing.law import check
from sim.packing.load import load_nodes, load_pods, load_timeline
from sim.packing.metrics import Outcome, evaluate
from sim.packing.model import Experiment, Nodes, Trace
from sim.packing.recipe import build_experiment
from sim.packing.replay import Result as Replayed
from sim.packing.replay import replay
from sim.packing.table import Run
from sim.packing.table import scorer as named

# Every 16th decision is timed by itself, the call from Python and a refresh that falls due included; the others go
# through in batches, so that watching costs little of what is watched.
TIMED_EVERY: Final = 16
WARM_UP_ARRIVALS: Final = 64


@dataclass(frozen=True, slots=True)
class Cases:
    """A cluster, and the traces that are tried on it."""

    nodes: Nodes
    traces: tuple[Trace, ...]


def load(nodes: Path, pods: Sequence[Path]) -> Cases:
    """Raises `ConfigError` with the faults of the first file that has any."""
    inventory = load_nodes(nodes)
    return Cases(inventory.nodes, tuple(load_pods(path, inventory.kinds_of_model) for path in pods))


@dataclass(frozen=True, slots=True)
class Result:
    """One experiment. Times are wall clock; all else is the same for the same pods, scorer and seed."""

    pods: str
    scorer: str
    seed: int
    outcome: Outcome
    decision_ms_p50: float
    decision_ms_p99: float
    wall_s: float
    bound_100_pct: float | None = None  # what no policy can exceed, if it was asked for
    curve: Curve | None = None  # if it was asked for


def run_experiment(experiment: Experiment, scorer: str, seed: int, *, curved: bool = False) -> Result:
    """Raises `BrokenLawError` if the policy breaks a law of placement: that is a fault of this program."""
    began_s = perf_counter()
    run = named(scorer)(experiment, seed)
    decisions_ms = _drive(run, experiment.class_of_arrival.size)
    wall_s = perf_counter() - began_s
    check(experiment, run.placement)
    p50, p99 = np.quantile(decisions_ms, [0.5, 0.99])
    outcome = evaluate(experiment, run.placement)
    curve = trace_curve(experiment, run.placement) if curved else None
    return Result(experiment.trace.name, scorer, seed, outcome, float(p50), float(p99), wall_s, curve=curve)


def _drive(run: Run, arrivals: int) -> list[float]:
    decisions_ms: list[float] = []
    begin = 0
    while begin < arrivals:
        place = begin % TIMED_EVERY
        if place:
            begin += run.advance(begin, min(arrivals, begin + TIMED_EVERY - place))
            continue
        began_s = perf_counter()
        begin += run.advance(begin, begin + 1)
        decisions_ms.append(1000.0 * (perf_counter() - began_s))
    return decisions_ms


def experiments(
    cases: Cases, scorers: Sequence[str], seeds: Sequence[int], *, bounded: bool = False, curved: bool = False
) -> Iterator[Result]:
    """Every trace x seed x scorer; the scorers of one seed meet the same arrivals. `bounded` needs the solver."""
    for trace in cases.traces:
        for seed in seeds:
            experiment = build_experiment(cases.nodes, trace, seed)
            bound = bound_100_pct(experiment) if bounded else None
            for scorer in scorers:
                yield replace(run_experiment(experiment, scorer, seed, curved=curved), bound_100_pct=bound)


def replays(
    cases: Cases, pods: Sequence[Path], scorers: Sequence[str], seeds: Sequence[int], at_load: float | None
) -> Iterator[Replayed]:
    """Every trace x seed x scorer by its own times, or at a load. Raises `ConfigError` before anything runs."""
    timelines = [load_timeline(path, trace) for path, trace in zip(pods, cases.traces, strict=True)]
    for scorer in scorers:  # compiles, before any clock runs
        replay(cases.nodes, cases.traces[0], timelines[0].first(WARM_UP_ARRIVALS), scorer, 0)
    if at_load is not None:
        pairs = zip(timelines, cases.traces, strict=True)
        timelines = [timeline.at_load(at_load, cases.nodes, trace.classes) for timeline, trace in pairs]
    return (
        replay(cases.nodes, trace, timeline, scorer, seed)
        for trace, timeline in zip(cases.traces, timelines, strict=True)
        for seed in seeds
        for scorer in scorers
    )


def warm_up(cases: Cases, scorers: Sequence[str], *, curved: bool = False) -> None:
    """Compile, or load what was compiled, before any clock runs."""
    experiment = build_experiment(cases.nodes, cases.traces[0], 0)
    few = replace(experiment, class_of_arrival=experiment.class_of_arrival[:WARM_UP_ARRIVALS])
    for scorer in scorers:
        run_experiment(few, scorer, 0, curved=curved)
