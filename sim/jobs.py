"""Many runs, in one process or several or on a Ray cluster: always the same reports in the same order."""

from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import lru_cache
from multiprocessing import get_context
from pathlib import Path

from sim.changes import Changes
from sim.report.model import Report
from sim.run import load, simulate
from sim.scenario import Scenario
from sim.serving.jit import compiled_before


class RayMissingError(RuntimeError):
    """Asked for, and not installed."""


@dataclass(frozen=True, slots=True)
class Job:
    """One run. `scenario` has been loaded with these changes before, so that its faults are known."""

    scenario: Path
    changes: Changes
    seed: int
    trace: Path | None = None


def run(job: Job) -> Report:
    return simulate(_loaded(job.scenario, job.changes), job.seed, job.trace)


@lru_cache(maxsize=64)
def _loaded(path: Path, changes: Changes) -> Scenario:
    return load(path, changes)


def reports(jobs: Sequence[Job], processes: int, ray: str | None = None) -> Iterator[Report]:
    """One for each job, in their order, whoever ran them. `ray`: address of a cluster, `auto`, or `local`.

    Raises what `simulate` raises, and `RayMissingError`.
    """
    if ray is not None:
        yield from _on_ray(jobs, ray)
        return
    ahead = 0
    if processes > 1 and jobs and not compiled_before():
        yield run(jobs[0])  # so that one process compiles, and not all of them at once
        ahead = 1
    if processes <= 1 or len(jobs) - ahead <= 1:
        yield from map(run, jobs[ahead:])
        return
    with ProcessPoolExecutor(min(processes, len(jobs) - ahead), get_context("spawn")) as pool:
        yield from pool.map(run, jobs[ahead:])


def _on_ray(jobs: Sequence[Job], address: str) -> Iterator[Report]:
    """Scenario files and traces must lie under the same paths on every machine."""
    try:
        import ray  # noqa: PLC0415  # an extra
    except ModuleNotFoundError as e:
        raise RayMissingError("--ray needs the Python package ray: pip install 'slicewise[sim,ray]'") from e
    ray.init(address=None if address == "local" else address, log_to_driver=False)
    try:
        task = ray.remote(run)
        for handle in [task.remote(job) for job in jobs]:
            yield ray.get(handle)
    finally:
        ray.shutdown()
