"""The source against a real Prometheus that scrapes what a test says: what is unknown is Missing, never 0."""

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from scaler.backends import PrometheusBackend
from scaler.signals.reading import Missing, Reading, ReadingName, Sample
from scaler.sources.base import Subject
from scaler.sources.presets import load
from scaler.sources.prometheus import PrometheusSource
from tests.e2e.parts.process import LOOPBACK
from tests.e2e.parts.prometheus import Prometheus
from tests.e2e.parts.tools import tools_or_skip
from tests.e2e.parts.waiting import wait_for
from tests.fakes.source import read_one

pytestmark = [pytest.mark.integration, pytest.mark.timeout(180)]
NAMESPACE, WORKLOAD = "agents", "planner"
SUBJECT = Subject(
    namespace=NAMESPACE,
    scaled_object="planner",
    workload=WORKLOAD,
    backend="default",
    preset="vllm",
    window_s=10.0,
    max_age_s=10.0,
)
WAITING, RUNNING = "vllm:num_requests_waiting", "vllm:num_requests_running"


class Pods:
    """An HTTP service discovery and the /metrics of pods, as the test sets them: pod name -> metrics."""

    def __init__(self) -> None:
        self.metrics: dict[str, dict[str, float]] = {}
        pods = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                found = pods.answer(self.path)
                self.send_response(404 if found is None else 200)
                self.send_header("Content-Type", "application/json" if self.path == "/targets" else "text/plain")
                self.end_headers()
                self.wfile.write((found or "").encode())

            def log_message(self, format: str, *args: object) -> None:  # noqa: A002  # the base class names it
                pass

        self._server = ThreadingHTTPServer((LOOPBACK, 0), Handler)
        self._server.daemon_threads = True
        self.address = f"{LOOPBACK}:{self._server.server_address[1]}"

    def answer(self, path: str) -> str | None:
        if path == "/targets":
            names = [(pod, {"__metrics_path__": f"/{pod}", "namespace": NAMESPACE, "pod": pod}) for pod in self.metrics]
            return json.dumps([{"targets": [self.address], "labels": labels} for _, labels in names])
        metrics = self.metrics.get(path.strip("/"))
        return None if metrics is None else "".join(f"{name} {value}\n" for name, value in metrics.items())

    @contextmanager
    def serving(self) -> Iterator["Pods"]:
        thread = threading.Thread(target=self._server.serve_forever)
        thread.start()
        try:
            yield self
        finally:
            self._server.shutdown()
            thread.join()
            self._server.server_close()


@pytest.fixture
def pods() -> Iterator[Pods]:
    with Pods().serving() as serving:
        yield serving


@pytest.fixture
def prometheus(pods: Pods, tmp_path: Path) -> Iterator[Prometheus]:
    (tmp_path / "logs").mkdir()
    server = Prometheus(tools_or_skip("prometheus"), tmp_path, discovery_url=f"http://{pods.address}/targets")
    try:
        yield server.up()
    finally:
        server.kill()  # a paused one would not hear a SIGTERM


async def reading(prometheus: Prometheus, name: ReadingName, *, now_s: float, timeout_s: float = 5.0) -> Reading:
    source = PrometheusSource("default", PrometheusBackend(url=prometheus.url), load(), timeout_s=timeout_s)
    try:
        return (await read_one(source, frozenset({name}), SUBJECT, now_s)).readings[name]
    finally:
        await source.close()


def prometheus_now_s(prometheus: Prometheus) -> float:
    now_s = prometheus.value("vector(time())")
    assert now_s is not None
    return now_s


def wait_until_scraped(prometheus: Prometheus, promql: str, accepts: Callable[[float], bool]) -> None:
    def probe() -> bool:
        value = prometheus.value(promql)
        return value is not None and accepts(value)

    wait_for(f"Prometheus knows {promql}", probe, within_s=60)


async def test_a_value_comes_with_its_time_and_the_pods_behind_it(pods: Pods, prometheus: Prometheus) -> None:
    pods.metrics = {f"{WORKLOAD}-5d4f8c7b9-{name}": {WAITING: 3, RUNNING: 2} for name in ("aaaaa", "bbbbb")}
    pods.metrics["planner-of-others-5d4f8c7b9-ccccc"] = {WAITING: 100, RUNNING: 100}
    wait_until_scraped(prometheus, f"count({WAITING})", lambda n: n == 3)
    now_s = prometheus_now_s(prometheus)
    found = await reading(prometheus, ReadingName.QUEUE, now_s=now_s)
    assert isinstance(found, Sample)
    assert (found.value, found.pods) == (6.0, 2)
    assert 0 <= now_s - found.at_s <= SUBJECT.max_age_s


async def test_a_prometheus_that_knows_no_such_pod_is_missing_not_zero(pods: Pods, prometheus: Prometheus) -> None:
    pods.metrics = {"coder-5d4f8c7b9-aaaaa": {WAITING: 3, RUNNING: 2}}
    wait_until_scraped(prometheus, WAITING, lambda n: n == 3)
    found = await reading(prometheus, ReadingName.QUEUE, now_s=prometheus_now_s(prometheus))
    assert found == Missing("no series")


async def test_a_metric_that_is_nan_is_missing(pods: Pods, prometheus: Prometheus) -> None:
    pods.metrics = {f"{WORKLOAD}-5d4f8c7b9-aaaaa": {WAITING: float("nan"), RUNNING: 2}}
    wait_until_scraped(prometheus, RUNNING, lambda n: n == 2)
    assert isinstance(await reading(prometheus, ReadingName.QUEUE, now_s=prometheus_now_s(prometheus)), Missing)
    assert isinstance(await reading(prometheus, ReadingName.RUNNING, now_s=prometheus_now_s(prometheus)), Sample)


async def test_a_restarted_engine_makes_no_negative_rate(pods: Pods, prometheus: Prometheus) -> None:
    pod, counter = f"{WORKLOAD}-5d4f8c7b9-aaaaa", "vllm:generation_tokens_total"
    pods.metrics = {pod: {counter: 1_000_000, RUNNING: 1}}
    wait_until_scraped(prometheus, counter, lambda n: n == 1_000_000)
    for tokens in (50, 100):  # restarted: it counts from 0 again
        pods.metrics = {pod: {counter: tokens, RUNNING: 1}}
        wait_until_scraped(prometheus, counter, lambda n, want=tokens: n == want)  # type: ignore[misc]
    found = await reading(prometheus, ReadingName.GENERATION_TOKENS_PER_S, now_s=prometheus_now_s(prometheus))
    assert isinstance(found, Sample)
    assert 0 < found.value < 1000


async def test_a_prometheus_that_is_down_is_missing(pods: Pods, prometheus: Prometheus) -> None:
    now_s = prometheus_now_s(prometheus)
    prometheus.kill()
    found = await reading(prometheus, ReadingName.QUEUE, now_s=now_s)
    assert isinstance(found, Missing)
    assert "not reachable" in found.why


async def test_a_prometheus_that_does_not_answer_in_time_is_missing(pods: Pods, prometheus: Prometheus) -> None:
    now_s = prometheus_now_s(prometheus)
    prometheus.pause()
    found = await reading(prometheus, ReadingName.QUEUE, now_s=now_s, timeout_s=0.5)
    assert isinstance(found, Missing)
    assert "no answer within 0.5 s" in found.why
