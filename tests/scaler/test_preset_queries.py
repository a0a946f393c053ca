"""What PromQL is made of presets, as Prometheus's own engine answers it (promtool), on series with known answers."""

import re
from pathlib import Path

import pytest

from scaler.signals.reading import ReadingName
from scaler.signals.recipes import (
    Counter,
    CountRate,
    Expression,
    Gateway,
    Gauge,
    Growth,
    Highest,
    Histogram,
    Own,
    Pods,
    Rate,
    Sum,
    SumRate,
)
from scaler.sources.batch import Kind, questions
from scaler.sources.presets import Preset, load, parse
from scaler.sources.promql import Scope, Writer
from tests.scaler.engine_series import (
    CHAT,
    E2E,
    GATEWAY,
    OF_NAMESAKE,
    OF_PLANNER,
    PLANNER,
    RUNNING,
    WAITING,
    A,
    B,
    classic,
    counter,
    gauge,
)
from tests.scaler.promtool import Series, Want, answered, flat, native, rate

pytestmark = pytest.mark.integration

SCOPE = Scope(namespaces=("agents", "research"), window_s=120.0, max_age_s=60.0)


VLLM = Writer(load()["vllm"], SCOPE)
#: What no shipped engine has in one: families that come late, other units, sums of families, two names for a histogram.
ODD = parse(
    "odd.toml",
    """
engine = "Odd"
versions = "1"
port = 80
up = "running"
[gauges.running]
names = [{ name = "running", versions = "1", source = "s" }]
[gauges.waiting]
names = [{ name = "waiting", versions = "1", source = "s" }]
lazy = true
[gauges.kv_usage]
names = [
  { name = "usage_percent", versions = "2", source = "s", scale = 0.01, match = { kind = "gpu" } },
  { name = "usage", versions = "1", source = "s" },
]
[counters.ended]
names = [{ name = "ok_total", plus = ["failed_total"], versions = "1", source = "s" }]
lazy = true
[histograms.e2e_s]
names = [
  { name = "request_ms", versions = "2", source = "s", scale = 0.001 },
  { name = "request_seconds", versions = "1", source = "s" },
]
""",
)
ODDLY = Writer(ODD, SCOPE)


EVERYWHERE: dict[tuple[str, ...], float] = {CHAT: 7, OF_PLANNER: 20, OF_NAMESAKE: 30}
KV = "vllm:kv_cache_usage_perc"
OLD_KV = "vllm:gpu_cache_usage_perc"
GENERATED = "vllm:generation_tokens_total"


