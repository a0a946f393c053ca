"""Processor seconds of what `slicewise sim evaluate` does again and again with a week of load: no file is needed."""

from collections.abc import Callable
from time import process_time
from typing import Final

import numpy as np

from sim.baselines import BASELINES
from sim.evaluation.cases import case_of, load_for, most_replicas
from sim.evaluation.production import outcome_of_production
from sim.evaluation.tuning import outcome_of, tuned
from sim.fluid.renewal import WINDOW_S, Windows
from sim.fluid.servegen import Client, Lengths, ServeGen
from sim.streams import stream

Row = tuple[str, float, str]
CLIENTS: Final = 60
WEEK_S: Final = 7 * 86_400
PEAK_REPLICAS: Final = 40
COLD_START_S: Final = 180.0


def week() -> ServeGen:
    """Clients with days and nights of their own, in bursts."""
    random = stream(0, "bench-evaluation")
    since_s = np.arange(0.0, WEEK_S, WINDOW_S)
    clients: list[Client] = []
    for number in range(CLIENTS):
        shift, swing, size = random.uniform(0.0, 1.0), random.uniform(0.2, 0.9), random.exponential(3.0)
        day = 1.0 + swing * np.sin(2.0 * np.pi * (since_s / 86_400 + shift))
        rates = size * day * random.lognormal(0.0, 0.3, len(since_s))
        shapes = np.full(len(since_s), random.uniform(0.3, 1.2))
        windows = Windows(since_s, rates, np.full(len(since_s), number % 2 == 0), shapes)
        clients.append(Client(number, windows, Lengths(1100.0, 2.0), Lengths(170.0, 1.5)))
    return ServeGen(tuple(clients), WEEK_S)


def took_s(work: Callable[[], object], repeats: int = 3) -> float:
    """The least of some repeats, after one that compiles."""
    work()
    taken_s: list[float] = []
    for _ in range(repeats):
        began_s = process_time()
        work()
        taken_s.append(process_time() - began_s)
    return min(taken_s)


def run() -> list[Row]:
    source = week()
    load = load_for(source, PEAK_REPLICAS, 1)
    case = case_of(load, most_replicas(load), COLD_START_S, 1)
    held = BASELINES["rate-hold"]
    settings = held.defaults(PEAK_REPLICAS)
    return [
        (f"a week of {CLIENTS} clients, drawn", took_s(lambda: load_for(source, PEAK_REPLICAS, 1)), "s"),
        ("a week in the fluid pool, rate x hold", took_s(lambda: outcome_of(held, settings, case)), "s"),
        ("rate x hold, tuned to a week", took_s(lambda: tuned(held, PEAK_REPLICAS, [case]), 1), "s"),
        ("a week of the production decision", took_s(lambda: outcome_of_production(case, COLD_START_S), 1), "s"),
    ]
