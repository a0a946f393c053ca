"""Pages of /metrics: what is read, what is passed over, and what must not mislead."""

from functools import partial
from math import inf
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client import Counter as PromCounter
from prometheus_client import Gauge as PromGauge
from prometheus_client import Histogram as PromHistogram
from prometheus_client.openmetrics.exposition import generate_latest as generate_openmetrics

from scaler.signals.histogram import Buckets
from scaler.signals.observed import Cumulative, Observation
from scaler.signals.recipes import Counter, Gauge, Histogram, Own
from scaler.sources import exposition
from scaler.sources.exposition import NOBODY, Page
from scaler.sources.presets import parse

POD = parse(
    "pod.toml",
    """
engine = "E"
versions = "1"
port = 8000
apart = ["rank"]
up = "running"
[gauges.running]
names = [{ name = "e:running", versions = "2", source = "e" }, { name = "e:active", versions = "1", source = "e" }]
[gauges.waiting]
names = [{ name = "e:requests", match = { state = "waiting", priority = "" }, versions = "1", source = "e" }]
[gauges.sessions]
names = [{ name = "e:all", minus = ["e:idle"], versions = "1", source = "e" }]
[gauges.kv_usage]
names = [{ name = "e:kv_percent", scale = 0.01, versions = "1", source = "e" }]
[counters.ended]
names = [{ name = "e_ok_total", plus = ["e_failed_total"], versions = "1", source = "e" }]
[histograms.e2e_s]
names = [{ name = "e_ms", scale = 0.001, versions = "1", source = "e" }]
[histograms.queue_s]
names = [
  { name = "q", buckets = false, sum_name = "q_us", count_name = "n", scale = 1e-6, versions = "1", source = "e" },
]
""",
)
GATEWAY = parse(
    "gateway.toml",
    """
engine = "G"
versions = "1"
port = 9090
scope = "gateway"
workload_label = "model"
up = "running"
[gauges.running]
names = [{ name = "g_running", versions = "1", source = "g" }]
""",
)


def seen(*lines: str) -> Observation:
    return Page(POD, of_gateway=False).observations("\n".join(lines) + "\n", 5.0).get(NOBODY, Observation(at_s=5.0))


RUN, WAIT, KV = Gauge.RUNNING, Gauge.WAITING, Gauge.KV_USAGE
BY_JOB = ['e:running{rank="0",job="a"} 3', 'e:running{job="b",rank="0"} 3']


@pytest.mark.parametrize(
    ("lines", "gauges"),
    [
        pytest.param(["e:running 3"], {RUN: {("",): 3.0}}, id="without labels"),
        pytest.param(['e:running{rank="0"} 3', 'e:running{rank="1"} 4'], {RUN: {("0",): 3, ("1",): 4}}, id="two"),
        pytest.param(BY_JOB, {RUN: {("0",): 3}}, id="scraped twice"),
        pytest.param(["e:active 3"], {RUN: {("",): 3.0}}, id="under its old name"),
        pytest.param(["e:active 3", "e:running 4"], {RUN: {("",): 4.0}}, id="under both: the first counts"),
        pytest.param(['e:requests{state="waiting"} 3'], {WAIT: {("",): 3.0}}, id="a label selects"),
        pytest.param(['e:requests{state="active"} 9'], {}, id="another label does not"),
        pytest.param(['e:requests{state="waiting",priority="1"} 3'], {}, id="a label that must not be there"),
        pytest.param(["e:kv_percent 50"], {KV: {("",): 0.5}}, id="scaled"),
        pytest.param(["e:running 3 1700000000000"], {RUN: {("",): 3.0}}, id="with a timestamp"),
        pytest.param(['e:running{rank="0"} 3 # {trace="}"} 1'], {RUN: {("0",): 3.0}}, id="with an exemplar"),
        pytest.param(['e:running{rank="a\\"} 7 {\\\\"} 3'], {RUN: {('a"} 7 {\\',): 3.0}}, id="with escapes"),
        pytest.param(["e:running NaN"], {}, id="NaN is not told"),
        pytest.param(["e:running +Inf"], {}, id="infinity is not told"),
        pytest.param(["e:running -1"], {}, id="a negative load is not told"),
        pytest.param(["e:running"], {}, id="without a value"),
        pytest.param(["e:running three"], {}, id="no number"),
        pytest.param(['e:running{rank="0" 3'], {}, id="an open brace"),
        pytest.param(["# HELP e:running 3", "# TYPE e:running gauge"], {}, id="comments"),
        pytest.param(["e:running_created 1"], {}, id="a name that begins alike"),
    ],
)
def test_gauges(lines: list[str], gauges: dict[Gauge, dict[tuple[str, ...], float]]) -> None:
    assert seen(*lines).gauges == gauges


