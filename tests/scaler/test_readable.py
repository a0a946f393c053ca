"""The PromQL that people are shown for a reading yields that reading (promtool)."""

from pathlib import Path

import pytest

from scaler.sources import readable
from scaler.sources.presets import load
from scaler.sources.promql import Scope
from tests.scaler.engine_series import (
    CHAT,
    E2E,
    GATEWAY,
    OF_NAMESAKE,
    OF_PLANNER,
    WAITING,
    A,
    B,
    classic,
    counter,
    gauge,
)
from tests.scaler.promtool import Series, Want, answered, flat, rate

pytestmark = pytest.mark.integration

SCOPE = Scope(namespaces=("agents", "research"), window_s=120.0, max_age_s=60.0)
EVERYWHERE: Want = {CHAT: 7, OF_PLANNER: 20, OF_NAMESAKE: 30}
LATENCIES = (
    classic(E2E, A)
    | classic(E2E, B)
    | {f"{E2E}_sum{{{pod}}}": rate(1.5) for pod in (A, B)}
    | {f"vllm:request_queue_time_seconds_sum{{{pod}}}": rate(0.5) for pod in (A, B)}
)
ENDED = counter("vllm:request_success_total", rate(1), rate(1), ',finished_reason="stop"')
PROMPT = counter("vllm:prompt_tokens_total", rate(20), rate(10))


@pytest.mark.parametrize(
    ("name", "series", "want"),
    [
        pytest.param("queue", WAITING, EVERYWHERE, id="queue"),
        pytest.param(
            "queue",
            {f"vllm:num_requests_waiting{{{A}}}": flat(3), f"agent_requests_waiting{{{GATEWAY}}}": flat(5)},
            {CHAT: 8},
            id="queue: with a gateway's",
        ),
        pytest.param("prompt_tokens_per_s", PROMPT, {CHAT: 30}, id="prompt: an engine without a cache"),
        pytest.param(
            "prompt_tokens_per_s",
            PROMPT | counter("vllm:prompt_tokens_cached_total", rate(5), rate(5)),
            {CHAT: 20},
            id="prompt: without what the cache held",
        ),
        pytest.param(
            "arrivals_per_s",
            ENDED
            | {f"vllm:num_requests_running{{{A}}}": "0+3x40"}
            | {f"vllm:num_requests_waiting{{{pod}}}": flat(4) for pod in (A, B)},
            {CHAT: 2.2},
            id="arrivals: what ends, and the growth of what is in flight",
        ),
        pytest.param("arrivals_per_s", ENDED, {}, id="arrivals: without the gauges not known"),
        pytest.param("service_s", LATENCIES, {CHAT: 1}, id="service: the wait is not in it"),
        pytest.param(
            "service_s",
            {name: flat(9) for name in LATENCIES},
            {},
            id="service: nothing ended, nothing is known, and nothing is divided by 0",
        ),
        pytest.param("p95_s", LATENCIES, {CHAT: 1.9}, id="P95: over all pods, not of each"),
        pytest.param("oldest_wait_s", WAITING | ENDED, {CHAT: 3.5}, id="oldest wait: the line at its pace"),
        pytest.param(
            "oldest_wait_s",
            gauge("vllm:num_requests_waiting", flat(0), flat(0)),
            {CHAT: 0},
            id="oldest wait: nobody waits, whatever the pace",
        ),
    ],
)
def test_the_text_for_people_yields_the_reading(name: str, series: Series, want: Want, tmp_path: Path) -> None:
    preset = load()["vllm"]
    way = preset.ways(name)[-1 if name == "oldest_wait_s" else 0]
    answered(readable.text(preset, way, SCOPE), series, want, tmp_path)
