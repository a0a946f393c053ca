"""vLLM's own metrics under a real queue, against what the clients saw of the very same requests.

One engine and one load for all tests: a crowd with three clients a slot, a few clients with slots to spare, and a
burst. Prompts share a beginning, so that the prefix cache has something to find.
"""

import asyncio
import math
import time
from bisect import bisect_left
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from statistics import fmean, median
from typing import Final
from urllib.parse import urlsplit

import pytest
from prometheus_client.parser import text_string_to_metric_families

from scaler.backends import PrometheusBackend, ScrapeBackend
from scaler.clock import Clock
from scaler.signals.reading import Reading, ReadingName, Sample
from scaler.sources.base import Source, Subject
from scaler.sources.presets import load as presets
from scaler.sources.prometheus import PrometheusSource
from scaler.sources.scrape import ScrapeSource
from tests.e2e.clients import Seen, asks, closed_loop, open_loop, pings_s, quantile, service_s
from tests.e2e.discovery import Discovery
from tests.e2e.parts.process import LOOPBACK
from tests.e2e.parts.prometheus import Prometheus
from tests.e2e.parts.tools import tools_or_skip
from tests.e2e.parts.vllm import Vllm, environment_or_skip
from tests.e2e.parts.waiting import wait_for
from tests.fakes.pods import FakeDirectory, FakePod

pytestmark = [pytest.mark.integration, pytest.mark.timeout(900)]
Readings = Mapping[str, Reading]
NAMESPACE, WORKLOAD, POD = "agents", "planner", "planner-5d4f8c7b9-aaaaa"
SLOTS: Final = 4
CROWD, FEW, BURST = (60, 3 * SLOTS), (15, SLOTS - 1), 16  # (requests, clients)
SHARED_TOKENS: Final = 140  # more than a block of vLLM on the CPU, 128 tokens: whole blocks are cached
SLO_S: Final = 1.5  # of a request: a bound of vLLM's buckets
HTTP_PINGS: Final = 4  # round trips, rather more: a request's way to the engine, and its last token's way back
LOOK_EVERY_S: Final = 0.5
AT_ONCE: Final = 2  # requests: what may come or end between a client's look at its clock and the engine's at its queue
DURING: Final = frozenset({ReadingName.QUEUE, ReadingName.RUNNING})
OF_THE_CLUSTER: Final = frozenset(
    {ReadingName.REPLICAS, ReadingName.READY, ReadingName.PENDING, ReadingName.TERMINATING}
)
E2E, TTFT, ITL = (
    f"vllm:{name}_seconds" for name in ("e2e_request_latency", "time_to_first_token", "inter_token_latency")
)
QUANTILES: Final[Mapping[ReadingName, tuple[float, str, str]]] = {  # (quantile, histogram, of what the clients saw)
    ReadingName.P50_S: (0.5, E2E, "e2e_s"),
    ReadingName.P95_S: (0.95, E2E, "e2e_s"),
    ReadingName.TTFT_P95_S: (0.95, TTFT, "ttft_s"),
}
LONGER_THAN_ALL_S: Final = 600.0
SOURCES: Final = ("prometheus", "scrape")


@dataclass(frozen=True, slots=True)
class Look:
    at_s: float
    waiting: float
    running: float


@dataclass(frozen=True, slots=True)
class Episode:
    """What was seen of one load, from all sides; by source where a mapping is. Times by `time.monotonic`."""

    seen: list[Seen]
    http_s: float  # by how much the clients' clocks may run longer than the engine's
    looks: Mapping[str, list[Look]]
    idle: Mapping[str, Readings]  # before the load
    after: Mapping[str, Readings]  # over a window that holds all of it
    window_s: float
    read_s: float  # when `after` was read, by the sources' clock
    metrics: str  # the engine's, at last

    def value(self, source: str, name: ReadingName) -> float:
        reading = self.after[source][name]
        assert isinstance(reading, Sample), reading
        assert reading.pods == 1
        return reading.value

    def beyond(self, source: str, name: ReadingName) -> float:
        """By which share a rate may be high: it is thought to go on from the newest sample to the window's end."""
        reading = self.after[source][name]
        assert isinstance(reading, Sample), reading
        return max(0.0, self.read_s - reading.at_s) / self.window_s

    def in_flight(self, at_s: float) -> int:
        return sum(one.sent_s <= at_s < one.last_s for one in self.seen)


