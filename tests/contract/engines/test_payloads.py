"""Each preset reads its engine's page into the readings that the page was written for, through a direct scrape."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Final

import pytest

from scaler.backends import GatewayPlace, ScrapeBackend
from scaler.signals.reading import Reading, Sample
from scaler.sources.base import Subject
from scaler.sources.presets import load
from scaler.sources.scrape import ScrapeSource
from tests.fakes.clock import ManualClock
from tests.fakes.pods import IPS, FakeDirectory, FakePod, serving_pages

PAGES: Final = Path(__file__).parent
SLO_S: Final = 2.0
WINDOW_S: Final = 120.0

#: Each page is scraped twice, a minute apart: first with every value 0, then as it stands. A counter of 60 reads as
#: 60 / 120 s, for nothing is extrapolated beyond the instant at which it was 0; a gauge of 60 has grown by 1 a second.
EXPECTED: Final[Mapping[str, Mapping[str, float]]] = {
    "sglang": {
        "running": 12,
        "queue": 5 + 1,  # in line, and in line for their grammar
        "sessions": 7,
        "kv_usage": 0.28,
        "prompt_tokens_per_s": (60_000 - 24_000) / 120,
        "cached_tokens_per_s": 24_000 / 120,
        "generation_tokens_per_s": 12_000 / 120,
        "arrivals_per_s": (60 + 2) / 120 + (12 + 6) / 60,
        "preemptions_per_s": 6 / 120,
        "service_s": (24 * 1.5 + 24 * 3.0 + 12 * 5.0 - 30 * 0.25 - 30 * 1.0) / 60,
        "p50_s": 2 + 2 * 6 / 24,
        "p95_s": 4 + 2 * 9 / 12,
        "ttft_p95_s": 0.4 + 0.2 * 15.6 / 18,
        "itl_p95_s": 0.01 + 0.005 * 50 / 100,
        "attainment": 24 / 60,
        "oldest_wait_s": 6 / (62 / 120),
        "ended_per_s": (60 + 2) / 120,
        "ttft_attainment": 1.0,
    },
    "lmdeploy": {
        "running": 16,
        "queue": 3 + 4,  # in the engine, and in the API server for want of a handle
        "kv_usage": 0.625,
        "prompt_tokens_per_s": 60_000 / 120,
        "generation_tokens_per_s": 24_000 / 120,
        "arrivals_per_s": 60 / 120 + 23 / 60,
        "service_s": (30 * 1.25 + 30 * 4.0 - 60 * 0.25) / 60,
        "p50_s": 1.5,
        "p95_s": 2.5 + 2.5 * 27 / 30,
        "ttft_p95_s": 0.1 + 0.15 * 0.95,
        "itl_p95_s": 0.025,
        "attainment": 30 / 60,
        "oldest_wait_s": 7 / (60 / 120),
        "ended_per_s": 60 / 120,
        "ttft_attainment": 1.0,
    },
    "trtllm": {
        "running": 10,
        "queue": 6,
        "kv_usage": 0.75,
        "prompt_tokens_per_s": (72_000 - 12_000) / 120,
        "cached_tokens_per_s": 12_000 / 120,
        "generation_tokens_per_s": 18_000 / 120,
        "arrivals_per_s": 60 / 120 + 16 / 60,
        "service_s": 2.25 - 0.25,
        "p50_s": 2.25,
        "p95_s": 2.0 + 0.5 * 0.95,
        "ttft_p95_s": 0.04 + 0.02 * 0.95,
        "itl_p95_s": 0.01 + 0.015 * 0.95,
        "attainment": 0.0,
        "oldest_wait_s": 6 / (60 / 120),
        "ended_per_s": 60 / 120,
        "ttft_attainment": 1.0,
    },
    "tgi": {
        "running": 2,
        "queue": 4,
        "prompt_tokens_per_s": 60_000 / 120,
        "generation_tokens_per_s": 12_000 / 120,
        "arrivals_per_s": 66 / 120,
        "service_s": 2.0 - 0.5,
        "p50_s": 0.0001 * (1.5**24 + (1.5**25 - 1.5**24) * 0.5),
        "p95_s": 0.0001 * (1.5**24 + (1.5**25 - 1.5**24) * 0.95),
        "itl_p95_s": 0.0001 * (1.5**13 + (1.5**14 - 1.5**13) * 0.95),
        "attainment": 0.0,
        "oldest_wait_s": 4 / (60 / 120),
        "ended_per_s": 60 / 120,
    },
    "triton": {
        "queue": 4,
        "service_s": (114 - 28.5) / 57,
        "ttft_p95_s": 0.1 + 0.4 * 0.95,
        "oldest_wait_s": 4 / (60 / 120),
        "ended_per_s": 60 / 120,
        "ttft_attainment": 1.0,
    },
    "triton-trtllm": {
        "running": 11,
        "queue": 5,
        "kv_usage": 0.5,
        "arrivals_per_s": 60 / 120 + 16 / 60,
        "service_s": (114 - 28.5) / 57,
        "ttft_p95_s": 0.1 + 0.4 * 0.95,
        "oldest_wait_s": 5 / (60 / 120),
        "ended_per_s": 60 / 120,
        "ttft_attainment": 1.0,
    },
    "llamacpp": {
        "running": 4,
        "queue": 46,
        "prompt_tokens_per_s": 33_065 / 120,  # those of its cache are not in it
        "generation_tokens_per_s": 7_801 / 120,
    },
    "litellm": {
        "prompt_tokens_per_s": (72_000 - 12_000) / 120,
        "cached_tokens_per_s": 12_000 / 120,
        "generation_tokens_per_s": 18_000 / 120,
        "service_s": 1.25,
        "p50_s": 1.25,
        "p95_s": 1.0 + 0.5 * 0.95,
        "ttft_p95_s": 0.1 + 0.4 * 0.95,
        "attainment": 1.0,
        "ended_per_s": 60 / 120,
        "ttft_attainment": 1.0,
    },
    "dynamo": {
        "running": 18 - 5,  # in flight, less those that have no token yet
        "queue": 5,
        "prompt_tokens_per_s": (72_000 - 12_000) / 120,
        "cached_tokens_per_s": 12_000 / 120,
        "generation_tokens_per_s": 18_000 / 120,
        "arrivals_per_s": 78 / 120,
        "service_s": 2.5,
        "p50_s": 1.9 + 1.5 * 0.5,
        "p95_s": 1.9 + 1.5 * 0.95,
        "ttft_p95_s": 0.22 + 0.25 * 0.95,
        "itl_p95_s": 0.0067 + 0.0063 * 0.95,
        "attainment": 0.0,
        "oldest_wait_s": 5 / (60 / 120),
        "ended_per_s": 60 / 120,
        "ttft_attainment": 1.0,
    },
    "epp": {
        "running": 18,
        "queue": 5,
        "prompt_tokens_per_s": (72_000 - 12_000) / 120,
        "cached_tokens_per_s": 12_000 / 120,
        "generation_tokens_per_s": 18_000 / 120,
        "arrivals_per_s": 78 / 120,
        "service_s": 2.5 - 0.5,
        "p50_s": 3.0,
        "p95_s": 2.0 + 2.0 * 0.95,
        "ttft_p95_s": 0.25 + 0.25 * 0.95,
        "itl_p95_s": 0.005 + 0.005 * 0.95,
        "attainment": 0.0,
        "oldest_wait_s": 5 / (78 / 120),
        "ttft_attainment": 1.0,
    },
}
#: Exports nothing: there is no page.
WITHOUT_PAGE: Final = frozenset({"ollama"})
POD: Final = FakePod("chat-7d9f8b6c4d-aaaaa", IPS[0])
GATEWAY: Final = FakePod("gateway-0", IPS[1])


async def scraped(name: str, *pages: str) -> Mapping[str, Reading]:
    """Every reading that the preset knows, after a scrape of each of `pages`, a minute apart."""
    preset = load()[name]
    clock = ManualClock(1000.0)
    async with serving_pages() as served:
        place = GatewayPlace(namespace="edge", workload="gateway", port=served.port, path=preset.path)
        backend = ScrapeBackend(kind="scrape", port=served.port, gateway=place if preset.scope == "gateway" else None)
        directory = FakeDirectory({("agents", "chat"): (POD,), ("edge", "gateway"): (GATEWAY,)})
        source = ScrapeSource("pods", backend, {name: preset}, directory, clock=clock)
        subject = Subject(
            namespace="agents",
            scaled_object="chat",
            workload="chat",
            backend="pods",
            preset=name,
            window_s=WINDOW_S,
            max_age_s=90.0,
            slo_s=SLO_S,
        )
        names = source.provides(subject)
        readings: Mapping[str, Reading] = {}
        for page in pages:
            served.by_ip = dict.fromkeys((IPS[0], IPS[1]), page)
            readings = (await source.read({subject: names}, clock()))[subject].readings
            clock.now_s += 60.0
        await source.close()
        assert {path for _, path in served.asked} <= {preset.path}
    return readings


def zeroed(page: str) -> str:
    """The page of an engine that has done nothing yet."""
    return re.sub(r"(?m)^([^#\n].*) \S+$", r"\1 0", page)


def test_every_preset_has_a_page_and_every_page_a_preset() -> None:
    pages = {path.stem for path in PAGES.glob("*.txt")}
    recorded = {page for page in pages if page.startswith("vllm-")}  # of the engine itself, by version
    assert pages - recorded == set(EXPECTED) == set(load()) - WITHOUT_PAGE - {"vllm"}


@pytest.mark.parametrize("name", sorted(EXPECTED))
async def test_the_page_reads_as_it_was_written(name: str) -> None:
    page = (PAGES / f"{name}.txt").read_text()
    readings = await scraped(name, zeroed(page), page)
    values = {reading: found.value for reading, found in readings.items() if isinstance(found, Sample)}
    assert values == {reading: pytest.approx(value) for reading, value in EXPECTED[name].items()}


@pytest.mark.parametrize("name", sorted(EXPECTED))
async def test_coverage_is_of_pods_and_gateways_have_none(name: str) -> None:
    page = (PAGES / f"{name}.txt").read_text()
    readings = await scraped(name, zeroed(page), page)
    pods = None if load()[name].scope == "gateway" else 1
    assert {found.pods for found in readings.values() if isinstance(found, Sample)} == {pods}


@pytest.mark.parametrize("name", sorted(load()))
async def test_a_page_without_its_families_says_nothing(name: str) -> None:
    """Absent is not zero: a gateway shows a family with its first request, another engine never."""
    readings = await scraped(name, "up 1\n", "up 1\n")
    assert [reading for reading, found in readings.items() if isinstance(found, Sample)] == []
