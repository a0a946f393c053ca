"""The source against a real Prometheus that scrapes what a test says: what is unknown is Missing, never 0."""

import json
import shutil
import subprocess
import threading
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml

from scaler.backends import PrometheusBackend
from scaler.signals.reading import Missing, Reading, Sample
from scaler.signals.recipes import Expression, Gauge, Sum
from scaler.sources.base import SourceError, Subject
from scaler.sources.presets import load
from scaler.sources.prometheus import PrometheusSource
from scaler.sources.promql import Scope, Writer
from tests.e2e.parts.certificates import Certificates
from tests.e2e.parts.process import LOOPBACK
from tests.e2e.parts.prometheus import Prometheus
from tests.e2e.parts.tools import Tools, tools_or_skip
from tests.e2e.parts.waiting import wait_for

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
    slo_s=1.0,
)
A, B = (f"{WORKLOAD}-5d4f8c7b9-{suffix}" for suffix in ("aaaaa", "bbbbb"))
WAITING, RUNNING = "vllm:num_requests_waiting", "vllm:num_requests_running"
GENERATED = "vllm:generation_tokens_total"
E2E = "vllm:e2e_request_latency_seconds"
TYPES = f"# TYPE {E2E} histogram\n"
#: bcrypt of "U*U", a test vector of openwall's crypt_blowfish (wrapper.c).
HASHED = "$2a$05$CCCCCCCCCCCCCCCCCCCCC.E5YPO9kmyuRGyh0XouQYb4YMJKvyOeW"


class Pods:
    """An HTTP service discovery and the /metrics of pods, as the test sets them: pod name -> series -> value.

    `bare`: an exposition whose series bring their own namespaces and pods.
    """

    def __init__(self) -> None:
        self.metrics: dict[str, dict[str, float]] = {}
        self.bare = ""
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
            targets = [{"__metrics_path__": f"/{pod}", "namespace": NAMESPACE, "pod": pod} for pod in self.metrics]
            targets += [{"__metrics_path__": "/bare"}] if self.bare else []
            return json.dumps([{"targets": [self.address], "labels": labels} for labels in targets])
        if path == "/bare":
            return self.bare
        metrics = self.metrics.get(path.strip("/"))
        if metrics is None:
            return None
        return TYPES + "".join(f"{name} {value}\n" for name, value in metrics.items())

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
def tools() -> Tools:
    return tools_or_skip("prometheus", "promtool")


@contextmanager
def made(tools: Tools, folder: Path, pods: Pods) -> Iterator[Prometheus]:
    (folder / "logs").mkdir()
    server = Prometheus(tools, folder, discovery_url=f"http://{pods.address}/targets")
    try:
        yield server
    finally:
        server.kill()  # a paused one would not hear a SIGTERM


@pytest.fixture
def prometheus(tools: Tools, pods: Pods, tmp_path: Path) -> Iterator[Prometheus]:
    with made(tools, tmp_path, pods) as server:
        yield server.up()


@asynccontextmanager
async def source_of(
    prometheus: Prometheus, *, timeout_s: float = 5.0, **given: object
) -> AsyncIterator[PrometheusSource]:
    backend = PrometheusBackend.model_validate({"url": prometheus.url, **given})
    source = PrometheusSource("default", backend, load(), timeout_s=timeout_s)
    try:
        yield source
    finally:
        await source.close()


async def reading(prometheus: Prometheus, name: str, *, now_s: float | None = None) -> Reading:
    now_s = prometheus_now_s(prometheus) if now_s is None else now_s
    async with source_of(prometheus) as source:
        return (await source.read({SUBJECT: frozenset({name})}, now_s))[SUBJECT].readings[name]


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
    pods.metrics = {name: {WAITING: 3, RUNNING: 2} for name in (A, B)}
    pods.metrics["planner-of-others-5d4f8c7b9-ccccc"] = {WAITING: 100, RUNNING: 100}
    wait_until_scraped(prometheus, f"count({WAITING})", lambda n: n == 3)
    now_s = prometheus_now_s(prometheus)
    found = await reading(prometheus, "queue", now_s=now_s)
    assert isinstance(found, Sample)
    assert (found.value, found.pods) == (6.0, 2)
    assert 0 <= now_s - found.at_s <= SUBJECT.max_age_s