@pytest.mark.parametrize(
    ("part", "series", "want"),
    [
        pytest.param(Sum(Gauge.WAITING), WAITING, EVERYWHERE, id="each workload its own, each pod once"),
        pytest.param(Highest(Gauge.WAITING), WAITING, EVERYWHERE | {CHAT: 4}, id="the highest of a workload's pods"),
        pytest.param(Sum(Gauge.WAITING), {}, {}, id="nothing is known where nothing is seen"),
        pytest.param(
            Sum(Gauge.WAITING), {f"up{{{A}}}": flat(1)}, {}, id="a pod that answers without the family is not 0"
        ),
        pytest.param(
            Sum(Gauge.WAITING),
            {f"vllm:num_requests_waiting{{{A.replace('7d9f8b6c4d', 'agent')}}}": flat(5)},
            {("agents",): 5},
            id="a DaemonSet's pod is of no workload that can be asked for",
        ),
        pytest.param(
            Sum(Gauge.WAITING),
            WAITING | {f"vllm:num_requests_waiting{{{B.replace('bbbbb', 'ccccc')}}}": "50+0x12"},
            EVERYWHERE,
            id="a ghost, last seen two minutes ago, does not count",
        ),
        pytest.param(
            Sum(Gauge.WAITING),
            WAITING | {f"vllm:num_requests_waiting{{{B}}}": "4+0x18 stale"},
            EVERYWHERE | {CHAT: 3},
            id="a target that is taken off the list is gone at once",
        ),
        pytest.param(
            Sum(Gauge.WAITING),
            {
                f"vllm:num_requests_waiting{{{A}}}": flat(3),
                f"vllm:num_requests_waiting{{{A.replace('0', '1')}}}": flat(5),
            },
            {CHAT: 8},
            id="two data-parallel ranks of one pod are added",
        ),
        pytest.param(
            Sum(Gauge.KV_USAGE),
            {f"{KV}{{{A}}}": flat(0.5), f"{OLD_KV}{{{B}}}": flat(0.25)},
            {CHAT: 0.75},
            id="a rollout: one pod has the new name, one the old",
        ),
        pytest.param(
            Sum(Gauge.KV_USAGE),
            {f"{KV}{{{A}}}": flat(0.5), f"{OLD_KV}{{{A.replace('engine', 'rank')}}}": flat(0.5)},
            {CHAT: 0.5},
            id="a pod with both names counts once, whatever their labels",
        ),
        pytest.param(
            Rate(Counter.GENERATION_TOKENS),
            counter(GENERATED, "0+150x9 0+150x29", rate(20)),
            {CHAT: 30},
            id="a pod that restarted before the window",
        ),
        pytest.param(
            Rate(Counter.GENERATION_TOKENS),
            counter(GENERATED, "0+150x14 0+150x24", rate(20)),
            {CHAT: 28.5714},
            id="a reset within the window loses one scrape of one pod, not its whole count",
        ),
        pytest.param(
            Rate(Counter.GENERATION_TOKENS),
            counter(GENERATED, "0+150x14 _x3 2700+150x20", rate(20)),
            {CHAT: 30},
            id="a gap in the window is bridged",
        ),
        pytest.param(
            Rate(Counter.GENERATION_TOKENS), {f"{GENERATED}{{{A}}}": "_x20 900"}, {}, id="one sample makes no rate"
        ),
        pytest.param(
            Rate(Counter.ENDED),
            counter("vllm:request_success_total", rate(1), rate(1), ',finished_reason="stop"')
            | counter("vllm:request_success_total", rate(0.5), rate(0), ',finished_reason="length"'),
            {CHAT: 2.5},
            id="all reasons for which requests end are added",
        ),
        pytest.param(
            Rate(Counter.CACHED_TOKENS),
            counter("vllm:prompt_tokens_cached_total", rate(5), rate(5))
            | counter("vllm:prefix_cache_hits_total", rate(5), rate(5)),
            {CHAT: 10},
            id="of two families that tell the same, the first",
        ),
        pytest.param(
            Growth(Gauge.RUNNING),
            {f"vllm:num_requests_running{{{A}}}": "0+3x40", f"vllm:num_requests_running{{{B}}}": "40-1.5x40"},
            {CHAT: 0.1},
            id="growth may be of either sign",
        ),
        pytest.param(
            SumRate(Histogram.E2E_S),
            counter("vllm:e2e_request_latency_seconds_sum", rate(1.5), rate(0.5)),
            {CHAT: 2},
            id="the sum of a classic histogram",
        ),
        pytest.param(
            CountRate(Histogram.E2E_S),
            {f"vllm:e2e_request_latency_seconds{{{A}}}": native(1, "30 15")}
            | counter("vllm:e2e_request_latency_seconds_count", rate(3), rate(1)),
            {CHAT: 4},
            id="a pod with both kinds of histogram counts by its native one, the other by its classic one",
        ),
        pytest.param(
            Gateway(Own.REQUESTS_WAITING),
            {
                f"agent_requests_waiting{{{GATEWAY}}}": flat(5),
                f'agent_requests_waiting{{{GATEWAY},job="twice"}}': flat(5),
            },
            {CHAT: 5},
            id="a gateway's word",
        ),
        pytest.param(
            Gateway(Own.REQUESTS_WAITING),
            {f'agent_requests_waiting{{{A},workload="chat"}}': flat(7)},
            {},
            id="a pod with a gateway's label is no gateway",
        ),
        pytest.param(
            Gateway(Own.REQUESTS_WAITING),
            {f"agent_requests_waiting{{{GATEWAY}}}": "5+0x12"},
            {},
            id="a gateway that fell silent two minutes ago has no word",
        ),
        pytest.param(
            Pods(Own.SESSIONS_ACTIVE),
            gauge("agent_sessions_active", flat(7), flat(5)),
            {CHAT: 12, OF_PLANNER: 20, OF_NAMESAKE: 30},
            id="sessions of the pods",
        ),
    ],
)
def test_part(part: Expression, series: Series, want: Want, tmp_path: Path) -> None:
    answered(VLLM.part(part), series, want, tmp_path)


SERVING = {f"running{{{A}}}": flat(1), f"running{{{B}}}": flat(1)}


