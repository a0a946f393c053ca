"""What Prometheus scrapes in the tests: an engine's /metrics for each running pod, under vLLM's names, and a gateway's.

One HTTP server: /targets is an HTTP service discovery, /NAMESPACE/POD the metrics of one pod. Which pods run is read
from the API server; what they do is a `Load`.
"""

import itertools
import json
import threading
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Final

import httpx
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric

from tests.e2e.engines import LATENCY_BUCKETS_S, Engine, Load
from tests.e2e.parts.client import Api, ApiError, Json
from tests.e2e.parts.process import LOOPBACK

LABELS: Final = {"model_name": "e2e", "engine": "0"}


def engine_metrics(engine: Engine) -> Iterator[Metric]:
    """vLLM's names and types, v1 engine. vllm/v1/metrics/loggers.py"""
    gauges = {
        "vllm:num_requests_running": len(engine.running),
        "vllm:num_requests_waiting": len(engine.waiting),
    }
    counters = {
        "vllm:prompt_tokens": engine.prompt_tokens,
        "vllm:prompt_tokens_cached": 0,
        "vllm:generation_tokens": engine.generated_tokens,
        "vllm:request_success": engine.finished,
    }
    for name, value in gauges.items():
        gauge = GaugeMetricFamily(name, name, labels=list(LABELS))
        gauge.add_metric(list(LABELS.values()), value)
        yield gauge
    for name, value in counters.items():
        counter = CounterMetricFamily(name, name, labels=list(LABELS))
        counter.add_metric(list(LABELS.values()), value)
        yield counter
    bounds = [*map(str, LATENCY_BUCKETS_S), "+Inf"]
    histograms = {
        "vllm:e2e_request_latency_seconds": engine.latency,
        "vllm:request_queue_time_seconds": engine.queue_time,
        "vllm:request_inference_time_seconds": engine.service_time,
    }
    for name, observed in histograms.items():
        histogram = HistogramMetricFamily(name, name, labels=list(LABELS))
        below = itertools.accumulate(observed.counts)
        histogram.add_metric(list(LABELS.values()), list(zip(bounds, below, strict=True)), sum_value=observed.sum_s)
        yield histogram


@dataclass(slots=True)
class Workload:
    """One Deployment's load; its pods are told by their label `app`."""

    namespace: str
    name: str
    load: Load
    begun_s: float | None = None  # None: the load waits to begin

    def selector(self) -> str:
        return f"app={self.name}"


class Exporter:
    """Loads of several workloads, advanced in real time, and their metrics."""

    def __init__(self, api: Api) -> None:
        self._api = api
        self._workloads: dict[str, Workload] = {}
        self._lock = threading.Lock()
        self._stop = threading.Event()
        exporter = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                status, kind, body = exporter.answer(self.path)
                self.send_response(status)
                self.send_header("Content-Type", kind)
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, format: str, *args: object) -> None:  # noqa: A002  # the base class names it
                pass

        self._server = ThreadingHTTPServer((LOOPBACK, 0), Handler)
        self._server.daemon_threads = True
        self.address = f"{LOOPBACK}:{self._server.server_address[1]}"

    @contextmanager
    def serving(self) -> Iterator["Exporter"]:
        threads = [threading.Thread(target=self._server.serve_forever), threading.Thread(target=self._follow_pods)]
        for thread in threads:
            thread.start()
        try:
            yield self
        finally:
            self._stop.set()
            self._server.shutdown()
            for thread in threads:
                thread.join()
            self._server.server_close()

    def add(self, namespace: str, name: str, load: Load) -> None:
        with self._lock:
            self._workloads[name] = Workload(namespace, name, load)

    def begin(self, *names: str) -> None:
        """The clocks of these loads run from now on."""
        with self._lock:
            for name in names:
                self._workloads[name].begun_s = time.monotonic()

    def unfinished(self, name: str) -> int:
        with self._lock:
            return self._workloads[name].load.unfinished

    def finished(self, name: str) -> int:
        with self._lock:
            return self._workloads[name].load.finished

    def over(self, name: str) -> bool:
        with self._lock:
            return self._workloads[name].load.over

    def answer(self, path: str) -> tuple[int, str, bytes]:
        if path == "/targets":
            return 200, "application/json", json.dumps(self._targets()).encode()
        _, namespace, pod = path.split("/")
        families = self._families(namespace, pod)
        if families is None:
            return 404, "text/plain", b"no such pod"
        registry = CollectorRegistry()
        registry.register(_Families(families))
        return 200, "text/plain; version=0.0.4", generate_latest(registry)

    def _targets(self) -> list[Json]:
        with self._lock:
            pods = [(w.namespace, pod) for w in self._workloads.values() for pod in [*w.load.engines, gateway(w.name)]]
        return [
            {
                "targets": [self.address],
                "labels": {"__metrics_path__": f"/{namespace}/{pod}", "namespace": namespace, "pod": pod},
            }
            for namespace, pod in pods
        ]

    def _families(self, namespace: str, pod: str) -> list[Metric] | None:
        with self._lock:
            for workload in self._workloads.values():
                if workload.namespace != namespace:
                    continue
                if pod == gateway(workload.name):
                    return _gateway_metrics(workload)
                if pod in workload.load.engines:
                    return list(engine_metrics(workload.load.engines[pod]))
        return None

    def _follow_pods(self) -> None:
        while not self._stop.wait(0.25):
            with self._lock:
                workloads = list(self._workloads.values())
            for workload in workloads:
                try:
                    path = f"/api/v1/namespaces/{workload.namespace}/pods"
                    pods = self._api.items(path, labelSelector=workload.selector())
                except (httpx.TransportError, ApiError):
                    continue  # the API server is busy; the next look is near
                with self._lock:
                    if workload.begun_s is not None:
                        workload.load.advance(time.monotonic() - workload.begun_s)
                    workload.load.set_pods([pod["metadata"]["name"] for pod in pods if _runs(pod)])


class _Families:
    """A collector of metrics that are made already."""

    def __init__(self, families: Iterable[Metric]) -> None:
        self._families = families

    def collect(self) -> Iterable[Metric]:
        return self._families


def gateway(workload: str) -> str:
    """The pod name of a workload's gateway: the door at which requests wait while no engine runs."""
    return f"{workload}-gateway"


def _gateway_metrics(workload: Workload) -> list[Metric]:
    """What a gateway tells of the whole workload. Each request is a session of its own here."""
    gauges = {"agent_requests_waiting": len(workload.load.door), "agent_sessions_active": workload.load.unfinished}
    families: list[Metric] = []
    for name, value in gauges.items():
        gauge = GaugeMetricFamily(name, name, labels=["workload"])
        gauge.add_metric([workload.name], value)
        families.append(gauge)
    return families


def _runs(pod: Json) -> bool:
    ready = any(c["type"] == "Ready" and c["status"] == "True" for c in pod["status"].get("conditions", []))
    return ready and "deletionTimestamp" not in pod["metadata"]