class Watch:
    """Looks at the engine through our sources, in the background of the load."""

    def __init__(self, sources: Mapping[str, Source], clock: Clock) -> None:
        self._sources, self._clock = sources, clock
        self.looks = {name: list[Look]() for name in sources}

    async def look(self) -> None:
        while True:
            for name, found in (await self.readings(window_s=LONGER_THAN_ALL_S, names=DURING)).items():
                queue, running = found[ReadingName.QUEUE], found[ReadingName.RUNNING]
                if isinstance(queue, Sample) and isinstance(running, Sample):
                    ahead_s = self._clock() - time.monotonic()
                    self.looks[name].append(Look(queue.at_s - ahead_s, queue.value, running.value))
            await asyncio.sleep(LOOK_EVERY_S)

    async def readings(self, *, window_s: float, names: frozenset[str] | None = None) -> dict[str, Readings]:
        """By source; `names`: None for all that it knows of engines."""
        found = {}
        for name, source in self._sources.items():
            subject = Subject(
                namespace=NAMESPACE,
                scaled_object=WORKLOAD,
                workload=WORKLOAD,
                backend=name,
                preset="vllm",
                window_s=window_s,
                max_age_s=15.0,
                slo_s=SLO_S,
            )
            wanted = names or source.provides(subject) - OF_THE_CLUSTER
            found[name] = (await source.read({subject: wanted}, self._clock()))[subject].readings
        return found


async def play(engine: Vllm, prometheus: Prometheus) -> Episode:
    now_s = prometheus.value("vector(time())")
    assert now_s is not None
    ahead_s = now_s - time.monotonic()

    def clock() -> float:
        return time.monotonic() + ahead_s

    sources: dict[str, Source] = {
        "prometheus": PrometheusSource("prometheus", PrometheusBackend(url=prometheus.url), presets(), timeout_s=10.0),
        "scrape": ScrapeSource(
            "scrape",
            ScrapeBackend(kind="scrape", port=urlsplit(engine.url).port),
            presets(),
            FakeDirectory({(NAMESPACE, WORKLOAD): (FakePod(POD, LOOPBACK),)}),
            clock=clock,
            timeout_s=10.0,
        ),
    }
    watch = Watch(sources, clock)
    idle = await watch.readings(window_s=LONGER_THAN_ALL_S)
    begun_s = time.monotonic()
    watching = asyncio.create_task(watch.look())
    # In a process of their own: what our sources compute meanwhile must not delay the clients' clocks.
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as clients:
        loop = asyncio.get_running_loop()
        seen, ping_s = await loop.run_in_executor(clients, in_own_process, engine.url)
    await asyncio.sleep(3)  # the end has been scraped
    watching.cancel()
    window_s = float(math.ceil(time.monotonic() - begun_s + 2))
    read_s = clock()
    after = await watch.readings(window_s=window_s)
    for source in sources.values():
        await source.close()
    metrics = engine.metrics()
    http_s = HTTP_PINGS * ping_s + before_the_engine_s(metrics)
    return Episode(seen, http_s, watch.looks, idle, after, window_s, read_s, metrics)


def before_the_engine_s(metrics: str) -> float:
    """Mean time of a request in vLLM's API server (checks, tokens of the prompt) before the engine's clock starts."""
    served = "http_request_duration_seconds"
    http_s, engine_s = (
        total(metrics, f"{name}_sum", **labels) / total(metrics, f"{name}_count", **labels)
        for name, labels in ((served, {"handler": "/v1/completions"}), (E2E, {}))
    )
    return max(0.0, http_s - engine_s)


