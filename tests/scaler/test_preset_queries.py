"""The vLLM preset's queries as Prometheus's own engine answers them (promtool), on series with known answers."""

import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from scaler.signals.reading import ReadingName
from scaler.sources.base import Subject
from scaler.sources.questions import load, newest_query, seen_query
from tests.e2e.parts.tools import tools_or_skip

pytestmark = pytest.mark.integration

SUBJECT = Subject(
    namespace="agents",
    scaled_object="chat",
    workload="chat",
    backend="default",
    preset="vllm",
    window_s=120.0,
    max_age_s=60.0,
)
#: One sample each 15 s from 0 on; queries are answered as of 300 s.
AT = "5m"
A = 'namespace="agents",pod="chat-7d9f8b6c4d-aaaaa",engine="0"'
B = 'namespace="agents",pod="chat-7d9f8b6c4d-bbbbb",engine="0"'
GATEWAY = 'namespace="agents",pod="gateway-5c7d9-ccccc",workload="chat"'
STRANGERS = (
    'namespace="agents",pod="chat-b-7d9f8b6c4d-aaaaa",engine="0"',
    'namespace="other",pod="chat-7d9f8b6c4d-aaaaa",engine="0"',
)
Series = dict[str, str]


def query(name: ReadingName, alternative: int = 0) -> str:
    return load()["vllm"].questions(name)[alternative].text(SUBJECT)


def flat(value: float) -> str:
    return f"{value}+0x40"


def rate(per_s: float) -> str:
    """A counter that grows by so much a second."""
    return f"0+{15 * per_s}x40"


def gauge(name: str, a: float, b: float) -> Series:
    """A gauge of both pods; one of them is scraped twice, and pods that are not ours have it too."""
    ours = {f"{name}{{{A}}}": flat(a), f'{name}{{{A},job="twice"}}': flat(a), f"{name}{{{B}}}": flat(b)}
    return ours | {f"{name}{{{stranger}}}": flat(1000) for stranger in STRANGERS}


def counter(name: str, a: str, b: str, labels: str = "") -> Series:
    both = {f"{name}{{{A}{labels}}}": a, f"{name}{{{B}{labels}}}": b}
    return both | {f"{name}{{{stranger}{labels}}}": rate(1000) for stranger in STRANGERS}


def latency(per_s: float) -> Series:
    """Requests end at `per_s` on each pod, half of them within 1 s, all within 2 s; 1.5 s each, 0.5 s of it waiting."""
    name = "vllm:e2e_request_latency_seconds"
    series: Series = {}
    for le, share in (("1.0", 0.5), ("2.0", 1.0), ("+Inf", 1.0)):
        series |= counter(f"{name}_bucket", rate(share * per_s), rate(share * per_s), f',le="{le}"')
    series |= counter(f"{name}_count", rate(per_s), rate(per_s))
    series |= counter(f"{name}_sum", rate(1.5 * per_s), rate(1.5 * per_s))
    return series | counter("vllm:request_queue_time_seconds_sum", rate(0.5 * per_s), rate(0.5 * per_s))


UP = {f"up{{{A}}}": flat(1)}
WAITING = gauge("vllm:num_requests_waiting", 3, 4)
RUNNING = gauge("vllm:num_requests_running", 6, 2)
PROMPT = counter("vllm:prompt_tokens_total", rate(20), rate(10))
ENDED = counter("vllm:request_success_total", rate(1), rate(1), ',finished_reason="stop"')


