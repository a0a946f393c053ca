"""Every trace x peak x cold start x seed x policy as one row, in that order, whatever the number of processes."""

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from functools import lru_cache
from multiprocessing import get_context
from pathlib import Path
from typing import Any, Final

from sim.baselines import BASELINES
from sim.evaluation.cases import case_of, load_for, most_replicas
from sim.evaluation.production import outcome_of_production
from sim.evaluation.traces import Source, Trace, find
from sim.evaluation.tuning import outcome_of, tuned
from sim.fluid.load import Load
from sim.fluid.runs import Case, Outcome
from sim.oracle.bounds import bounds

OURS: Final = "slicewise"
TUNED: Final = "-tuned"


@dataclass(frozen=True, slots=True)
class Plan:
    """`seeds`: 1, 2 … up to this number."""

    traces: tuple[Trace, ...]
    policies: tuple[str, ...]
    peaks: tuple[int, ...]
    cold_starts_s: tuple[float, ...]
    seeds: int


@dataclass(frozen=True, slots=True)
class Unit:
    """What one process does at a time."""

    trace: Trace
    peak_replicas: int
    cold_start_s: float
    policies: tuple[str, ...]
    seeds: int


@dataclass(frozen=True, slots=True)
class Row:
    """The contract of `slicewise sim evaluate --json`. GPU-hours of what counts; pending and draining replicas too.

    `clairvoyant_gpu_hours`: of a schedule that was run and met the target; where even the largest fleet misses it, of
    the largest fleet, and `lower_bound_gpu_hours` is None. `sessions_broken`: requests cut off by scale-in.
    """

    trace: str
    peak_replicas: int
    cold_start_s: float
    seed: int
    policy: str
    attainment: float
    gpu_hours: float
    clairvoyant_gpu_hours: float
    lower_bound_gpu_hours: float | None
    reversals: int
    sessions_broken: float

    def as_dict(self) -> dict[str, Any]:
        """Rounded to what is stable on any machine."""
        return {k: round(v, 6) if isinstance(v, float) else v for k, v in asdict(self).items()}


def names() -> list[str]:
    return [OURS, *BASELINES, *(f"{name}{TUNED}" for name in BASELINES)]


def plan(
    folder: Path, policies: Sequence[str], peaks: Sequence[int], cold_starts_s: Sequence[float], seeds: int
) -> Plan:
    """Raises `TraceError`."""
    return Plan(tuple(find(folder)), tuple(policies), tuple(peaks), tuple(cold_starts_s), seeds)


def units(whole: Plan) -> list[Unit]:
    return [
        Unit(trace, peak, cold_start_s, whole.policies, whole.seeds)
        for trace in whole.traces
        for peak in whole.peaks
        for cold_start_s in whole.cold_starts_s
    ]


def rows(whole: Plan, jobs: int, done: Callable[[int, int], None] = lambda _now, _all: None) -> Iterator[Row]:
    """`done` is told how many units of how many there are. Raises `TraceError`."""
    todo = units(whole)
    if jobs == 1:
        for number, unit in enumerate(todo, start=1):
            yield from work(unit)
            done(number, len(todo))
        return
    with ProcessPoolExecutor(jobs, mp_context=get_context("spawn")) as pool:
        for number, found in enumerate(pool.map(work, todo), start=1):
            yield from found
            done(number, len(todo))


@lru_cache(maxsize=1)
def _source(trace: Trace) -> Source:
    return trace.read()


@lru_cache(maxsize=4)
def _load(trace: Trace, peak_replicas: int, seed: int) -> tuple[Load, int]:
    load = load_for(_source(trace), peak_replicas, seed)
    return load, most_replicas(load)


def work(unit: Unit) -> list[Row]:
    seeds = range(1, unit.seeds + 1)
    cases = [case_of(*_load(unit.trace, unit.peak_replicas, seed), unit.cold_start_s, seed) for seed in seeds]
    possible = [bounds(case) for case in cases]
    found: list[Row] = []
    for policy in unit.policies:
        outcomes = _outcomes(policy, unit.peak_replicas, unit.cold_start_s, cases)
        for seed, outcome, (best, least) in zip(seeds, outcomes, possible, strict=True):
            found.append(
                Row(
                    trace=unit.trace.name,
                    peak_replicas=unit.peak_replicas,
                    cold_start_s=unit.cold_start_s,
                    seed=seed,
                    policy=policy,
                    attainment=outcome.attainment,
                    gpu_hours=outcome.gpu_hours,
                    clairvoyant_gpu_hours=best.gpu_hours,
                    lower_bound_gpu_hours=least,
                    reversals=outcome.reversals,
                    sessions_broken=outcome.broken,
                )
            )
    return sorted(found, key=lambda row: row.seed)  # stable: policies stay in the order they were asked for


def _outcomes(policy: str, peak_replicas: int, cold_start_s: float, cases: Sequence[Case]) -> list[Outcome]:
    if policy == OURS:
        return [outcome_of_production(case, cold_start_s) for case in cases]
    baseline = BASELINES[policy.removesuffix(TUNED)]
    settings = tuned(baseline, peak_replicas, cases) if policy.endswith(TUNED) else baseline.defaults(peak_replicas)
    return [outcome_of(baseline, settings, case)[0] for case in cases]
