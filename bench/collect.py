"""How dear a tick's readings are: thousands of ScaledObjects on a real Prometheus that knows tens of thousands of pods.

The series are vLLM's, as many of a pod as the readings of a composite trigger need. They are scraped with timestamps of
their own, so that a window is full after a minute or two. The collecting process has one core and its own memory.
"""

import asyncio
import json
import os
import resource
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from statistics import median
from typing import Any, Final

import httpx
import yaml

from scaler.backends import PrometheusBackend
from scaler.signals.reading import Sample
from scaler.sources.base import Found, Subject
from scaler.sources.presets import load
from scaler.sources.prometheus import PrometheusSource
from tests.e2e.parts.process import LOOPBACK, Process, answers, free_port

Row = tuple[str, float, str]

OBJECTS: Final = 5_000
MODELS: Final = 50
PODS_OF_EACH: Final = 4
TARGETS: Final = 10
TICKS: Final = 3
STEP_S: Final = 15
#: As many as a window of 120 s holds, and two more.
SCRAPES: Final = 10
NAMES: Final = frozenset(
    {
        *("queue", "running", "sessions", "kv_usage", "prompt_tokens_per_s", "generation_tokens_per_s"),
        *("arrivals_per_s", "service_s", "p95_s"),
    }
)
#: vLLM's own latency buckets: vllm-project/vllm vllm/v1/metrics/loggers.py.
BUCKETS_S: Final = (
    *("0.3", "0.5", "0.8", "1.0", "1.5", "2.0", "2.5", "5.0", "10.0", "15.0", "20.0", "30.0", "40.0", "50.0", "60.0"),
    *("120.0", "240.0", "480.0", "960.0", "1920.0", "7680.0", "+Inf"),
)
GAUGES: Final[Mapping[str, float]] = {
    "vllm:num_requests_waiting{": 3,
    "vllm:num_requests_running{": 8,
    "vllm:kv_cache_usage_perc{": 0.5,
}
#: What each pod's counters grow by in a second.
PER_S: Final[Mapping[str, float]] = {
    "vllm:prompt_tokens_total{": 800,
    "vllm:prompt_tokens_cached_total{": 300,
    "vllm:generation_tokens_total{": 200,
    'vllm:request_success_total{finished_reason="stop",': 1,
    "vllm:request_queue_time_seconds_sum{": 1,
    "vllm:e2e_request_latency_seconds_sum{": 4,
    "vllm:e2e_request_latency_seconds_count{": 1,
    **{f'vllm:e2e_request_latency_seconds_bucket{{le="{le}",': float(float(le) >= 5) for le in BUCKETS_S},
}
PROCESSOR_S: Final = "process_cpu_seconds_total"
QUERIES: Final = 'prometheus_http_requests_total{code="200",handler="/api/v1/query"}'
SERIES: Final = "prometheus_tsdb_head_series"
#: What follows for a workload of four such pods.
WANT: Final[Mapping[str, float]] = {
    "queue": 12,
    "running": 32,
    "kv_usage": 2,
    "prompt_tokens_per_s": 2000,
    "generation_tokens_per_s": 800,
    "arrivals_per_s": 4,
    "service_s": 3,
    "p95_s": 4.875,
}


def run() -> list[Row]:
    """The rows; none, with a word to stderr, where there is no Prometheus."""
    binary = Path(os.environ.get("SLICEWISE_TOOLS", "~/.cache/slicewise")).expanduser() / "bin" / "prometheus"
    if not binary.exists():
        print(f"collect: left out, there is no {binary}; build it with `make tools`", file=sys.stderr)
        return []
    with tempfile.TemporaryDirectory(prefix="slicewise-bench-") as folder, Pods().serving() as pods:
        url, server = _prometheus(binary, Path(folder), pods)
        try:
            at_s = _filled(url, pods)
            before = _own(url)
            said = subprocess.run(
                [sys.executable, "-m", "bench.collect", url, str(at_s)], stdout=subprocess.PIPE, text=True, check=True
            )
            told: dict[str, Any] = json.loads(said.stdout)
            spent = {name: (value - before[name]) / TICKS for name, value in _own(url).items()}
            series = _own(url)[SERIES]
        finally:
            server.kill()
    what = f"readings of {OBJECTS} ScaledObjects, {OBJECTS * PODS_OF_EACH} pods"
    return [
        (f"{what}, a tick, median", told["wall_s"], "s"),
        (f"{what}, slowest of {TICKS}", told["slowest_s"], "s"),
        (f"{what}, our processor", told["cpu_s"], "s"),
        (f"{what}, Prometheus's processor", spent[PROCESSOR_S], "s"),
        (f"{what}, queries", spent[QUERIES], ""),
        (f"{what}, our memory at most", told["rss_mib"], "MiB"),
        (f"{what}, series in Prometheus", series, ""),
    ]