def by_promtool(tools: Tools, prometheus: Prometheus, part: Expression, now_s: float) -> float:
    """What the server's own tool makes of the text for this one workload."""
    scope = Scope(namespaces=(NAMESPACE,), window_s=10.0, max_age_s=10.0, workload=WORKLOAD)
    text = Writer(load()["vllm"], scope).part(part)
    asked = ["query", "instant", "-o", "json", f"--time={now_s:.3f}", prometheus.url, text]
    ran = subprocess.run([str(tools.binary("promtool")), *asked], capture_output=True, check=True)
    (series,) = json.loads(ran.stdout)
    return float(series["value"][1])


async def test_the_value_is_the_one_that_promtool_gets(tools: Tools, pods: Pods, prometheus: Prometheus) -> None:
    pods.metrics = {A: {WAITING: 3, RUNNING: 2}, B: {WAITING: 4, RUNNING: 5}}
    wait_until_scraped(prometheus, f"count({WAITING})", lambda n: n == 2)
    now_s = prometheus_now_s(prometheus)
    found = await reading(prometheus, "queue", now_s=now_s)
    assert isinstance(found, Sample)
    assert found.value == by_promtool(tools, prometheus, Sum(Gauge.WAITING), now_s) == 7


async def test_the_past_is_what_was_read_then(pods: Pods, prometheus: Prometheus) -> None:
    pods.metrics = {A: {WAITING: 3, RUNNING: 2}}
    wait_until_scraped(prometheus, f"count_over_time({WAITING}[1m])", lambda n: n >= 5)
    now_s = prometheus_now_s(prometheus)
    asks = {SUBJECT: frozenset({"queue", "running"})}
    async with source_of(prometheus) as source:
        past = await source.history(asks, now_s - 3, now_s, 1.0)
        assert len(past) == 4
        for at_s, found in past:
            assert found == await source.read(asks, at_s)


async def test_a_prometheus_that_knows_no_such_pod_is_missing_not_zero(pods: Pods, prometheus: Prometheus) -> None:
    pods.metrics = {"coder-5d4f8c7b9-aaaaa": {WAITING: 3, RUNNING: 2}}
    wait_until_scraped(prometheus, WAITING, lambda n: n == 3)
    assert await reading(prometheus, "queue") == Missing("no series")


async def test_a_family_that_is_gone_from_pods_that_serve_is_missing_not_zero(
    pods: Pods, prometheus: Prometheus
) -> None:
    pods.metrics = {A: {RUNNING: 2}}
    wait_until_scraped(prometheus, RUNNING, lambda n: n == 2)
    assert await reading(prometheus, "queue") == Missing("no series")


async def test_a_metric_that_is_nan_is_missing(pods: Pods, prometheus: Prometheus) -> None:
    pods.metrics = {A: {WAITING: float("nan"), RUNNING: 2}}
    wait_until_scraped(prometheus, RUNNING, lambda n: n == 2)
    assert await reading(prometheus, "queue") == Missing("the value is nan; want a finite number, 0 or more")
    assert isinstance(await reading(prometheus, "running"), Sample)


async def test_a_restarted_engine_makes_no_negative_rate(pods: Pods, prometheus: Prometheus) -> None:
    pods.metrics = {A: {GENERATED: 1_000_000, RUNNING: 1}}
    wait_until_scraped(prometheus, GENERATED, lambda n: n == 1_000_000)
    for tokens in (50, 100):  # restarted: it counts from 0 again
        pods.metrics = {A: {GENERATED: tokens, RUNNING: 1}}
        wait_until_scraped(prometheus, GENERATED, lambda n, want=tokens: n == want)  # type: ignore[misc]
    found = await reading(prometheus, "generation_tokens_per_s")
    assert isinstance(found, Sample)
    assert 0 < found.value < 1000


