"""The pool: replicas that serve, start and drain; what runs, and what waits in one queue, first in first out.

One second of `serve`: requests are admitted into free slots, prefilled in the iterations of the second, decode in
batches and end. With n sequences in R replicas, the share p of the time that goes to prefill, and m output tokens a
request, n' = a - n (1 - p) / (T(n/R) m), solved exactly for a second. Admission a is what waits, what the slots allow
and what the token budget allows, whichever is least. The oracle's relaxed pool shares `admission`: its lower bound
rests on that a pool with more to do never gets done sooner.
"""

from math import exp, expm1
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from sim.fluid.jit import compiled
from sim.fluid.load import FloatArray, Load
from sim.fluid.service import DRAIN_S, TICK_S, Service

IntArray = NDArray[np.int64]

REVERSAL_S: Final = 600
"""A change of direction within this time of the change before it is a reversal."""

SURELY: Final = 1.0 - 1e-9
"""Far more than what rounding could make of a comparison."""

NOW: Final = np.dtype(
    [
        ("ready", "f8"),  #: replicas that serve
        ("pending", "i8"),  #: replicas that start
        ("running", "f8"),  #: requests in service
        ("admitted", "f8"),  #: work admitted since the beginning, replica-seconds
        ("starts", "i8"),  #: replicas started since the beginning
        ("direction", "f8"),  #: of the last change: 1 up, -1 down, 0 none yet
        ("changed_s", "f8"),  #: when
        ("replica_s", "f8"),  #: this and what follows: since scoring began
        ("late", "f8"),  #: requests admitted too late
        ("broken", "f8"),  #: requests cut off by the removal of their replica
        ("reversals", "i8"),
    ]
)


class Terms(NamedTuple):
    """Of one run. `cold_starts`: ticks that the first, second … start takes. `scored_from`: first tick that counts."""

    cold_starts: IntArray
    scored_from: int
    first_replicas: int
    max_replicas: int


class Pool(NamedTuple):
    """`now`: one record of `NOW`. `ready_at`: ticks at which pending replicas join, oldest start first.

    `running_sum`, `queued_sum`: requests at the end of each second, as running sums; `late_sum`: requests that were
    found to be late, likewise.
    """

    now: Any
    ready_at: IntArray
    running_sum: FloatArray
    queued_sum: FloatArray
    late_sum: FloatArray


class World(NamedTuple):
    """All that one run knows and changes."""

    service: Service
    load: Load
    terms: Terms
    pool: Pool


def new_world(service: Service, load: Load, terms: Terms) -> World:
    seconds = len(load.requests)
    now = np.zeros(1, NOW)
    now["ready"] = terms.first_replicas
    pool = Pool(
        now=now,
        ready_at=np.zeros(terms.max_replicas + 1, np.int64),
        running_sum=np.zeros(seconds + 1),
        queued_sum=np.zeros(seconds + 1),
        late_sum=np.zeros(seconds + 1),
    )
    return World(service, load, terms, pool)


class Requests(NamedTuple):
    """Of one tick: what serves them, and what each of them takes."""

    ready: float
    prefill_s: float
    output_tokens: float


@compiled
def admission(world: World, tick: int, waiting: float) -> tuple[float, float]:
    """Of `waiting` requests, those that are admitted in one second; and requests in service at its end."""
    now = world.pool.now[0]
    requests = Requests(now.ready, world.load.prefill_s[tick], world.load.output_tokens[tick])
    return _admission(world.service, requests, now.running, waiting)


@compiled
def _admission(service: Service, requests: Requests, running: float, waiting: float) -> tuple[float, float]:
    ready = requests.ready
    slots = ready * service.slots
    batch = min(slots, running + waiting) / ready
    iteration_s = service.base_s + service.per_sequence_s * batch
    ends_per_s = 1.0 / (iteration_s * requests.output_tokens)  # of one sequence, while nothing is prefilled
    share = requests.prefill_s / ready  # of the second, that one admission takes
    chunk_s = (service.budget_tokens - batch) * service.prefill_s
    admitted = waiting
    # Most seconds admit all, which is told without an exponential: x / expm1(x) >= 1 - x / 2.
    least_by_slots = slots * ends_per_s + (slots - running) * (1.0 - 0.5 * ends_per_s)
    fits = SURELY * least_by_slots >= waiting * (1.0 + slots * ends_per_s * share)
    if not fits or SURELY * chunk_s < waiting * share * (iteration_s + chunk_s):
        refill = ends_per_s / expm1(ends_per_s)
        by_slots = (slots * ends_per_s + (slots - running) * refill) / (1.0 + slots * ends_per_s * share)
        by_budget = chunk_s / (iteration_s + chunk_s) / share
        admitted = max(0.0, min(waiting, by_slots, by_budget))
    rate = ends_per_s * (1.0 - admitted * share)
    left = exp(-rate)
    after = running * left + admitted * (1.0 - left) / rate
    if after > slots:
        admitted = max(0.0, admitted - (after - slots))
        after = slots
    return admitted, after


