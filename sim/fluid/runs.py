"""One run of a policy over a load, and what came of it."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

import numpy as np
from numba import typeof, types

from sim.fluid.jit import compiled, of_type
from sim.fluid.load import Counts, FloatArray, Load, load_of
from sim.fluid.pool import IntArray, Terms, World, join, new_world, scale, serve
from sim.fluid.seen import DECIDE, FLOATS, Seen, look
from sim.fluid.service import H100_70B_TP4, TICK_S, Service

Decide = Any  #: a compiled function of type `DECIDE`


class Limits(NamedTuple):
    """A run is given up once it has more late requests or more replica-seconds than this."""

    late: float = float("inf")
    replica_s: float = float("inf")


NO_LIMITS: Final = Limits()

_LOAD: Final = load_of(H100_70B_TP4, Counts(np.ones(TICK_S), np.ones(TICK_S), np.ones(TICK_S)))
_WORLD: Final = new_world(H100_70B_TP4, _LOAD, Terms(np.ones(1, np.int64), 0, 1, 1))
_typeof: Any = typeof
_TICKS: Final = types.int64(_typeof(_WORLD), types.FunctionType(DECIDE), FLOATS, FLOATS, _typeof(NO_LIMITS))
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

    def world(self) -> World:
        """A pool at the beginning of the load."""
        return new_world(self.service, self.load, self.terms)

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


def run(
    case: Case, decide: Decide, settings: FloatArray, memory: int, limits: Limits = NO_LIMITS
) -> tuple[Outcome, int]:
    """`decide` at every tick, and how many ticks it was let go on. `memory`: numbers it remembers, all 0 at first."""
    world = case.world()
    ticks = _ticks(world, decide, settings, np.zeros(memory), limits)
    return outcome(case, world), int(ticks)


@of_type(_TICKS)
def _ticks(world: World, decide: Decide, settings: FloatArray, memory: FloatArray, limits: Limits) -> int:
    now = world.pool.now[0]
    for tick in range(len(world.load.prefill_s)):
        if now.late > limits.late or now.replica_s > limits.replica_s:
            return tick
        join(world, tick)
        scale(world, tick, decide(settings, look(world, tick), memory))
        serve(world, tick)
    return len(world.load.prefill_s)


def run_stepwise(case: Case, wanted: Callable[[Seen], float]) -> Outcome:
    """As `run`, for a policy in Python: the production decision."""
    world = case.world()
    for tick in range(case.load.ticks):
        seen = Seen(*_before(world, tick))
        _after(world, tick, float(wanted(seen)))
    return outcome(case, world)


@compiled
def _before(world: World, tick: int) -> Seen:
    join(world, tick)
    return look(world, tick)


@compiled
def _after(world: World, tick: int, wanted: float) -> None:
    scale(world, tick, wanted)
    serve(world, tick)


def run_schedule(case: Case, replicas: IntArray) -> Outcome:
    """Serves with `replicas` ready at each tick, as a clairvoyant would: every start begins as long before as it takes.

    What a start takes is paid for, but for what of it lies before scoring begins.
    """
    free = case.terms._replace(max_replicas=max(int(replicas.max()), 1))
    world = new_world(case.service, case.load, free)
    world.pool.now["ready"] = replicas[0]
    _follow(world, replicas)
    rises = np.maximum(np.diff(replicas), 0)
    rises[: max(0, case.terms.scored_from - 1)] = 0
    since = np.repeat(np.arange(1, len(replicas)) - case.terms.scored_from, rises)  # ticks until each start is ready
    took = np.resize(case.terms.cold_starts, len(since)) if len(since) else since
    world.pool.now["replica_s"] += float(np.minimum(took, since).sum() * TICK_S)
    return outcome(case, world)


@compiled
def _follow(world: World, replicas: IntArray) -> None:
    now = world.pool.now[0]
    for tick in range(len(world.load.prefill_s)):
        if replicas[tick] > now.ready:
            now.ready = float(replicas[tick])
        elif replicas[tick] < now.ready:
            scale(world, tick, float(replicas[tick]))
        serve(world, tick)


def outcome(case: Case, world: World) -> Outcome:
    now = world.pool.now[0]
    return Outcome(
        attainment=1.0 - float(now["late"] / case.asked) if case.asked > 0.0 else 1.0,
        gpu_hours=float(now["replica_s"]) * case.gpu_hours_per_s,
        reversals=int(now["reversals"]),
        broken=float(now["broken"]),
    )
