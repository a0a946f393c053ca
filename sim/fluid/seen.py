"""What a policy sees at a tick: the past only, and that with the age that metrics have."""

from typing import Any, Final, NamedTuple

from numba import types

from sim.fluid.jit import compiled
from sim.fluid.load import FloatArray, Load
from sim.fluid.pool import World
from sim.fluid.service import METRIC_AGE_S, TICK_S, Service

PROXY_AGE_S: Final = 4
"""Age of what a proxy in front of the replicas counts itself (Knative's queue-proxy and activator)."""

ENDED_AGE_S: Final = 60
ENDED_WINDOW_S: Final = 600
"""Output lengths are known of requests that have ended: as a mean over this window, which ends so long ago."""

PRIOR_OUTPUT_TOKENS: Final = 200.0
"""Output tokens of a request, as long as none has ended."""


class Seen(NamedTuple):
    """Of the moment that metrics show, `METRIC_AGE_S` ago, unless said otherwise. Never the future, nor true lengths.

    `now_s`, `ready`, `pending`: of now; replicas. `slots`, `kv_tokens`: of a replica. `queued`, `running`: requests.
    `in_flight_…`: queued and running, mean over a window; up to 60 s as a proxy sees them (`PROXY_AGE_S`).
    `requests_per_s`, `prompt_tokens` of a request: over 180 s. `output_tokens`: of a request that has ended.
    `work_…`: replicas kept busy by what arrives, mean over a window; with `output_tokens` for what is not known yet.
    `queued_work_s`: replica-seconds of work that wait. `arrived_15s`, `late_15s`: requests of the last 15 s that
    arrived, and that were found to be late.
    """

    now_s: float
    ready: float
    pending: float
    slots: float
    kv_tokens: float
    queued: float
    running: float
    in_flight_6s: float
    in_flight_30s: float
    in_flight_60s: float
    in_flight_600s: float
    requests_per_s: float
    prompt_tokens: float
    output_tokens: float
    work_30s: float
    work_60s: float
    work_180s: float
    queued_work_s: float
    arrived_15s: float
    late_15s: float


FLOATS: Final = types.Array(types.float64, 1, "C")
_tuple: Any = types.NamedUniTuple  # numba's own types have none
DECIDE: Final = types.float64(FLOATS, _tuple(types.float64, len(Seen._fields), Seen), FLOATS)
"""Type of every baseline: (settings, seen, memory) -> replicas wanted.

`memory` is the policy's state: it depends on nothing else, and leaves there what it wants to know next time.
"""


@compiled
def mean_before(running_sum: FloatArray, until: int, window: int) -> float:
    """Mean over the `window` seconds before `until`; what lies before the beginning counts as 0."""
    until = max(0, until)
    return float(running_sum[until] - running_sum[max(0, until - window)]) / window


@compiled
def output_tokens_seen(load: Load, now: int) -> float:
    """Mean of the requests that arrived a while ago, and so have ended."""
    until = max(0, now - ENDED_AGE_S)
    since = max(0, until - ENDED_WINDOW_S)
    requests = load.requests_sum[until] - load.requests_sum[since]
    if requests < 1.0:
        return PRIOR_OUTPUT_TOKENS
    return float((load.output_tokens_sum[until] - load.output_tokens_sum[since]) / requests)


@compiled
def look(world: World, tick: int) -> Seen:
    service, load, pool = world.service, world.load, world.pool
    now = tick * TICK_S
    at, proxy_at = max(0, now - METRIC_AGE_S), max(0, now - PROXY_AGE_S)
    output_tokens = output_tokens_seen(load, now)
    decode_s = (service.base_s + service.per_sequence_s * service.slots) / service.slots
    request_decode_s = output_tokens * decode_s
    requests_per_s = mean_before(load.requests_sum, at, 180)
    prompts_per_s = mean_before(load.prompt_tokens_sum, at, 180)
    prompt_tokens = prompts_per_s / requests_per_s if requests_per_s > 1e-9 else 0.0
    queued = pool.queued_sum[at] - pool.queued_sum[max(0, at - 1)]
    return Seen(
        float(now),
        float(pool.now[0].ready),
        float(pool.now[0].pending),
        service.slots,
        service.kv_tokens,
        queued,
        pool.running_sum[at] - pool.running_sum[max(0, at - 1)],
        mean_before(pool.queued_sum, proxy_at, 6) + mean_before(pool.running_sum, proxy_at, 6),
        mean_before(pool.queued_sum, proxy_at, 30) + mean_before(pool.running_sum, proxy_at, 30),
        mean_before(pool.queued_sum, proxy_at, 60) + mean_before(pool.running_sum, proxy_at, 60),
        mean_before(pool.queued_sum, at, 600) + mean_before(pool.running_sum, at, 600),
        requests_per_s,
        prompt_tokens,
        output_tokens,
        _work(service, load, at, 30, request_decode_s),
        _work(service, load, at, 60, request_decode_s),
        _work(service, load, at, 180, request_decode_s),
        queued * (prompt_tokens * service.prefill_s + request_decode_s),
        15.0 * mean_before(load.requests_sum, at, 15),
        15.0 * mean_before(pool.late_sum, at, 15),
    )


@compiled
def _work(service: Service, load: Load, at: int, window: int, request_decode_s: float) -> float:
    prompts = mean_before(load.prompt_tokens_sum, at, window) * service.prefill_s
    return float(prompts + mean_before(load.requests_sum, at, window) * request_decode_s)
