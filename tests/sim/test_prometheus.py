"""What the scaler would read: Prometheus's arithmetic on what was scraped."""

from collections.abc import Mapping, Sequence
from math import inf
from typing import Any

import numpy as np
import pytest

from scaler.signals.reading import Missing, Reading, ReadingName, Sample
from sim.cluster.prometheus import READS, Prometheus
from sim.serving.pool import BUCKETS_S, COLUMNS, FIRST_BUCKETS_S, GAUGES, Counter, Gauge, Readout

WINDOW_S = 120.0
EVERY = READS


def readout(pods: Sequence[Mapping[Any, int]]) -> Readout:
    """Gauges by name, counters by their number."""
    table = np.zeros((len(pods), COLUMNS), np.int64)
    for i, pod in enumerate(pods):
        for column, count in pod.items():
            table[i, Gauge[column.upper()] if isinstance(column, str) else GAUGES + column] = count
    return Readout(tuple(range(len(pods))), table)


def read(prometheus: Prometheus, name: str, at_s: float = 120.0, slo_s: float | None = None) -> Reading:
    return prometheus.read(frozenset({name}), at_s, WINDOW_S, slo_s)[name]


def value(reading: Reading) -> float:
    assert isinstance(reading, Sample)
    return reading.value


@pytest.mark.parametrize("name", sorted(EVERY))
def test_before_the_first_scrape_nothing_is_known(name: str) -> None:
    assert read(Prometheus(WINDOW_S), name) == Missing("no series")


def test_gauges_are_of_the_newest_round() -> None:
    prometheus = Prometheus(WINDOW_S)
    prometheus.scrape(
        90.0,
        np.array([3, 5], np.int64),
        readout([{"queued": 2, "running": 4}, {"queued": 1, "running": 6}]),
        held=7,
        sessions=9,
    )
    assert read(prometheus, ReadingName.QUEUE) == Sample(10.0, 90.0, 2)
    assert read(prometheus, ReadingName.RUNNING) == Sample(10.0, 90.0, 2)
    assert read(prometheus, ReadingName.SESSIONS) == Sample(9.0, 90.0)
    assert read(prometheus, ReadingName.RUNNING, at_s=89.0) == Missing("no series")
    assert read(prometheus, ReadingName.RUNNING, at_s=391.0) == Missing("no series"), "older than the lookback"


def test_without_pods_only_the_gateway_is_known() -> None:
    prometheus = Prometheus(WINDOW_S)
    prometheus.scrape(90.0, np.array([], np.int64), readout([]), held=3, sessions=2)
    assert read(prometheus, ReadingName.QUEUE) == Sample(3.0, 90.0, 0)
    for name in EVERY - {ReadingName.QUEUE, ReadingName.SESSIONS}:
        assert read(prometheus, name) == Missing("no series")


def test_rate_of_a_steady_counter_is_its_rate() -> None:
    prometheus = Prometheus(WINDOW_S)
    for i in range(9):
        at_s = 5.0 + 15 * i
        prometheus.scrape(
            at_s,
            np.array([0], np.int64),
            readout([{Counter.GENERATED_TOKENS: 10_000 + int(40 * at_s)}]),
            held=0,
            sessions=0,
        )
    assert value(read(prometheus, ReadingName.GENERATION_TOKENS_PER_S, 125.0)) == pytest.approx(40.0)


def test_rate_needs_two_samples_of_one_pod_and_forgets_none_that_is_gone() -> None:
    prometheus = Prometheus(WINDOW_S)
    token = Counter.GENERATED_TOKENS
    prometheus.scrape(15.0, np.array([0], np.int64), readout([{token: 600}]), held=0, sessions=0)
    assert read(prometheus, ReadingName.GENERATION_TOKENS_PER_S) == Missing(
        "the value is nan; want a finite number, 0 or more"
    )
    prometheus.scrape(30.0, np.array([0, 1], np.int64), readout([{token: 1200}, {token: 50}]), held=0, sessions=0)
    # pod 0: 600 in 15 s; 15 s (no more than 1.1 intervals) are added at its start, half an interval at its end
    assert value(read(prometheus, ReadingName.GENERATION_TOKENS_PER_S)) == pytest.approx(600 * 37.5 / 15 / WINDOW_S)
    prometheus.scrape(45.0, np.array([1], np.int64), readout([{token: 350}]), held=0, sessions=0)
    # pod 0 is gone and still within the window; pod 1 was at 50, so its start lies 2.5 s back at most
    gone, here = 600 * 37.5 / 15, 300 * (15 + 2.5 + 7.5) / 15
    assert value(read(prometheus, ReadingName.GENERATION_TOKENS_PER_S)) == pytest.approx((gone + here) / WINDOW_S)


def test_arrivals_are_completions_and_growth() -> None:
    prometheus = Prometheus(WINDOW_S)
    for i in range(9):
        pod = {Counter.FINISHED: 1000 + 30 * i, "running": 10 + 3 * i, "queued": 6 * i}
        prometheus.scrape(15.0 * i, np.array([0], np.int64), readout([pod]), held=0, sessions=0)
    assert value(read(prometheus, ReadingName.ARRIVALS_PER_S)) == pytest.approx((30 + 3 + 6) / 15, rel=1e-6)


