"""The vLLM preset reads what vLLM itself said."""

from typing import Final

import pytest

from scaler.signals.reading import Sample
from tests.contract.engines.test_payloads import PAGES, SLO_S, WINDOW_S, scraped, zeroed

PAGE: Final = (PAGES / "vllm-0.32.txt").read_text()
#: Worked out by hand from the page: 32 requests have ended, 4 run, 6 wait. As in test_payloads, the page is preceded by
#: one with zeros, a minute before.
EXPECTED: Final = {
    "running": 4,
    "queue": 6,
    "kv_usage": 1.0,
    "prompt_tokens_per_s": (9970 - 4480) / WINDOW_S,
    "cached_tokens_per_s": 4480 / WINDOW_S,
    "generation_tokens_per_s": 1848 / WINDOW_S,
    "arrivals_per_s": 32 / WINDOW_S + (4 + 6) / 60,
    "preemptions_per_s": 4 / WINDOW_S,
    "service_s": (63.25287628 - 36.39963708) / 32,
    "p50_s": 1.5 + 0.5 * (16 - 10) / 9,
    "p95_s": 2.5 + 2.5 * (0.95 * 32 - 21) / 11,
    "ttft_p95_s": 1.0 + 1.5 * (0.95 * 36 - 9) / 26,
    "itl_p95_s": 0.025 + 0.025 * (0.95 * 1812 - 1690) / 86,
    "attainment": 19 / 32,
    "ttft_attainment": 9 / 36,
    "ended_per_s": 32 / WINDOW_S,
    "oldest_wait_s": 6 / (32 / WINDOW_S),
}


async def test_every_reading_is_what_the_page_says() -> None:
    assert SLO_S == 2.0, "attainment above is of this bound"
    readings = await scraped("vllm", zeroed(PAGE), PAGE)
    values = {name: found.value for name, found in readings.items() if isinstance(found, Sample)}
    assert values == {name: pytest.approx(value) for name, value in EXPECTED.items()}
