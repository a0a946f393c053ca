"""Seconds of one openb experiment by each scorer, and a decision of the default over 5,000 nodes of eight GPUs."""

from collections.abc import Callable
from pathlib import Path
from time import perf_counter
from typing import Final

import numpy as np

from extender.placement.spr.policy import Spr
from extender.placement.spr.watch import no_watch
from sim.packing.engine import Desk, Tables, bind, decide, forget, new_desk, place_sequence
from sim.packing.lab import Cases, experiments, load, warm_up
from sim.packing.model import IntArray, Nodes, Trace, nothing_placed
from sim.packing.policies.spr import spr_of, spr_tables
from sim.packing.table import SCORERS
from sim.streams import stream

Row = tuple[str, float, str]
OPENB: Final = Path(__file__).parents[2] / "shared" / "data" / "openb"
FILES: Final = (OPENB / "nodes.csv.gz", OPENB / "pods_default.csv.gz")
SEEDS: Final = (42, 43, 44)
NODES: Final = 5_000
GPUS: Final = 8
LOADS: Final = (0.5, 0.9)
DECISIONS: Final = 60


def experiments_s(cases: Cases) -> list[Row]:
    warm_up(cases, list(SCORERS))
    results = list(experiments(cases, list(SCORERS), SEEDS))
    walls = {name: [result.wall_s for result in results if result.scorer == name] for name in SCORERS}
    return [(f"openb experiment, {name}", float(np.median(wall)), "s") for name, wall in walls.items()]


def filled(trace: Trace, load_share: float) -> tuple[Desk, Spr, IntArray]:
    """Equal nodes, on which pods of the trace ask for this share of the GPUs, placed by the default."""
    nodes = Nodes(*(np.full(NODES, value) for value in (96_000, 393_216, GPUS, 0)))
    mean_milli = float((trace.classes.gpu_milli * trace.classes.gpu_count)[trace.class_of_pod].mean())
    pods = int(load_share * nodes.gpu_milli_total / mean_milli)
    arrivals = stream(0, "bench-packing").choice(trace.class_of_pod, pods)
    desk = new_desk(nodes, trace.classes)
    policy = spr_of(nodes, trace.classes, desk)
    policy.observe(arrivals)
    tables = spr_tables(policy.refresh(desk.cluster)[0])
    place_sequence(desk, tables, no_watch(), arrivals, nothing_placed(pods))
    return desk, policy, arrivals


def decisions_ms(desk: Desk, tables: Callable[[], Tables], arrivals: IntArray, disturb: Callable[[], None]) -> float:
    """Median over DECISIONS; before each one the world is disturbed, which is not timed."""
    took_ms = []
    for pod in arrivals[:DECISIONS]:
        disturb()
        current = tables()
        began_s = perf_counter()
        decide(desk, int(pod), current)
        took_ms.append(1000.0 * (perf_counter() - began_s))
    return float(np.median(took_ms))


def decisions(trace: Trace, load_share: float) -> list[Row]:
    """Warm: one pod was placed since; new prices: all scores are stale; cold: nothing is known of any node."""
    desk, policy, arrivals = filled(trace, load_share)
    latest = spr_tables(policy.refresh(desk.cluster)[0])
    types = np.unique(arrivals).tolist()

    def refreshed() -> Tables:
        return spr_tables(policy.refresh(desk.cluster)[0])

    def place_one() -> None:
        nodes = {pod: decide(desk, pod, latest) for pod in types}
        pod = next(pod for pod, node in nodes.items() if node >= 0)
        bind(desk, nodes[pod], pod)

    label = f"decision of spr, {NODES:,} nodes x {GPUS} GPUs, {100 * load_share:.0f} % full"
    warm = decisions_ms(desk, lambda: latest, arrivals, place_one)
    stale = decisions_ms(desk, refreshed, arrivals, lambda: None)
    cold = decisions_ms(desk, refreshed, arrivals, lambda: forget(desk))
    return [(f"{label}, warm", warm, "ms"), (f"{label}, new prices", stale, "ms"), (f"{label}, cold", cold, "ms")]


def run() -> list[Row]:
    """One row that names the file, where the trace is not there."""
    if absent := [path for path in FILES if not path.is_file()]:
        return [(f"packing: skipped, {absent[0]} is not there", 0.0, "")]
    cases = load(FILES[0], FILES[1:])
    rows = experiments_s(cases)
    for load_share in LOADS:
        rows += decisions(cases.traces[0], load_share)
    return rows