def test_service_time_leaves_the_wait_out() -> None:
    prometheus = Prometheus(WINDOW_S)
    for i in range(9):
        pod = {
            Counter.FINISHED: 100 + i,
            Counter.LATENCY_US: 10**9 + i * 9_000_000,
            Counter.WAITED_US: i * 2_000_000 + 10**8,
        }
        prometheus.scrape(15.0 * i, np.array([0], np.int64), readout([pod]), held=0, sessions=0)
    assert value(read(prometheus, ReadingName.SERVICE_S)) == pytest.approx(7.0)


def with_latencies(
    counts: dict[float, int], first: Counter = Counter.BUCKET, bounds_s: tuple[float, ...] = BUCKETS_S
) -> Prometheus:
    """`counts`: requests by the upper bound of their bucket."""
    prometheus = Prometheus(WINDOW_S)
    columns: dict[int, int] = {}
    for bound, count in counts.items():
        columns[first + (*bounds_s, inf).index(bound)] = count
    for i in range(9):
        pod = {column: 1000 + count * i for column, count in columns.items()}
        prometheus.scrape(15.0 * i, np.array([0], np.int64), readout([pod]), held=0, sessions=0)
    return prometheus


@pytest.mark.parametrize(
    ("counts", "p50_s", "p95_s"),
    [
        pytest.param({2.0: 10}, 1.75, 1.975, id="one bucket: in a straight line through it"),
        pytest.param({0.3: 10}, 0.15, 0.285, id="the first bucket begins at 0"),
        pytest.param({1.0: 90, 10.0: 10}, 0.8 + 0.2 * 50 / 90, 7.5, id="two buckets"),
        pytest.param({1.0: 10, inf: 90}, 7680.0, 7680.0, id="above all bounds: the highest bound"),
    ],
)
def test_quantiles(counts: dict[float, int], p50_s: float, p95_s: float) -> None:
    prometheus = with_latencies(counts)
    assert value(read(prometheus, ReadingName.P50_S)) == pytest.approx(p50_s)
    assert value(read(prometheus, ReadingName.P95_S)) == pytest.approx(p95_s)


def test_quantiles_of_few_requests_are_not_known() -> None:
    reading = read(with_latencies({1.0: 2}), ReadingName.P95_S)
    assert reading == Missing("16 observations in the window; a quantile wants 20")


def test_a_quantile_says_of_how_many_requests_it_is_and_whether_it_saturates() -> None:
    reading = read(with_latencies({1.0: 10, inf: 90}), ReadingName.P95_S)
    assert isinstance(reading, Sample)
    assert reading.saturated
    assert reading.count == pytest.approx(100 * 8)


def test_first_tokens_have_buckets_of_their_own() -> None:
    prometheus = with_latencies({0.25: 90, 10.0: 10}, Counter.FIRST_BUCKET, FIRST_BUCKETS_S)
    assert value(read(prometheus, ReadingName.TTFT_P95_S)) == pytest.approx(8.75)
    assert isinstance(read(prometheus, ReadingName.P95_S), Missing)


@pytest.mark.parametrize(
    ("slo_s", "share"),
    [
        pytest.param(0.25, 0.9, id="a bucket ends there"),
        pytest.param(9.0, 0.9, id="within a bucket: what is in it counts as late"),
        pytest.param(10.0, 1.0, id="all"),
        pytest.param(0.0001, 0.0, id="none"),
    ],
)
def test_who_was_on_time(slo_s: float, share: float) -> None:
    prometheus = with_latencies({0.25: 90, 10.0: 10}, Counter.FIRST_BUCKET, FIRST_BUCKETS_S)
    assert value(read(prometheus, ReadingName.TTFT_ATTAINMENT, slo_s=slo_s)) == pytest.approx(share)


def test_the_share_on_time_is_of_all_requests_that_ended() -> None:
    assert value(read(with_latencies({1.0: 60, 2.0: 40}), ReadingName.ATTAINMENT, slo_s=1.0)) == pytest.approx(0.6)


@pytest.mark.parametrize("name", [ReadingName.ATTAINMENT, ReadingName.TTFT_ATTAINMENT])
def test_without_a_promise_nobody_is_late(name: str) -> None:
    assert read(with_latencies({1.0: 60}), name) == Missing("no SLO is given: p95Target or firstTokenTarget")


def test_caches_in_use_are_added_up_over_pods() -> None:
    prometheus = Prometheus(WINDOW_S)
    pods = readout([{"kv_used": 30, "kv_blocks": 60}, {"kv_used": 50, "kv_blocks": 200}])
    prometheus.scrape(90.0, np.array([3, 5], np.int64), pods, held=0, sessions=0)
    assert read(prometheus, ReadingName.KV_USAGE) == Sample(0.75, 90.0, 2)


def test_what_is_old_is_forgotten() -> None:
    prometheus = Prometheus(keep_s=60.0)
    for i in range(100):
        prometheus.scrape(15.0 * i, np.array([i], np.int64), readout([{"running": 1}]), held=0, sessions=0)
    assert len(prometheus._scrapes) == 300 / 15 + 1