@pytest.mark.parametrize(
    ("part", "series", "want"),
    [
        pytest.param(Sum(Gauge.WAITING), SERVING, {CHAT: 0}, id="a family that comes late is 0 while pods serve"),
        pytest.param(Sum(Gauge.WAITING), {f"up{{{A}}}": flat(1)}, {}, id="and unknown where none serves"),
        pytest.param(
            Sum(Gauge.WAITING), SERVING | {f"waiting{{{A}}}": flat(3)}, {CHAT: 3}, id="one pod has it, one not yet"
        ),
        pytest.param(Rate(Counter.ENDED), SERVING, {CHAT: 0}, id="a counter that comes late"),
        pytest.param(
            Rate(Counter.ENDED),
            SERVING | counter("ok_total", rate(2), rate(1)) | {f"failed_total{{{B}}}": rate(0.5)},
            {CHAT: 3.5},
            id="families are added, and one that is not there adds nothing",
        ),
        pytest.param(
            Sum(Gauge.KV_USAGE),
            {
                f'usage_percent{{{A},kind="gpu"}}': flat(50),
                f'usage_percent{{{A},kind="cpu"}}': flat(90),
                f"usage{{{B}}}": flat(0.25),
            },
            {CHAT: 0.75},
            id="percent and shares, by label",
        ),
        pytest.param(
            SumRate(Histogram.E2E_S),
            {f"request_ms_sum{{{A}}}": rate(1500), f"request_seconds_sum{{{B}}}": rate(0.5)},
            {CHAT: 2},
            id="milliseconds and seconds",
        ),
    ],
)
def test_part_of_an_odd_engine(part: Expression, series: Series, want: Want, tmp_path: Path) -> None:
    answered(ODDLY.part(part), series, want, tmp_path)


@pytest.mark.parametrize(
    ("writer", "series", "want"),
    [
        pytest.param(VLLM, {}, {}, id="nothing"),
        pytest.param(
            VLLM,
            classic(E2E, A) | classic(E2E, f'{A},job="twice"') | classic(E2E, B) | classic(E2E, PLANNER),
            {
                (*CHAT, "1.0", "e2e_s.0"): 1,
                (*CHAT, "2.0", "e2e_s.0"): 2,
                (*CHAT, "+Inf", "e2e_s.0"): 2,
                (*OF_PLANNER, "1.0", "e2e_s.0"): 0.5,
                (*OF_PLANNER, "2.0", "e2e_s.0"): 1,
                (*OF_PLANNER, "+Inf", "e2e_s.0"): 1,
            },
            id="buckets of all pods, each pod once",
        ),
        pytest.param(
            VLLM,
            classic(E2E, A, one="1") | classic(E2E, B),
            {
                (*CHAT, "1", "e2e_s.0"): 0.5,
                (*CHAT, "1.0", "e2e_s.0"): 0.5,
                (*CHAT, "2.0", "e2e_s.0"): 2,
                (*CHAT, "+Inf", "e2e_s.0"): 2,
            },
            id='le="1" of one pod and le="1.0" of another',
        ),
        pytest.param(
            VLLM,
            {f"{E2E}{{{A}}}": native(1, "30 15")} | classic(E2E, A) | {f"{E2E}{{{B}}}": native(1, "30 15")},
            {
                (*CHAT, "", "e2e_s.0"): 3,
                (*CHAT, "1.0", "e2e_s.0"): 0.5,
                (*CHAT, "2.0", "e2e_s.0"): 1,
                (*CHAT, "+Inf", "e2e_s.0"): 1,
            },
            id="a pod with both kinds counts by one of them",
        ),
        pytest.param(
            VLLM,
            {f"{E2E}{{{A}}}": native(1, "30 15"), f'{E2E}{{{A},job="twice"}}': native(1, "30 15")},
            {(*CHAT, "", "e2e_s.0"): 3},
            id="a native histogram that is scraped twice counts once",
        ),
        pytest.param(
            ODDLY,
            classic("request_ms", A) | classic("request_seconds", A) | classic("request_seconds", B),
            {
                (*CHAT, "1.0", "e2e_s.0"): 0.5,
                (*CHAT, "2.0", "e2e_s.0"): 1,
                (*CHAT, "+Inf", "e2e_s.0"): 1,
                (*CHAT, "1.0", "e2e_s.1"): 0.5,
                (*CHAT, "2.0", "e2e_s.1"): 1,
                (*CHAT, "+Inf", "e2e_s.1"): 1,
            },
            id="a rollout: each pod under the first name that it has",
        ),
    ],
)
def test_buckets(writer: Writer, series: Series, want: Want, tmp_path: Path) -> None:
    texts = writer.buckets(Histogram.E2E_S)
    tagged = " or ".join(f'label_replace({text}, "part", "{tag}", "", "")' for tag, _, text in texts)
    classic_ones = {key: value for key, value in want.items() if key[2]}
    native_ones = {key: value for key, value in want.items() if not key[2]}
    answered(tagged, series, classic_ones, tmp_path, labels=("le", "part"))
    answered(f"histogram_count({tagged})", series, native_ones, tmp_path, labels=("le", "part"))