class Pods:
    """Serves every pod's series, a few thousand pods a target, each scrape 15 s later than the one before."""

    def __init__(self) -> None:
        self.first_s = int(time.time()) - STEP_S * SCRAPES  # noqa: TID251  # Prometheus takes samples of today only
        self.scrapes = [0] * TARGETS
        labels = [
            [
                f'namespace="team-{n % MODELS:02}",pod="{_workload(n)}-7d9f8b6c4d-{pod:05}",'
                f'model_name="model-{n % MODELS:02}",engine="0"}} '
                for n in range(target, OBJECTS, TARGETS)
                for pod in range(PODS_OF_EACH)
            ]
            for target in range(TARGETS)
        ]
        pods = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                target = int(self.path.strip("/"))
                n = pods.scrapes[target]
                pods.scrapes[target] += 1
                self.send_response(200 if n < SCRAPES else 503)  # then Prometheus has nothing to do but to answer
                self.send_header("Content-Type", "text/plain; version=0.0.4")
                self.end_headers()
                if n < SCRAPES:
                    for part in _exposition(labels[target], pods.first_s + n * STEP_S, n * STEP_S):
                        self.wfile.write(part)

            def log_message(self, format: str, *args: object) -> None:  # noqa: A002  # the base class names it
                pass

        self._server = ThreadingHTTPServer((LOOPBACK, 0), Handler)
        self.address = f"{LOOPBACK}:{self._server.server_address[1]}"

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


def _exposition(labels: list[str], at_s: int, age_s: int) -> Iterator[bytes]:
    for family, value in (*GAUGES.items(), *((name, per_s * age_s) for name, per_s in PER_S.items())):
        ending = f"{value:g} {at_s}000\n"
        yield (family + (ending + family).join(labels) + ending).encode()


def _workload(n: int) -> str:
    return f"model-{n % MODELS:02}-{n // MODELS:03}"


def _prometheus(binary: Path, folder: Path, pods: Pods) -> tuple[str, Process]:
    port = free_port()
    jobs = [
        {"job_name": f"pods-{n}", "metrics_path": f"/{n}", "static_configs": [{"targets": [pods.address]}]}
        for n in range(TARGETS)
    ]
    config = folder / "prometheus.yaml"
    intervals = {"scrape_interval": "15s", "scrape_timeout": "15s"}
    config.write_text(
        yaml.safe_dump({"global": intervals, "scrape_configs": [{**job, "honor_labels": True} for job in jobs]})
    )
    url = f"http://{LOOPBACK}:{port}"
    argv: list[str | Path] = [
        binary,
        f"--config.file={config}",
        f"--storage.tsdb.path={folder / 'tsdb'}",
        f"--web.listen-address={LOOPBACK}:{port}",
    ]
    server = Process(name="prometheus", logs=folder, argv=argv)
    server.start().wait_ready(answers(f"{url}/-/ready"))
    return url, server


def _filled(url: str, pods: Pods) -> int:
    """Waits until every target has been scraped to its last instant, which is then the one to ask about."""
    at_s = pods.first_s + (SCRAPES - 1) * STEP_S
    until_s = time.monotonic() + 600
    while (_value(url, f"count(timestamp(vllm:num_requests_running) == {at_s})", at_s) or 0) < OBJECTS * PODS_OF_EACH:
        if time.monotonic() > until_s:
            raise RuntimeError(f"Prometheus has not scraped everything within 600 s: {pods.scrapes}")
        time.sleep(2)
    return at_s


def _value(url: str, promql: str, at_s: float | None = None) -> float | None:
    asked = {"query": promql} | ({} if at_s is None else {"time": str(at_s)})
    result = httpx.get(f"{url}/api/v1/query", params=asked, timeout=60).raise_for_status().json()["data"]["result"]
    return float(result[0]["value"][1]) if result else None


def _own(url: str) -> dict[str, float]:
    """What Prometheus exports of itself."""
    lines = (line.rsplit(" ", 1) for line in httpx.get(f"{url}/metrics").text.splitlines() if line[:1] != "#")
    own = {name: float(value) for name, value in lines}
    return {name: own.get(name, 0.0) for name in (PROCESSOR_S, QUERIES, SERIES)}


async def _collect(url: str, at_s: float) -> dict[str, float]:
    """In a process of its own: what a tick costs on one core."""
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    source = PrometheusSource("default", PrometheusBackend(url=url), load(), timeout_s=100.0)
    asks = {
        Subject(
            namespace=f"team-{n % MODELS:02}",
            scaled_object=f"so-{n}",
            workload=_workload(n),
            backend="default",
            preset="vllm",
            window_s=120.0,
            max_age_s=60.0,
            slo_s=8.0,
        ): NAMES
        for n in range(OBJECTS)
    }
    wall_s, cpu_s = [], []
    for _ in range(TICKS):
        begun_s, spent_s = time.perf_counter(), time.process_time()
        found = await source.read(asks, at_s)
        wall_s.append(time.perf_counter() - begun_s)
        cpu_s.append(time.process_time() - spent_s)
        _check(found)
    await source.close()
    return {
        "wall_s": median(wall_s),
        "slowest_s": max(wall_s),
        "cpu_s": median(cpu_s),
        "rss_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
    }


def _check(found: Mapping[Subject, Found]) -> None:
    for subject, of in found.items():
        for name, want in WANT.items():
            reading = of.readings[name]
            if not isinstance(reading, Sample) or abs(reading.value - want) > 0.01 * want:
                raise RuntimeError(f"a wrong answer: {name} of {subject.namespace}/{subject.workload}: {reading}")


if __name__ == "__main__":
    print(json.dumps(asyncio.run(_collect(sys.argv[1], float(sys.argv[2])))))