async def crowd_few_burst(url: str) -> tuple[list[Seen], float]:
    """What the clients saw, and the mean time of a request that costs nothing."""
    parts = [
        asks([0.0] * count, prompt_tokens=(150, 500), output_tokens=(16, 96), seed=seed, shared=SHARED_TOKENS)
        for seed, count in enumerate((CROWD[0], FEW[0], BURST))
    ]
    pinging = asyncio.create_task(pings_s(url, every_s=LOOK_EVERY_S))
    crowd = await closed_loop(url, parts[0], clients=CROWD[1])
    few = await closed_loop(url, parts[1], clients=FEW[1])
    burst = await open_loop(url, parts[2])
    pinging.cancel()
    return [*crowd, *few, *burst], fmean(await pinging)


def in_own_process(url: str) -> tuple[list[Seen], float]:
    return asyncio.run(crowd_few_burst(url))


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Vllm]:
    folder = tmp_path_factory.mktemp("vllm")
    (folder / "logs").mkdir()
    server = Vllm(environment_or_skip(), folder, slots=SLOTS, options=("--enable-prompt-tokens-details",))
    try:
        yield server.up()
    finally:
        server.stop()


@pytest.fixture(scope="module")
def prometheus(engine: Vllm, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Prometheus]:
    folder = tmp_path_factory.mktemp("prometheus")
    (folder / "logs").mkdir()
    with Discovery(NAMESPACE).serving() as discovery:
        discovery.pods = {POD: engine.url}
        server = Prometheus(tools_or_skip("prometheus"), folder, discovery_url=discovery.url)
        try:
            yield server.up()
        finally:
            server.stop()


@pytest.fixture(scope="module")
def episode(engine: Vllm, prometheus: Prometheus) -> Episode:
    wait_for("Prometheus scrapes vLLM", lambda: prometheus.value("vllm:num_requests_running") == 0.0, within_s=60)
    return asyncio.run(play(engine, prometheus))


def total(metrics: str, sample: str, **labels: str) -> float:
    """The sum over the series of `sample` with these labels in a payload of /metrics."""
    values = [
        found.value
        for family in text_string_to_metric_families(metrics)
        for found in family.samples
        if found.name == sample and labels.items() <= found.labels.items()
    ]
    assert values, f"{sample} is not exported"
    return sum(values)


def buckets(metrics: str, histogram: str) -> list[float]:
    return sorted(
        {
            float(found.labels["le"])
            for family in text_string_to_metric_families(metrics)
            for found in family.samples
            if found.name == f"{histogram}_bucket"
        }
    )


def resolvable(values: Sequence[float], q: float, bounds: Sequence[float], http_s: float) -> tuple[float, float]:
    """Between which bounds a histogram with these buckets may put the quantile: those around two ranks off."""
    ranks = 2 / len(values)
    low, high = quantile(values, max(0.0, q - ranks)) - http_s, quantile(values, min(1.0, q + ranks))
    return max((bound for bound in bounds if bound <= low), default=0.0), bounds[bisect_left(bounds, high)]


@pytest.mark.parametrize("source", SOURCES)
def test_an_idle_engine_reads_zero_for_it_was_asked(episode: Episode, source: str) -> None:
    for name in DURING:
        reading = episode.idle[source][name]
        assert isinstance(reading, Sample)
        assert (reading.value, reading.pods) == (0.0, 1)


def test_every_request_was_answered_in_full(episode: Episode) -> None:
    assert len(episode.seen) == CROWD[0] + FEW[0] + BURST
    assert all(one.output_tokens >= 16 and one.prompt_tokens >= 150 for one in episode.seen)


@pytest.mark.parametrize("source", SOURCES)
def test_queue_and_running_are_what_the_clients_wait_for(episode: Episode, source: str) -> None:
    looks = [look for look in episode.looks[source] if episode.in_flight(look.at_s)]
    apart = [abs(look.waiting + look.running - episode.in_flight(look.at_s)) for look in looks]
    queues = [abs(look.waiting - max(0, episode.in_flight(look.at_s) - SLOTS)) for look in looks]
    assert len(looks) >= 10
    assert max(look.waiting for look in looks) >= CROWD[1] - SLOTS - AT_ONCE, "a queue was built"
    assert max(look.running for look in looks) == SLOTS
    assert median(apart) <= 1
    assert median(queues) <= 1


