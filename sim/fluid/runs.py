"""One run of a policy over a load, and what came of it."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

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
_TICKS: Final = types.none(
    *(_typeof(value) for value in (H100_70B_TP4, _LOAD, new_pool(_LOAD, _TERMS), _TERMS)),
    types.FunctionType(DECIDE),
    FLOATS,
    FLOATS,
)
"""Written out, so that one compiled loop serves every policy: numba would compile it anew for each."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """Over the ticks that count. `attainment`: share of requests on time. `gpu_hours`: pending and draining too.

    `broken`: requests cut off by scale-in, whose service lasts longer than the drain.
    """

    attainment: float
    gpu_hours: float
    reversals: int
    broken: float


def run(service: Service, load: Load, terms: Terms, decide: Decide, settings: FloatArray, memory: int) -> Outcome:
    """`decide` at every tick; `memory`: how many numbers it remembers, all 0 at first."""
    pool = new_pool(load, terms)
    _ticks(service, load, pool, terms, decide, settings, np.zeros(memory))
    return outcome(service, load, pool, terms)


@of_type(_TICKS)
def _ticks(
    service: Service, load: Load, pool: Pool, terms: Terms, decide: Decide, settings: FloatArray, memory: FloatArray
) -> None:
    for tick in range(len(load.prefill_s)):
        join(pool, tick)
        wanted = decide(settings, look(service, load, pool, tick), memory)
        scale(service, load, pool, terms, tick, wanted)
        serve(service, load, pool, tick, tick >= terms.scored_from)


def run_stepwise(service: Service, load: Load, terms: Terms, wanted: Callable[[Seen], float]) -> Outcome:
    """As `run`, for a policy in Python: the production decision."""
    pool = new_pool(load, terms)
    for tick in range(load.ticks):
        seen = Seen(*_before(service, load, pool, tick))
        _after(service, load, pool, terms, tick, float(wanted(seen)))
    return outcome(service, load, pool, terms)


@compiled
def _before(service: Service, load: Load, pool: Pool, tick: int) -> Seen:
    join(pool, tick)
    return look(service, load, pool, tick)


@compiled
def _after(service: Service, load: Load, pool: Pool, terms: Terms, tick: int, wanted: float) -> None:
    scale(service, load, pool, terms, tick, wanted)
    serve(service, load, pool, tick, tick >= terms.scored_from)


def run_schedule(service: Service, load: Load, terms: Terms, replicas: IntArray) -> Outcome:
    """Serves with `replicas` ready at each tick, as a clairvoyant would: every start begins as long before as it takes.

    Starts are paid for in full, also where they begin before scoring does.
    """
    pool = new_pool(load, terms)
    pool.now["ready"] = replicas[0]
    _follow(service, load, pool, terms, replicas)
    rises = np.maximum(np.diff(replicas), 0)
    rises[: max(0, terms.scored_from - 1)] = 0
    starts = int(rises.sum())
    result = outcome(service, load, pool, terms)
    pending_s = float(cold_start_ticks(terms, starts).sum() * TICK_S)
    return Outcome(
        attainment=result.attainment,
        gpu_hours=result.gpu_hours + pending_s * service.gpus / 3600.0,
        reversals=result.reversals,
        broken=result.broken,
    )


def cold_start_ticks(terms: Terms, starts: int) -> IntArray:
    """Of the first `starts` starts."""
    return np.resize(terms.cold_starts, starts) if starts else np.zeros(0, np.int64)


@compiled
def _follow(service: Service, load: Load, pool: Pool, terms: Terms, replicas: IntArray) -> None:
    instant = Terms(np.zeros(1, np.int64), terms.scored_from, terms.first_replicas, 1 << 30)
    for tick in range(len(load.prefill_s)):
        if replicas[tick] > pool.now[0].ready:
            pool.now[0].ready = float(replicas[tick])
        elif replicas[tick] < pool.now[0].ready:
            scale(service, load, pool, instant, tick, float(replicas[tick]))
        serve(service, load, pool, tick, tick >= terms.scored_from)


def outcome(service: Service, load: Load, pool: Pool, terms: Terms) -> Outcome:
    now = pool.now[0]
    last = len(load.requests) - 1
    asked = load.requests_sum[last] - load.requests_sum[max(0, terms.scored_from * TICK_S - 1)]
    return Outcome(
        attainment=1.0 - float(now["late"] / asked) if asked > 0.0 else 1.0,
        gpu_hours=float(now["replica_s"]) * service.gpus / 3600.0,
        reversals=int(now["reversals"]),
        broken=float(now["broken"]),
    )
