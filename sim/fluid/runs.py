"""One run of a policy over a load, and what came of it."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

import numpy as np

from numba import typeof, types

from sim.fluid.jit import compiled, of_type
from sim.fluid.load import Counts, FloatArray, Load, load_of
from sim.fluid.pool import IntArray, Pool, Terms, join, new_pool, scale, serve
from sim.fluid.seen import DECIDE, FLOATS, Seen, look
from sim.fluid.service import H100_70B_TP4, TICK_S, Service

Decide = Any  #: a compiled function of type `DECIDE`

_LOAD: Final = load_of(H100_70B_TP4, Counts(np.ones(TICK_S), np.ones(TICK_S), np.ones(TICK_S)))
_TERMS: Final = Terms(np.ones(1, np.int64), 0, 1, 1)
_typeof: Any = typeof
_TICKS: Final = types.int64(
    *(_typeof(value) for value in (H100_70B_TP4, _LOAD, new_pool(_LOAD, _TERMS), _TERMS)),
    types.FunctionType(DECIDE),
    FLOATS,
    FLOATS,
    types.float64,
    types.float64,
)
"""Written out, so that one compiled loop serves every policy: numba would compile it anew for each."""


@dataclass(frozen=True, slots=True)
class Case:
    """One load on one kind of replica, and how it is scored."""

    service: Service
    load: Load
    terms: Terms

    @property
    def asked(self) -> float:
        """Requests that count: those of which it is known at the end whether they were on time."""
        sums = self.load.requests_sum
        return float(sums[len(self.load.requests) - 1] - sums[max(0, self.terms.scored_from * TICK_S - 1)])

    @property
    def gpu_hours_per_s(self) -> float:
        """GPU-hours of a replica-second."""
        return self.service.gpus / 3600.0


@dataclass(frozen=True, slots=True)
class Outcome:
    """Over the ticks that count. `attainment`: share of requests on time. `gpu_hours`: pending and draining too.

    `broken`: requests cut off by scale-in, whose service lasts longer than the drain.
    """

    attainment: float
    gpu_hours: float
    reversals: int
    broken: float


class Limits(NamedTuple):
    """A run is given up once it has more late requests or more replica-seconds than this."""

    late: float = float("inf")
    replica_s: float = float("inf")


NO_LIMITS: Final = Limits()


def run(
    case: Case, decide: Decide, settings: FloatArray, memory: int, limits: Limits = NO_LIMITS
) -> tuple[Outcome, int]:
    """`decide` at every tick, and how many ticks it was let go on. `memory`: numbers it remembers, all 0 at first."""
    pool = new_pool(case.load, case.terms)
    ticks = _ticks(case.service, case.load, pool, case.terms, decide, settings, np.zeros(memory), *limits)
    return outcome(case, pool), int(ticks)


@of_type(_TICKS)
def _ticks(
    service: Service,
    load: Load,
    pool: Pool,
    terms: Terms,
    decide: Decide,
    settings: FloatArray,
    memory: FloatArray,
    most_late: float,
    most_replica_s: float,
) -> int:
    for tick in range(len(load.prefill_s)):
        if pool.now[0].late > most_late or pool.now[0].replica_s > most_replica_s:
            return tick
        join(pool, tick)
        wanted = decide(settings, look(service, load, pool, tick), memory)
        scale(service, load, pool, terms, tick, wanted)
        serve(service, load, pool, tick, tick >= terms.scored_from)
    return len(load.prefill_s)


def run_stepwise(case: Case, wanted: Callable[[Seen], float]) -> Outcome:
    """As `run`, for a policy in Python: the production decision."""
    pool = new_pool(case.load, case.terms)
    for tick in range(case.load.ticks):
        seen = Seen(*_before(case.service, case.load, pool, tick))
        _after(case.service, case.load, pool, case.terms, tick, float(wanted(seen)))
    return outcome(case, pool)


@compiled
def _before(service: Service, load: Load, pool: Pool, tick: int) -> Seen:
    join(pool, tick)
    return look(service, load, pool, tick)


@compiled
def _after(service: Service, load: Load, pool: Pool, terms: Terms, tick: int, wanted: float) -> None:
    scale(service, load, pool, terms, tick, wanted)
    serve(service, load, pool, tick, tick >= terms.scored_from)


def run_schedule(case: Case, replicas: IntArray) -> Outcome:
    """Serves with `replicas` ready at each tick, as a clairvoyant would: every start begins as long before as it takes.

    Starts are paid for in full, also where they begin before scoring does.
    """
    pool = new_pool(case.load, case.terms)
    pool.now["ready"] = replicas[0]
    _follow(case.service, case.load, pool, case.terms, replicas)
    rises = np.maximum(np.diff(replicas), 0)
    rises[: max(0, case.terms.scored_from - 1)] = 0
    starts = np.resize(case.terms.cold_starts, int(rises.sum())) if rises.any() else np.zeros(0)
    pool.now["replica_s"] += float(starts.sum() * TICK_S)
    return outcome(case, pool)


@compiled
def _follow(service: Service, load: Load, pool: Pool, terms: Terms, replicas: IntArray) -> None:
    instant = Terms(np.zeros(1, np.int64), terms.scored_from, terms.first_replicas, 1 << 30)
    for tick in range(len(load.prefill_s)):
        if replicas[tick] > pool.now[0].ready:
            pool.now[0].ready = float(replicas[tick])
        elif replicas[tick] < pool.now[0].ready:
            scale(service, load, pool, instant, tick, float(replicas[tick]))
        serve(service, load, pool, tick, tick >= terms.scored_from)


def outcome(case: Case, pool: Pool) -> Outcome:
    now = pool.now[0]
    return Outcome(
        attainment=1.0 - float(now["late"] / case.asked) if case.asked > 0.0 else 1.0,
        gpu_hours=float(now["replica_s"]) * case.gpu_hours_per_s,
        reversals=int(now["reversals"]),
        broken=float(now["broken"]),
    )
