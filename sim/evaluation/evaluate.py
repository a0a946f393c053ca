"""Every trace x peak x cold start x seed x policy as one row, in that order, whatever the number of processes."""

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import asdict, dataclass
from functools import lru_cache
from multiprocessing import get_context
from pathlib import Path
from typing import Any, Final, NamedTuple

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
LOADS: Final = 6
"""A process keeps so many, of up to 30 MB each."""

Result = tuple[Outcome, float | None]
"""And, of the clairvoyant schedule, the lower bound on GPU-hours."""


@dataclass(frozen=True, slots=True)
class Plan:
    """`seeds`: 1, 2 … up to this number."""

    traces: tuple[Trace, ...]
    policies: tuple[str, ...]
    peaks: tuple[int, ...]
    cold_starts_s: tuple[float, ...]
    seeds: int


@dataclass(frozen=True, slots=True)
class Scenario:
    trace: Trace
    peak_replicas: int
    cold_start_s: float


@dataclass(frozen=True, slots=True)
class Task:
    """What one process does at a time: the bounds (`policy` is None), or a policy with all `seeds`."""

    scenario: Scenario
    seeds: tuple[int, ...]
    policy: str | None = None

    @property
    def effort_s(self) -> float:
        """Roughly, on one core: for what is left to do."""
        trace, seeds = self.scenario.trace, len(self.seeds)
        if self.policy is None:
            return seeds * (6.0 + 0.1 * self.scenario.peak_replicas) * (1.0 if trace.is_week else 0.5)
        of_a_week_s = {OURS: 2.5 * seeds}.get(self.policy, 1.0 if self.policy.endswith(TUNED) else 0.05 * seeds)
        return of_a_week_s * (1.0 if trace.is_week else 0.01)


class Done(NamedTuple):
    """How far it has come: `effort_s` of `whole_s`, and scenarios that are finished."""

    effort_s: float
    whole_s: float
    scenarios: int
    of_scenarios: int


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


def scenarios(whole: Plan) -> list[Scenario]:
    return [
        Scenario(trace, peak, cold_start_s)
        for trace in whole.traces
        for peak in whole.peaks
        for cold_start_s in whole.cold_starts_s
    ]


def tasks(whole: Plan) -> list[Task]:
    """In the order in which they begin: long ones first, so that no process ends long after the others.

    Those that share loads stand together: a process makes a load once for them.
    """
    seeds = tuple(range(1, whole.seeds + 1))
    found: list[Task] = []
    for scenario in sorted(scenarios(whole), key=lambda it: (-it.peak_replicas, not it.trace.is_week, it.trace.name)):
        found += [Task(scenario, (seed,)) for seed in seeds]
        found += [Task(scenario, seeds, policy) for policy in whole.policies]
    return found


def rows(whole: Plan, jobs: int, told: Callable[[Done], None] = lambda _done: None) -> list[Row]:
    """`told` is called after each task. Raises `TraceError`."""
    todo = tasks(whole)
    missing = Counter(task.scenario for task in todo)
    whole_s, done_s = sum(task.effort_s for task in todo), 0.0
    found: dict[Task, list[Result]] = {}
    for task, results in _worked(todo, jobs):
        found[task] = results
        missing[task.scenario] -= 1
        done_s += task.effort_s
        told(Done(done_s, whole_s, sum(left == 0 for left in missing.values()), len(missing)))
    return [row for scenario in scenarios(whole) for row in _rows_of(scenario, whole, found)]


def _worked(todo: Sequence[Task], jobs: int) -> Iterator[tuple[Task, list[Result]]]:
    """Each task with its results, in the order in which they end."""
    if jobs == 1:
        for task in todo:
            yield task, work(task)
        return
    with ProcessPoolExecutor(jobs, mp_context=get_context("spawn")) as pool:
        running = {pool.submit(work, task): task for task in todo}
        try:
            for ended in as_completed(running):
                yield running[ended], ended.result()
        finally:
            pool.shutdown(wait=False, cancel_futures=True)


@lru_cache(maxsize=1)
def _source(trace: Trace) -> Source:
    return trace.read()


@lru_cache(maxsize=LOADS)
def _load(trace: Trace, peak_replicas: int, seed: int) -> tuple[Load, int]:
    load = load_for(_source(trace), peak_replicas, seed)
    return load, most_replicas(load)


def work(task: Task) -> list[Result]:
    """By seed: a policy's outcome, or the clairvoyant's with the lower bound."""
    scenario = task.scenario
    cases = [
        case_of(*_load(scenario.trace, scenario.peak_replicas, seed), scenario.cold_start_s, seed)
        for seed in task.seeds
    ]
    if task.policy is None:
        return [bounds(case) for case in cases]
    return [(outcome, None) for outcome in _outcomes(task.policy, scenario, cases)]


def _outcomes(policy: str, scenario: Scenario, cases: Sequence[Case]) -> list[Outcome]:
    if policy == OURS:
        return [outcome_of_production(case, scenario.cold_start_s) for case in cases]
    baseline, peak = BASELINES[policy.removesuffix(TUNED)], scenario.peak_replicas
    settings = tuned(baseline, peak, cases) if policy.endswith(TUNED) else baseline.defaults(peak)
    return [outcome_of(baseline, settings, case)[0] for case in cases]


def _rows_of(scenario: Scenario, whole: Plan, found: Mapping[Task, list[Result]]) -> Iterator[Row]:
    seeds = tuple(range(1, whole.seeds + 1))
    for i, seed in enumerate(seeds):
        best, least = found[Task(scenario, (seed,))][0]
        for policy in whole.policies:
            outcome, _ = found[Task(scenario, seeds, policy)][i]
            yield Row(
                trace=scenario.trace.name,
                peak_replicas=scenario.peak_replicas,
                cold_start_s=scenario.cold_start_s,
                seed=seed,
                policy=policy,
                attainment=outcome.attainment,
                gpu_hours=outcome.gpu_hours,
                clairvoyant_gpu_hours=best.gpu_hours,
                lower_bound_gpu_hours=least,
                reversals=outcome.reversals,
                sessions_broken=outcome.broken,
            )