GHOST = {f"vllm:num_requests_running{{{B}}}": "2+0x12"}
NEWBORN = {f"vllm:num_requests_running{{{B.replace('bbbbb', 'ddddd')}}}": "_x20 1"}


@pytest.mark.parametrize(
    ("expression", "series", "want"),
    [
        pytest.param(VLLM.seen(), RUNNING, {CHAT: 2, OF_PLANNER: 1, OF_NAMESAKE: 1}, id="seen: pods, not series"),
        pytest.param(VLLM.seen(), {f"vllm:num_requests_running{{{A}}}": flat(1)} | GHOST, {CHAT: 1}, id="no ghost"),
        pytest.param(VLLM.young(), RUNNING, {}, id="young: none"),
        pytest.param(VLLM.young(), RUNNING | NEWBORN, {CHAT: 1}, id="young: of one scrape no rate is known"),
        pytest.param(
            VLLM.young(),
            RUNNING | counter("vllm:prompt_tokens_total", "0+150x14 0+150x24", rate(20)),
            {CHAT: 1},
            id="young: one restarted within the window",
        ),
        pytest.param(VLLM.young(), RUNNING | GHOST, {}, id="young: ghosts are not young"),
        pytest.param(
            VLLM.oldest(),
            {f"vllm:num_requests_running{{{A}}}": flat(1), f"vllm:num_requests_running{{{B}}}": "1+0x18"},
            {CHAT: 270},
            id="the oldest of what counts",
        ),
    ],
)
def test_pods_behind(expression: str, series: Series, want: Want, tmp_path: Path) -> None:
    answered(expression, series, want, tmp_path)


@pytest.mark.parametrize("preset", load().values(), ids=load().keys())
def test_every_query_of_every_preset_is_promql_and_says_nothing_of_nothing(preset: Preset, tmp_path: Path) -> None:
    kind = Kind("it", 60.0, 90.5, frozenset(ReadingName))
    asked = questions({kind: dict.fromkeys(SCOPE.namespaces, 1)}, {"it": preset})
    assert asked
    for question in asked:
        answered(question.text, {}, {}, tmp_path, labels=("part",))


def test_one_query_holds_several_numbers_apart(tmp_path: Path) -> None:
    kind = Kind("vllm", 60.0, 120.0, frozenset({"queue", "running"}))
    (question,) = questions({kind: {"agents": 1}}, load())
    want: Want = {
        (*CHAT, "sum.waiting"): 7,
        (*CHAT, "sum.running"): 8,
        (*CHAT, "seen"): 2,
        (*CHAT, "oldest"): 300,
        (*OF_PLANNER, "sum.waiting"): 20,
        (*OF_PLANNER, "sum.running"): 20,
        (*OF_PLANNER, "seen"): 1,
        (*OF_PLANNER, "oldest"): 300,
    }
    answered(question.text, WAITING | RUNNING, want, tmp_path, labels=("part",))


def test_the_text_for_one_workload_tells_of_no_other(tmp_path: Path) -> None:
    alone = Scope(namespaces=("agents",), window_s=120.0, max_age_s=60.0, workload="chat")
    answered(Writer(load()["vllm"], alone).part(Sum(Gauge.WAITING)), WAITING, {CHAT: 7}, tmp_path)


def test_every_selector_is_of_the_namespaces() -> None:
    for preset in load().values():
        kind = Kind("it", 60.0, 120.0, frozenset(ReadingName))
        for question in questions({kind: dict.fromkeys(SCOPE.namespaces, 1)}, {"it": preset}):
            selectors = re.findall(r"[a-z_:]+\{([^}]*)\}", question.text)
            assert selectors
            assert all(s.startswith('namespace=~"agents|research"') for s in selectors)
