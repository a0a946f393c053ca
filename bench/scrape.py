"""Direct scrapes: what a page costs, what a tick of many pods costs, and what their windows take of memory."""

import asyncio
import sys
import time
import tracemalloc
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any, Final

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.parser import text_string_to_metric_families

from scaler.backends import ScrapeBackend
from scaler.sources.base import Subject
from scaler.sources.exposition import Page
from scaler.sources.presets import load
from scaler.sources.scrape import ScrapeSource

Row = tuple[str, float, str]
PODS: Final = 1000
TICKS: Final = 5
WINDOW_TICKS: Final = 13
#: One answer for whatever is asked, as cheap as it can be, so that the reader is measured and not the server.
SERVER: Final = """
import asyncio, sys
page = sys.stdin.buffer.read()
answer = b"HTTP/1.1 200 OK\\r\\nContent-Type: text/plain\\r\\nContent-Length: %d\\r\\n\\r\\n" % len(page) + page
async def serve(reader, writer):
    try:
        while await reader.readuntil(b"\\r\\n\\r\\n"):
            writer.write(answer)
    except (asyncio.IncompleteReadError, ConnectionError):
        writer.close()
async def main():
    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()
asyncio.run(main())
"""


@dataclass(frozen=True, slots=True)
class Somewhere:
    name: str
    ip: str | None = "127.0.0.1"
    terminating: bool = False


class Everywhere:
    """A workload of so many pods."""

    def pods(self, namespace: str, workload: str) -> Sequence[Somewhere]:
        del namespace
        return [Somewhere(f"{workload}-{n}") for n in range(PODS)]


def page() -> str:
    """As large as vLLM's: twenty histograms of 21 buckets, of which the preset reads four."""
    registry, labels = CollectorRegistry(), {"engine": "0", "model_name": "Qwen/Qwen3-32B"}
    for name in ("num_requests_running", "num_requests_waiting", "kv_cache_usage_perc"):
        Gauge(f"vllm:{name}", name, list(labels), registry=registry).labels(**labels).set(3)
    for name in ("prompt_tokens", "prompt_tokens_cached", "generation_tokens", "num_preemptions", "request_success"):
        Counter(f"vllm:{name}", name, list(labels), registry=registry).labels(**labels).inc(1000)
    times = ("e2e_request_latency", "request_queue_time", "time_to_first_token", "inter_token_latency")
    for name in (*times, *(f"unread_{n}" for n in range(16))):
        bounds = [0.3 * 1.4**n for n in range(21)]
        seen = Histogram(f"vllm:{name}_seconds", name, list(labels), registry=registry, buckets=bounds).labels(**labels)
        for n in range(100):
            seen.observe(n)
    write: Any = generate_latest
    return str(write(registry).decode())


def _ms(work: Any, times: int) -> float:  # noqa: ANN401  # any callable
    took = []
    for _ in range(times):
        begun_s = time.perf_counter()
        work()
        took.append(time.perf_counter() - begun_s)
    return 1000 * median(took)


def _kib_of_a_window(text: str) -> float:
    reader = Page(load()["vllm"], of_gateway=False)
    reader.observations(text, 0.0)
    tracemalloc.start()
    kept = [reader.observations(text.replace(" 3.0", f" {n}.0"), float(n)) for n in range(200)]
    size, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    return size / len(kept) * WINDOW_TICKS / 1024


async def run() -> list[Row]:
    text = page()
    reader = Page(load()["vllm"], of_gateway=False)
    rows: list[Row] = [
        (f"scrape: a page of {len(text) // 1024} KiB", _ms(lambda: reader.observations(text, 0.0), 50), "ms"),
        ("scrape: the same by prometheus_client", _ms(lambda: list(text_string_to_metric_families(text)), 5), "ms"),
        ("scrape: a pod's window of 3 min", _kib_of_a_window(text), "KiB"),
    ]
    pipe = asyncio.subprocess.PIPE
    server = await asyncio.create_subprocess_exec(sys.executable, "-c", SERVER, stdin=pipe, stdout=pipe)
    assert server.stdin is not None
    assert server.stdout is not None
    server.stdin.write(text.encode())
    server.stdin.close()
    try:
        tick_s = await _tick_s(int(await server.stdout.readline()))
    finally:
        server.terminate()
        await server.wait()
    return [*rows, (f"scrape: a tick of {PODS:,} pods, all readings, of one core", tick_s, "s")]


async def _tick_s(port: int) -> float:
    backend = ScrapeBackend(kind="scrape", port=port)
    source = ScrapeSource("pods", backend, load(), Everywhere(), clock=time.monotonic, timeout_s=60.0)
    subject = Subject(
        namespace="bench",
        scaled_object="chat",
        workload="chat",
        backend="pods",
        preset="vllm",
        window_s=120.0,
        max_age_s=60.0,
        slo_s=8.0,
    )
    took = []
    for _ in range(TICKS):
        begun_s = time.process_time()
        found = await source.read({subject: source.provides(subject)}, time.monotonic())
        took.append(time.process_time() - begun_s)
        running: Any = found[subject].readings["running"]
        assert running.pods == PODS, running
        await asyncio.sleep(0)
    await source.close()
    return median(took)