@pytest.mark.parametrize("source", SOURCES)
def test_tokens_are_those_that_the_clients_were_billed(episode: Episode, source: str) -> None:
    prompts, answers = (sum(getattr(one, f"{kind}_tokens") for one in episode.seen) for kind in ("prompt", "output"))
    cached = sum(one.cached_tokens for one in episode.seen)
    assert cached > 0, "the prompts' common beginning was found in the prefix cache"
    assert total(episode.metrics, "vllm:prompt_tokens_total") == prompts
    assert total(episode.metrics, "vllm:prompt_tokens_cached_total") == cached
    assert total(episode.metrics, "vllm:generation_tokens_total") == answers
    for name, told in (
        (ReadingName.PROMPT_TOKENS_PER_S, prompts - cached),
        (ReadingName.GENERATION_TOKENS_PER_S, answers),
    ):
        counted = episode.value(source, name) * episode.window_s
        assert 0.95 * told <= counted <= (1.05 + episode.beyond(source, name)) * told


@pytest.mark.parametrize("source", SOURCES)
def test_arrivals_are_the_requests_that_were_sent(episode: Episode, source: str) -> None:
    assert total(episode.metrics, "vllm:request_success_total") == len(episode.seen)
    arrived = episode.value(source, ReadingName.ARRIVALS_PER_S) * episode.window_s
    assert arrived == pytest.approx(len(episode.seen), rel=0.15)


@pytest.mark.parametrize("source", SOURCES)
def test_the_mean_service_time_is_what_the_clients_derive_from_the_slots(episode: Episode, source: str) -> None:
    derived = fmean(service_s(episode.seen, slots=SLOTS))
    assert episode.value(source, ReadingName.SERVICE_S) == pytest.approx(derived, rel=0.1, abs=0.05)


@pytest.mark.parametrize("source", SOURCES)
@pytest.mark.parametrize("name", QUANTILES)
def test_quantiles_are_right_as_far_as_the_buckets_tell(episode: Episode, source: str, name: ReadingName) -> None:
    q, histogram, kind = QUANTILES[name]
    values, bounds = [getattr(one, kind) for one in episode.seen], buckets(episode.metrics, histogram)
    low, high = resolvable(values, q, bounds, episode.http_s)
    assert low <= episode.value(source, name) <= high


@pytest.mark.parametrize("source", SOURCES)
def test_attainment_is_the_share_of_requests_that_met_the_slo(episode: Episode, source: str) -> None:
    e2e_s, one = [seen.e2e_s for seen in episode.seen], 1 / len(episode.seen)
    low, high = (sum(latency <= slo_s for latency in e2e_s) * one for slo_s in (SLO_S, SLO_S + episode.http_s))
    assert low - one <= episode.value(source, ReadingName.ATTAINMENT) <= high + one


@pytest.mark.parametrize(("histogram", "kind"), [(E2E, "e2e_s"), (TTFT, "ttft_s")])
def test_mean_times_are_those_of_the_clients(episode: Episode, histogram: str, kind: str) -> None:
    engine = total(episode.metrics, f"{histogram}_sum") / total(episode.metrics, f"{histogram}_count")
    clients = fmean(getattr(one, kind) for one in episode.seen)
    assert 0.98 * clients - episode.http_s <= engine <= clients


def test_the_time_between_tokens_is_that_of_the_clients(episode: Episode) -> None:
    engine = total(episode.metrics, f"{ITL}_sum") / total(episode.metrics, f"{ITL}_count")
    clients = sum(one.last_s - one.first_s for one in episode.seen) / sum(one.output_tokens - 1 for one in episode.seen)
    assert engine == pytest.approx(clients, rel=0.1)