def requests_ended(n: int) -> dict[str, float]:
    """Half within 0.5 s, the others within 2 s."""
    buckets = {'le="0.5"': n / 2, 'le="2"': n, 'le="+Inf"': n}
    return (
        {RUNNING: 1}
        | {f"{E2E}_bucket{{{le}}}": value for le, value in buckets.items()}
        | {f"{E2E}_sum": n, f"{E2E}_count": n}
    )


@pytest.mark.parametrize(
    "scraping",
    [
        pytest.param({}, id="classic buckets"),
        pytest.param({"convert_classic_histograms_to_nhcb": True}, id="native histograms with custom buckets"),
        pytest.param({"convert_classic_histograms_to_nhcb": True, "always_scrape_classic_histograms": True}, id="both"),
    ],
)
async def test_quantiles_are_the_same_of_either_kind_of_histogram(
    tools: Tools, pods: Pods, tmp_path: Path, scraping: Mapping[str, bool]
) -> None:
    with made(tools, tmp_path, pods) as prometheus:
        reconfigure(prometheus, scraping)
        prometheus.up()
        pods.metrics = {A: requests_ended(0)}
        wait_until_scraped(prometheus, RUNNING, lambda n: n == 1)
        wait_until_scraped(prometheus, f"count_over_time({RUNNING}[1m])", lambda n: n >= 2)
        pods.metrics = {A: requests_ended(1000)}
        last = f"max({E2E}_count or histogram_count({E2E}))"
        wait_until_scraped(prometheus, last, lambda n: n == 1000)
        now_s = prometheus_now_s(prometheus)
        p50, p95 = [await reading(prometheus, name, now_s=now_s) for name in ("p50_s", "p95_s")]
        attainment = await reading(prometheus, "attainment", now_s=now_s)
    assert isinstance(p50, Sample)
    assert isinstance(p95, Sample)
    assert isinstance(attainment, Sample)
    assert p50.value == pytest.approx(0.5)
    assert p95.value == pytest.approx(0.5 + 1.5 * 0.9)
    assert attainment.value == pytest.approx(0.5)  # at 1 s, between two edges: as many as there are surely
    assert p95.count == pytest.approx(1000, rel=0.5)  # extrapolated to the window's ends, once and not twice


def reconfigure(prometheus: Prometheus, scraping: Mapping[str, bool]) -> None:
    (file,) = [Path(str(arg).partition("=")[2]) for arg in prometheus.argv if str(arg).startswith("--config.file")]
    config: dict[str, Any] = yaml.safe_load(file.read_text())
    config["scrape_configs"][0] |= scraping
    file.write_text(yaml.safe_dump(config))


async def failure(prometheus: Prometheus, *, timeout_s: float = 5.0, **given: object) -> str:
    async with source_of(prometheus, timeout_s=timeout_s, **given) as source:
        with pytest.raises(SourceError) as caught:
            await source.read({SUBJECT: frozenset({"queue"})}, 1.8e9)
    return str(caught.value)


async def test_a_prometheus_that_is_down_is_an_error(prometheus: Prometheus) -> None:
    prometheus.kill()
    assert "not reachable" in await failure(prometheus)


async def test_a_prometheus_that_does_not_answer_in_time_is_an_error_and_answers_again_when_it_wakes(
    pods: Pods, prometheus: Prometheus
) -> None:
    pods.metrics = {A: {WAITING: 3, RUNNING: 2}}
    wait_until_scraped(prometheus, WAITING, lambda n: n == 3)
    prometheus.pause()
    assert await failure(prometheus, timeout_s=0.5) == "no answer within 0.5 s"
    prometheus.resume()
    wait_until_scraped(prometheus, f"time() - timestamp({WAITING})", lambda age_s: age_s < 3)
    assert isinstance(await reading(prometheus, "queue"), Sample)