@pytest.mark.parametrize(
    ("series", "expression", "want"),
    [
        pytest.param(WAITING, query(ReadingName.QUEUE), 7, id="queue: our pods, each once"),
        pytest.param(
            WAITING | {f"agent_requests_waiting{{{GATEWAY}}}": flat(5)},
            query(ReadingName.QUEUE),
            12,
            id="queue: a gateway's as well",
        ),
        pytest.param(
            {f"agent_requests_waiting{{{GATEWAY}}}": flat(5)},
            query(ReadingName.QUEUE),
            5,
            id="queue: no pods, a gateway",
        ),
        pytest.param(UP, query(ReadingName.QUEUE), 0, id="queue: a target answers and has no such series"),
        pytest.param({f"up{{{A}}}": flat(0)}, query(ReadingName.QUEUE), None, id="queue: the target is down"),
        pytest.param({}, query(ReadingName.QUEUE), None, id="queue: nothing is known"),
        pytest.param(RUNNING, query(ReadingName.RUNNING), 8, id="running"),
        pytest.param(
            gauge("agent_sessions_active", 7, 5), query(ReadingName.SESSIONS, 1), 12, id="sessions: of the pods"
        ),
        pytest.param(
            {f'agent_sessions_active{{{A},workload="chat"}}': flat(7)},
            query(ReadingName.SESSIONS),
            None,
            id="sessions: a pod with a gateway's label is no gateway",
        ),
        pytest.param(
            {f"agent_sessions_active{{{GATEWAY}}}": flat(40)},
            query(ReadingName.SESSIONS),
            40,
            id="sessions: of a gateway",
        ),
        pytest.param(PROMPT, query(ReadingName.PROMPT_TOKENS_PER_S), 30, id="prompt: an engine without a cache"),
        pytest.param(
            PROMPT | counter("vllm:prompt_tokens_cached_total", rate(5), rate(5)),
            query(ReadingName.PROMPT_TOKENS_PER_S),
            20,
            id="prompt: without what the cache held",
        ),
        pytest.param(
            counter("vllm:generation_tokens_total", "0+150x9 0+150x29", rate(20)),
            query(ReadingName.GENERATION_TOKENS_PER_S),
            30,
            id="generation: a pod that restarted before the window",
        ),
        pytest.param(
            counter("vllm:generation_tokens_total", "0+150x14 0+150x24", rate(20)),
            query(ReadingName.GENERATION_TOKENS_PER_S),
            28.571,
            id="generation: a pod that restarts within the window loses one scrape, not its whole count",
        ),
        pytest.param(
            ENDED | WAITING | RUNNING, query(ReadingName.ARRIVALS_PER_S), 2, id="arrivals: in balance, what ends"
        ),
        pytest.param(
            ENDED | WAITING | {f"vllm:num_requests_running{{{A}}}": "0+3x40"},
            query(ReadingName.ARRIVALS_PER_S),
            2.2,
            id="arrivals: what ends, and the growth of what runs",
        ),
        pytest.param(ENDED, query(ReadingName.ARRIVALS_PER_S), None, id="arrivals: without the gauges not known"),
        pytest.param(latency(1), query(ReadingName.SERVICE_S), 1, id="service: the wait is not in it"),
        pytest.param(latency(0), query(ReadingName.SERVICE_S), None, id="service: nothing ended, nothing is known"),
        pytest.param(latency(1), query(ReadingName.P50_S), 1, id="P50"),
        pytest.param(latency(1), query(ReadingName.P95_S), 1.9, id="P95: over all pods, not of each"),
        pytest.param(latency(0.05), query(ReadingName.P95_S), None, id="P95: of 12 requests says nothing"),
        pytest.param(RUNNING, seen_query("vllm:num_requests_running", SUBJECT), 2, id="seen: both"),
        pytest.param(
            RUNNING | {f"vllm:num_requests_running{{{B}}}": "2+0x12"},
            seen_query("vllm:num_requests_running", SUBJECT),
            1,
            id="seen: not the ghost whose last sample is two minutes old",
        ),
        pytest.param(RUNNING, newest_query("vllm:num_requests_running", SUBJECT), 300, id="newest"),
        pytest.param(
            {'kube_deployment_spec_replicas{namespace="agents",deployment="chat"}': flat(3)},
            query(ReadingName.REPLICAS),
            3,
            id="replicas of kube-state-metrics",
        ),
    ],
)
def test_query(series: Series, expression: str, want: float | None, tmp_path: Path) -> None:
    promtool = tools_or_skip("promtool").binary("promtool")
    expected: list[dict[str, Any]] = [] if want is None else [{"labels": "{}", "value": want}]
    story = {
        "evaluation_interval": "15s",
        "tests": [
            {
                "interval": "15s",
                "input_series": [{"series": name, "values": values} for name, values in series.items()],
                "promql_expr_test": [{"expr": f"round({expression}, 0.001)", "eval_time": AT, "exp_samples": expected}],
            }
        ],
    }
    path = tmp_path / "query.yaml"
    path.write_text(yaml.safe_dump(story))
    ran = subprocess.run([promtool, "test", "rules", path], capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stdout + ran.stderr