@compiled
def serve(world: World, tick: int) -> None:
    """The seconds of one tick."""
    service, load, pool = world.service, world.load, world.pool
    now = pool.now[0]
    scored = tick >= world.terms.scored_from
    ready, running, done, late_so_far = now.ready, now.running, now.admitted, now.late
    requests = Requests(ready, load.prefill_s[tick], load.output_tokens[tick])
    decode_s = (service.base_s + service.per_sequence_s * service.slots) / service.slots
    request_s = requests.prefill_s + requests.output_tokens * decode_s
    for second in range(tick * TICK_S, (tick + 1) * TICK_S):
        before, until = load.work_sum[second], load.work_sum[second + 1]
        if ready > 0.0:
            waiting = max(0.0, until - done) / request_s
            admitted, running = _admission(service, requests, running, waiting)
            done = min(done + admitted * request_s, until)
        late = 0.0
        arrived = before - load.work_sum[second - 1] if second > 0 else 0.0
        if arrived > 0.0:  # one second ago; what of it still waits is late
            late = min(1.0, max(0.0, before - done) / arrived) * load.requests[second - 1]
        if scored:
            late_so_far += late
        pool.late_sum[second + 1] = pool.late_sum[second] + late
        pool.running_sum[second + 1] = pool.running_sum[second] + running
        queued = max(0.0, until - done) / request_s
        pool.queued_sum[second + 1] = pool.queued_sum[second] + queued
    now.running, now.admitted, now.late = running, done, late_so_far
    if scored:
        now.replica_s += TICK_S * (ready + now.pending)


@compiled
def remove(world: World, tick: int, replicas: float) -> None:
    """Takes `replicas` that serve out; their requests go on there for the time of the drain, and then they break."""
    service, now = world.service, world.pool.now[0]
    gone = now.running * replicas / now.ready
    batch = min(service.slots, now.running / now.ready)
    service_s = (service.base_s + service.per_sequence_s * batch) * world.load.output_tokens[tick]
    now.running -= gone
    now.ready -= replicas
    if tick >= world.terms.scored_from:
        now.broken += gone * exp(-DRAIN_S / service_s)
        now.replica_s += DRAIN_S * replicas


@compiled
def join(world: World, tick: int) -> None:
    """Replicas whose start ends now serve from now on."""
    pool = world.pool
    now = pool.now[0]
    kept = 0
    for i in range(now.pending):
        if pool.ready_at[i] > tick:
            pool.ready_at[kept] = pool.ready_at[i]
            kept += 1
    now.ready += now.pending - kept
    now.pending = kept


@compiled
def scale(world: World, tick: int, wanted: float) -> None:
    """Starts or removes replicas so that `wanted` are there; those that still start are the first to go."""
    pool, terms = world.pool, world.terms
    now = pool.now[0]
    there = now.ready + now.pending
    wanted = min(max(wanted, 1.0), float(terms.max_replicas))
    if wanted == there:
        return
    direction = 1.0 if wanted > there else -1.0
    at_s = float(tick * TICK_S)
    if tick >= terms.scored_from and now.direction == -direction and at_s - now.changed_s < REVERSAL_S:
        now.reversals += 1
    now.direction, now.changed_s = direction, at_s
    for _ in range(int(max(0.0, wanted - there))):
        pool.ready_at[now.pending] = tick + terms.cold_starts[now.starts % len(terms.cold_starts)]
        now.pending += 1
        now.starts += 1
    cancelled = int(min(float(now.pending), max(0.0, there - wanted)))
    now.pending -= cancelled
    if there - wanted - cancelled > 0.0:
        remove(world, tick, there - wanted - cancelled)