async def test_a_prometheus_that_lost_its_memory_at_peak_is_missing_until_it_knows_again(
    pods: Pods, prometheus: Prometheus
) -> None:
    pods.metrics = {A: {WAITING: 300, RUNNING: 64, GENERATED: 1e6}}
    wait_until_scraped(prometheus, WAITING, lambda n: n == 300)
    prometheus.kill()
    (memory,) = [str(arg).partition("=")[2] for arg in prometheus.argv if "tsdb.path" in str(arg)]
    shutil.rmtree(memory)
    peak, pods.metrics = pods.metrics, {}
    prometheus.up()
    for name in ("queue", "running", "generation_tokens_per_s", "p95_s"):
        assert await reading(prometheus, name) == Missing("no series")
    pods.metrics = peak
    wait_until_scraped(prometheus, WAITING, lambda n: n == 300)
    found = await reading(prometheus, "queue")
    assert isinstance(found, Sample)
    assert found.value == 300


async def test_wrong_credentials_are_an_error_and_the_right_ones_are_taken(
    tools: Tools, pods: Pods, tmp_path: Path
) -> None:
    name, right, wrong = (tmp_path / file for file in ("name", "right", "wrong"))
    for file, text in ((name, "scaler"), (right, "U*U"), (wrong, "guess")):
        file.write_text(f"{text}\n")
    web = tmp_path / "web.yaml"
    web.write_text(yaml.safe_dump({"basic_auth_users": {"scaler": HASHED}}))
    refused = "answered with HTTP status 401: it wants other credentials"
    with made(tools, tmp_path, pods) as prometheus:
        prometheus.argv = [*prometheus.argv, f"--web.config.file={web}"]
        prometheus.start().wait_ready(lambda: httpx.get(f"{prometheus.url}/-/ready").status_code == 401)
        assert await failure(prometheus) == refused
        assert await failure(prometheus, token_file=right) == refused
        assert await failure(prometheus, username_file=name, password_file=wrong) == refused
        async with source_of(prometheus, username_file=name, password_file=right) as source:
            found = await source.read({SUBJECT: frozenset({"queue"})}, 1.8e9)
        assert found[SUBJECT].readings == {"queue": Missing("no series")}


async def test_a_prometheus_behind_tls_is_asked_by_whom_it_trusts_and_trusted_by_whom_it_shows(
    tools: Tools, pods: Pods, tmp_path: Path
) -> None:
    authority = Certificates(tmp_path / "ca")
    server, client = (authority.issue(name, common_name=name, hosts=(LOOPBACK,)) for name in ("server", "scaler"))
    web = tmp_path / "web.yaml"
    tls = {
        "cert_file": str(server.certificate),
        "key_file": str(server.key),
        "client_ca_file": str(authority.ca),
        "client_auth_type": "RequireAndVerifyClientCert",
    }
    web.write_text(yaml.safe_dump({"tls_server_config": tls}))
    ours: dict[str, Any] = {"ca_file": authority.ca, "certificate_file": client.certificate, "key_file": client.key}
    with made(tools, tmp_path, pods) as prometheus:
        prometheus.argv = [*prometheus.argv, f"--web.config.file={web}"]
        prometheus.start().wait_ready(lambda: "Listening on" in prometheus.log.read_text())
        prometheus.url = prometheus.url.replace("http:", "https:")
        assert "not reachable" in await failure(prometheus)
        assert "not reachable" in await failure(prometheus, ca_file=authority.ca)
        async with source_of(prometheus, **ours) as source:
            found = await source.read({SUBJECT: frozenset({"queue"})}, 1.8e9)
        assert found[SUBJECT].readings == {"queue": Missing("no series")}


async def test_an_answer_of_a_size_that_nobody_wants_is_not_taken_in(pods: Pods, prometheus: Prometheus) -> None:
    pods.bare = "".join(f'{WAITING}{{namespace="{NAMESPACE}",pod="w{n}-0"}} 3\n' for n in range(12_000))
    wait_until_scraped(prometheus, f"count({WAITING})", lambda n: n == 12_000)
    now_s = prometheus_now_s(prometheus)
    asks = {replace(SUBJECT, workload="w7"): frozenset({"queue"})}
    async with source_of(prometheus, largest_mib=1) as source:
        with pytest.raises(SourceError, match="the answer is larger than 1 MiB"):
            await source.read(asks, now_s)
    async with source_of(prometheus) as source:
        ((found,),) = [of.readings.values() for of in (await source.read(asks, now_s)).values()]
    assert isinstance(found, Sample)
    assert found.value == 3
