"""The engine as a plain server against queueing theory: one request in the batch, one token a request, known times."""

from dataclasses import replace
from math import sqrt

import numpy as np
import pytest
from numpy.typing import NDArray

from sim.serving.compiled import CompiledPool
from sim.serving.pool import Counter, Pool, Status
from sim.serving.times import Times
from sim.serving.turns import PS_PER_S, Turns, open_loop, to_ps
from sim.streams import stream
from tests.sim.engines import constant, shape

SERVICE_S = 0.1
BATCHES = 50


def erlang_c(load: float, servers: int) -> float:
    """Gross and others, Fundamentals of Queueing Theory, section 2.3."""
    b = 1.0
    for n in range(1, servers + 1):
        b = load * b / (n + load * b)
    return b / (1 - load / servers * (1 - b))


def served(turns: Turns, servers: int, times: Times) -> Pool:
    """Replicas of one place each behind the router."""
    pool = CompiledPool(turns)
    for _ in range(servers):
        pool.add(shape(times=times, max_running=1, token_budget=1_000_000, kv_blocks=1_000_000, context=10_000_000))
    pool.run_until(to_ps(1e6))
    return pool


def mean_and_error(values: NDArray[np.float64]) -> tuple[float, float]:
    """Mean and its standard error, from means of long batches because waits are correlated."""
    means = np.array([part.mean() for part in np.array_split(values, BATCHES)])
    return float(means.mean()), float(means.std(ddof=1) / sqrt(BATCHES))


def prefill_only() -> Times:
    """An iteration takes one service time per 1000 prompt tokens: the prompt is the work."""
    return replace(constant(0), b1=round(SERVICE_S * PS_PER_S / 1000))


@pytest.mark.parametrize("load", [0.3, 0.5, 0.7, 0.9])
def test_m_m_1_waits(load: float) -> None:
    random = stream(11, "m-m-1", int(load * 100))
    n = 200_000
    arrivals = np.cumsum(random.exponential(SERVICE_S / load, n))
    work = np.maximum(1, np.rint(random.exponential(1000, n))).astype(np.int64)
    pool = served(open_loop(arrivals, work, np.ones(n, np.int64)), 1, prefill_only())
    outcome = pool.outcome()
    waits_s = (outcome.scheduled_ps - outcome.arrival_ps) / PS_PER_S
    mean, error = mean_and_error(waits_s)
    assert (outcome.status == Status.DONE).all()
    assert mean == pytest.approx(load * SERVICE_S / (1 - load), abs=3 * error)


@pytest.mark.parametrize("servers", [2, 8])
@pytest.mark.parametrize("load", [0.5, 0.8, 0.95])
def test_m_m_c_waits(servers: int, load: float) -> None:
    """Places of one batch are servers with one queue; a thousandth of a service time is an iteration."""
    random = stream(16, "m-m-c", servers, int(load * 100))
    n = 60_000
    arrivals = np.cumsum(random.exponential(SERVICE_S / load / servers, n))
    tokens = np.maximum(1, np.rint(random.exponential(1000, n))).astype(np.int64)
    pool = CompiledPool(open_loop(arrivals, np.ones(n, np.int64), tokens))
    iteration_ps = round(SERVICE_S * PS_PER_S / 1000)
    pool.add(
        shape(
            times=constant(iteration_ps), max_running=servers, token_budget=10_000, kv_blocks=1_000_000, context=10**7
        )
    )
    pool.run_until(to_ps(1e6))
    outcome = pool.outcome()
    mean, error = mean_and_error((outcome.scheduled_ps - outcome.arrival_ps) / PS_PER_S)
    wanted = erlang_c(load * servers, servers) * SERVICE_S / (servers * (1 - load))
    assert mean == pytest.approx(wanted, abs=3 * error + 1.5 * iteration_ps / PS_PER_S)


@pytest.mark.parametrize("load", [0.3, 0.7, 0.9])
def test_m_d_1_waits(load: float) -> None:
    random = stream(12, "m-d-1", int(load * 100))
    n = 200_000
    arrivals = np.cumsum(random.exponential(SERVICE_S / load, n))
    ones = np.ones(n, np.int64)
    pool = served(open_loop(arrivals, ones, ones), 1, constant(round(SERVICE_S * PS_PER_S)))
    outcome = pool.outcome()
    mean, error = mean_and_error((outcome.scheduled_ps - outcome.arrival_ps) / PS_PER_S)
    assert mean == pytest.approx(load * SERVICE_S / (2 * (1 - load)), abs=3 * error)


def test_littles_law_holds_to_a_millionth() -> None:
    """Time average of what is there = arrival rate x mean time there, counted from two sides."""
    random = stream(13, "little")
    n = 20_000
    arrivals = np.cumsum(random.exponential(SERVICE_S / 0.8, n))
    work = np.maximum(1, np.rint(random.exponential(1000, n))).astype(np.int64)
    pool = served(open_loop(arrivals, work, np.ones(n, np.int64)), 1, prefill_only())
    outcome = pool.outcome()
    events = np.concatenate([outcome.arrival_ps, outcome.done_ps])
    change = np.concatenate([np.ones(n), -np.ones(n)])
    order = np.argsort(events, kind="stable")
    inside = np.cumsum(change[order])[:-1]
    area_s = float((inside * np.diff(events[order])).sum()) / PS_PER_S
    assert area_s == pytest.approx(float((outcome.done_ps - outcome.arrival_ps).sum()) / PS_PER_S, rel=1e-6)
    counted_s = float(pool.totals()[Counter.LATENCY_US]) / 1e6
    assert counted_s == pytest.approx(area_s, rel=1e-5)


def test_least_outstanding_is_no_worse_than_random_and_no_better_than_one_queue() -> None:
    """c servers behind the router: above M/M/c (one central queue), below c separate M/M/1."""
    servers, load = 4, 0.8
    random = stream(14, "jsq")
    n = 200_000
    arrivals = np.cumsum(random.exponential(SERVICE_S / load / servers, n))
    work = np.maximum(1, np.rint(random.exponential(1000, n))).astype(np.int64)
    outcome = served(open_loop(arrivals, work, np.ones(n, np.int64)), servers, prefill_only()).outcome()
    mean, error = mean_and_error((outcome.scheduled_ps - outcome.arrival_ps) / PS_PER_S)
    central = erlang_c(load * servers, servers) * SERVICE_S / (servers * (1 - load))
    assert central - 3 * error < mean < load * SERVICE_S / (1 - load)


def test_processor_sharing_is_what_a_wide_batch_of_equal_iterations_is() -> None:
    """Iterations of constant length serve everyone at once: no queue, time = tokens x iteration, M/G/infinity."""
    random = stream(15, "infinite")
    n = 5_000
    arrivals = np.cumsum(random.exponential(0.05, n))
    tokens = random.integers(1, 50, n)
    times = constant(PS_PER_S // 100)
    pool = CompiledPool(open_loop(arrivals, np.ones(n, np.int64), tokens))
    pool.add(shape(times=times, max_running=4096, token_budget=10_000, kv_blocks=1_000_000))
    pool.run_until(to_ps(1e5))
    outcome = pool.outcome()
    stayed = (outcome.done_ps - outcome.scheduled_ps) / PS_PER_S
    np.testing.assert_allclose(stayed, tokens / 100, rtol=1e-9)