def test_families_that_are_added_up_are_not_one_series_scraped_twice() -> None:
    got = seen('e_ok_total{rank="0"} 7', 'e_failed_total{rank="0"} 2')
    assert got.counters == {Counter.ENDED: {("0", "e_ok_total"): 7.0, ("0", "e_failed_total"): 2.0}}


def test_families_that_are_taken_off() -> None:
    assert seen("e:all 7", "e:idle 2").gauges == {Gauge.SESSIONS: {("", "e:all"): 7.0, ("", "e:idle"): -2.0}}


def test_a_histogram_in_milliseconds_is_in_seconds() -> None:
    got = seen('e_ms_bucket{le="500"} 3', 'e_ms_bucket{le="+Inf"} 4', "e_ms_sum 2500", "e_ms_count 4")
    assert got.histograms == {Histogram.E2E_S: {("",): Cumulative(Buckets((0.5, inf), (3.0, 4.0)), 2.5, 4.0)}}


@pytest.mark.parametrize(
    ("lines", "want"),
    [
        pytest.param(["q_us 3000000", "n 2"], Cumulative(None, 3.0, 2.0), id="two counters"),
        pytest.param(["n 2"], None, id="without its sum"),
    ],
)
def test_sums_without_buckets(lines: list[str], want: Cumulative | None) -> None:
    assert seen(*lines).histograms == ({} if want is None else {Histogram.QUEUE_S: {("",): want}})


def test_a_bucket_without_a_bound_is_passed_over() -> None:
    got = seen('e_ms_bucket{le="wide"} 3', "e_ms_sum 2500", "e_ms_count 4")
    assert got.histograms == {Histogram.E2E_S: {("",): Cumulative(None, 2.5, 4.0)}}


def test_what_agents_export_is_read_on_their_page_whatever_its_labels() -> None:
    assert seen('agent_sessions_active{workload="x"} 7').gauges == {Own.SESSIONS_ACTIVE: {(): 7.0}}


def test_a_gateways_page_tells_of_the_workloads_that_it_names() -> None:
    page = Page(GATEWAY, of_gateway=True).observations(
        'g_running{model="chat"} 3\ng_running{model="code"} 4\ng_running 9\n'
        'agent_requests_waiting{namespace="agents",workload="chat"} 5\nagent_requests_waiting 6\n',
        5.0,
    )
    assert page[("", "chat")].gauges == {Gauge.RUNNING: {(): 3.0}}
    assert page[("", "code")].gauges == {Gauge.RUNNING: {(): 4.0}}
    assert page[("agents", "chat")].gauges == {Own.REQUESTS_WAITING: {(): 5.0}}
    assert set(page) == {("", "chat"), ("", "code"), ("agents", "chat"), NOBODY}


def test_pages_are_understood_once_and_the_memory_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(exposition, "REMEMBERED", 2)
    page = Page(POD, of_gateway=False)
    for rank in range(9):
        got = page.observations(f'e:running{{rank="{rank}"}} {rank}\n', 5.0)[NOBODY]
        assert got.gauges == {Gauge.RUNNING: {(str(rank),): float(rank)}}
        assert len(page._slots) <= 2


#: Without the escaping the client writes e_running: its OpenMetrics has no colons. We ask for text 0.0.4, which has.
WRITE: dict[bool, Any] = {False: generate_latest, True: partial(generate_openmetrics, escaping="allow-utf-8")}


@pytest.mark.parametrize("openmetrics", [False, True], ids=["text 0.0.4", "OpenMetrics"])
def test_what_the_official_client_writes_is_read(openmetrics: bool) -> None:
    registry = CollectorRegistry()
    PromGauge("e:running", "Running, {not} \\ a label", ["rank"], registry=registry).labels('o"dd\\').set(3)
    PromCounter("e_ok", "ended", ["rank"], registry=registry).labels("0").inc(7)
    observed = PromHistogram("e_ms", "latency", ["rank"], buckets=(500, 1000), registry=registry).labels("0")
    for value in (400, 600, 5000):
        observed.observe(value)
    page = WRITE[openmetrics](registry)
    got = seen(*page.decode().splitlines())
    assert got.gauges == {Gauge.RUNNING: {('o"dd\\',): 3.0}}
    assert got.counters == {Counter.ENDED: {("0", "e_ok_total"): 7.0}}
    assert got.histograms == {
        Histogram.E2E_S: {("0",): Cumulative(Buckets((0.5, 1.0, inf), (1.0, 2.0, 3.0)), 6.0, 3.0)}
    }


@given(st.text(max_size=200))
def test_no_page_breaks_the_reader(text: str) -> None:
    Page(POD, of_gateway=False).observations(f"e:running{text}", 5.0)
    Page(GATEWAY, of_gateway=True).observations(text, 5.0)
