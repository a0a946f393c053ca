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
RHO = [0.3, 0.5, 0.7, 0.9, 0.95]


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


@pytest.mark.parametrize("load", RHO)
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
@pytest.mark.parametrize("load", RHO)
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


@pytest.mark.parametrize("load", RHO)
def test_m_d_1_waits(load: float) -> None:
    random = stream(12, "m-d-1", int(load * 100))
    n = 200_000
    arrivals = np.cumsum(random.exponential(SERVICE_S / load, n))
    ones = np.ones(n, np.int64)
    pool = served(open_loop(arrivals, ones, ones), 1, constant(round(SERVICE_S * PS_PER_S)))
    outcome = pool.outcome()
    mean, error = mean_and_error((outcome.scheduled_ps - outcome.arrival_ps) / PS_PER_S)
    assert mean == pytest.approx(load * SERVICE_S / (2 * (1 - load)), abs=3 * error)


def sharing(quantum_ps: int) -> Times:
    """An iteration takes a quantum for each request in it: all share one server."""
    return replace(constant(0), c1=quantum_ps, mixed_c1=quantum_ps, p2=quantum_ps)


def works(kind: str, random: np.random.Generator, n: int) -> NDArray[np.int64]:
    """Tokens, 200 in the mean; the time that a request has the whole server to itself is proportional to them."""
    match kind:
        case "exponential":
            tokens = random.exponential(200, n)
        case "equal":
            tokens = np.full(n, 200.0)
        case _:  # two kinds of requests, squared coefficient of variation 3.3
            tokens = np.where(random.uniform(size=n) < 0.8, random.exponential(80, n), random.exponential(680, n))
    return np.maximum(1, np.rint(tokens)).astype(np.int64)


@pytest.mark.parametrize("kind", ["exponential", "equal", "two kinds"])
@pytest.mark.parametrize("load", RHO)
def test_m_g_1_processor_sharing(load: float, kind: str) -> None:
    """Mean time in the system is E[S] / (1 - rho), whatever the distribution: a batch shares the GPU.

    A quantum is a 200th of a service time; a request waits for the end of the iteration that it comes in, half of it in
    the mean, and that is as long as there are requests in it.
    """
    random = stream(17, "m-g-1-ps", int(load * 100))
    n = 40_000 if load < 0.9 else 120_000
    tokens = works(kind, random, n)
    quantum_ps = round(SERVICE_S * PS_PER_S / 200)
    arrivals = np.cumsum(random.exponential(SERVICE_S / load, n))
    pool = CompiledPool(open_loop(arrivals, np.ones(n, np.int64), tokens))
    pool.add(shape(times=sharing(quantum_ps), max_running=2048, token_budget=4096, kv_blocks=10_000_000, context=10**7))
    pool.run_until(to_ps(1e6))
    outcome = pool.outcome()
    mean, error = mean_and_error((outcome.done_ps - outcome.arrival_ps) / PS_PER_S)
    served = float(tokens.mean()) * quantum_ps / PS_PER_S
    rho = served * n / float(arrivals[-1])
    wanted = served / (1 - rho)
    assert mean == pytest.approx(wanted, abs=max(3 * error, 0.01 * wanted))


def erlang_loss(load: float, servers: int, places: int) -> float:
    """Share of arrivals that find all places taken, M/M/c/K. Gross and others, section 2.5."""
    weights = [1.0]
    for n in range(1, places + 1):
        weights.append(weights[-1] * load / min(n, servers))
    return weights[-1] / sum(weights)


@pytest.mark.parametrize(("servers", "places"), [(1, 1), (1, 5), (4, 4), (4, 10)])
@pytest.mark.parametrize("load", RHO)
def test_m_m_c_k_refuses(load: float, servers: int, places: int) -> None:
    random = stream(18, "m-m-c-k", servers, places, int(load * 100))
    n = 60_000
    arrivals = np.cumsum(random.exponential(SERVICE_S / load / servers, n))
    tokens = np.maximum(1, np.rint(random.exponential(1000, n))).astype(np.int64)
    pool = CompiledPool(open_loop(arrivals, np.ones(n, np.int64), tokens))
    pool.add(
        shape(
            times=constant(round(SERVICE_S * PS_PER_S / 1000)),
            max_running=servers,
            token_budget=10_000,
            kv_blocks=1_000_000,
            context=10**7,
            max_requests=places,
        )
    )
    pool.run_until(to_ps(1e6))
    outcome = pool.outcome()
    refused, error = mean_and_error((outcome.status == Status.REFUSED).astype(float))
    wanted = erlang_loss(load * servers, servers, places)
    assert refused == pytest.approx(wanted, abs=max(3 * error, 3 * sqrt(wanted / n), 0.01 * wanted))
    assert ((outcome.status == Status.REFUSED) | (outcome.status == Status.DONE)).all()


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
