"""The seventeen pitfalls of metrics and PromQL, each as readings of a real Prometheus over series with known answers.

A pitfall is a namespace with its own series, written into Prometheus's storage by promtool; the source reads all of
them as of one instant. What a reading then does to the replicas is for `tests/scaler/test_laws.py` and the policies'
own tests.
"""

import subprocess
from collections.abc import Iterator, Mapping, Sequence
from itertools import accumulate
from pathlib import Path
from typing import Final

import pytest

from scaler.backends import PrometheusBackend
from scaler.signals.reading import Missing, Reading, Sample
from scaler.sources.base import Subject
from scaler.sources.batch import Kind, questions
from scaler.sources.presets import load
from scaler.sources.prometheus import PrometheusSource
from tests.e2e.parts.prometheus import Prometheus
from tests.e2e.parts.tools import tools_or_skip
from tests.fakes.prometheus import FakePrometheus

pytestmark = [pytest.mark.integration, pytest.mark.timeout(180)]

T: Final = 1_750_000_200
EVERY_S: Final = 15
A, B, C = (f"chat-7d9f8b6c4d-{letter * 5}" for letter in "abc")
WAITING, RUNNING = "vllm:num_requests_waiting", "vllm:num_requests_running"
GENERATED, ENDED = "vllm:generation_tokens_total", "vllm:request_success_total"
E2E = "vllm:e2e_request_latency_seconds"


class Story:
    """Series in OpenMetrics, one sample each 15 s until `T`."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def series(self, name: str, values: Sequence[float], *, ended_s: int = 0, **labels: str) -> None:
        """`ended_s`: how long ago the last of `values` was measured."""
        text = ",".join(f'{label}="{value}"' for label, value in labels.items())
        first_s = T - ended_s - (len(values) - 1) * EVERY_S
        for n, value in enumerate(values):
            self.lines.append(f"{name}{{{text}}} {value:g} {first_s + n * EVERY_S}")

    def serves(self, namespace: str, *pods: str, samples: int = 21) -> None:
        for pod in pods:
            self.series(RUNNING, [1] * samples, namespace=namespace, pod=pod)

    def requests(self, namespace: str, pod: str, shares: Mapping[str, float], per_s: float = 1.0) -> None:
        """Requests end at `per_s`; `shares` of them within each edge."""
        for le, share in {**shares, "+Inf": 1.0}.items():
            grown = counted(share * per_s)
            self.series(f"{E2E}_bucket", grown, namespace=namespace, pod=pod, le=le)
        self.series(f"{E2E}_count", counted(per_s), namespace=namespace, pod=pod)


def counted(per_s: float, samples: int = 21) -> list[float]:
    return [n * EVERY_S * per_s for n in range(samples)]


def written() -> Story:
    story = Story()
    counters_and_ghosts(story)
    latencies(story)
    witnesses(story)
    return story


def counters_and_ghosts(story: Story) -> None:
    # 1: two pods at 10 tokens/s; one restarts within the window, a third is gone since a minute.
    story.serves("p01", A, B)
    story.series(GENERATED, counted(10), namespace="p01", pod=A)
    story.series(GENERATED, [1e6 + n for n in counted(10, 17)] + counted(10, 4), namespace="p01", pod=B)
    story.series("vllm:prompt_tokens_total", [1e6] * 17 + [0] * 4, namespace="p01", pod=B)
    story.series(GENERATED, [5e6 + n for n in counted(10, 17)], ended_s=60, namespace="p01", pod=C)
    # 2: a pod whose counter was born at 900.
    story.serves("p02", A)
    story.serves("p02", B, samples=1)
    story.series(GENERATED, counted(10), namespace="p02", pod=A)
    story.series(GENERATED, [900], namespace="p02", pod=B)
    # 3: a gauge that says NaN, and a histogram of no requests.
    story.serves("p03", A)
    story.series(WAITING, [float("nan")] * 21, namespace="p03", pod=A)
    story.requests("p03", A, {"1.0": 1.0}, per_s=0.0)
    # 4: the target is up, the engine's families are not there.
    story.series("up", [1] * 21, namespace="p04", pod=A)
    # 5: two pods, one of which went 75 s ago without a word.
    story.serves("p05", A)
    story.series(RUNNING, [1] * 16, ended_s=75, namespace="p05", pod=B)
    story.series(WAITING, [3] * 21, namespace="p05", pod=A)
    story.series(WAITING, [40] * 16, ended_s=75, namespace="p05", pod=B)


def latencies(story: Story) -> None:
    # 6: nine of ten requests take longer than the last edge.
    story.serves("p06", A)
    story.requests("p06", A, {"1.0": 0.1})
    # 7: what ends took under a second, and 600 wait.
    story.serves("p07", A)
    story.requests("p07", A, {"1.0": 1.0})
    story.series(WAITING, [600] * 21, namespace="p07", pod=A)
    story.series(ENDED, counted(2), namespace="p07", pod=A, finished_reason="stop")
    # 8: a busy pod that is quick and an idle one that is slow.
    story.serves("p08", A, B)
    story.requests("p08", A, {"1.0": 1.0, "10.0": 1.0}, per_s=9.9)
    story.requests("p08", B, {"1.0": 0.0, "10.0": 1.0}, per_s=0.1)
    # 9: half of the pods have other buckets. All of A's requests took 1..2 s, all of B's 5..10 s.
    story.serves("p09", A, B)
    story.requests("p09", A, {"1.0": 0.0, "2.0": 1.0, "10.0": 1.0})
    story.requests("p09", B, {"1.0": 0.0, "5.0": 0.0, "10.0": 1.0})
    # 10: one edge, two spellings.
    story.serves("p10", A, B)
    story.requests("p10", A, {"1": 0.5, "2": 1.0})
    story.requests("p10", B, {"1.0": 0.5, "2.0": 1.0})


def witnesses(story: Story) -> None:
    # 11: pods that two jobs scrape. (A histogram of both kinds: test_preset_queries.py, and NHCB in tests/integration.)
    for job in ("pods", "services"):
        story.series(RUNNING, [1] * 21, namespace="p11", pod=A, job=job)
        story.series(WAITING, [3] * 21, namespace="p11", pod=A, job=job)
        story.series(GENERATED, counted(10), namespace="p11", pod=A, job=job)
    # 12: a burst of 60 requests that came and went between two scrapes.
    story.serves("p12", A)
    story.series(WAITING, [0] * 21, namespace="p12", pod=A)
    burst = accumulate([0.0] * 18 + [60.0] + [0.0] * 2)
    story.series(ENDED, list(burst), namespace="p12", pod=A, finished_reason="stop")
    # 13: two workloads serve one model.
    for pod, waiting in ((A, 3), ("chat-batch-7d9f8b6c4d-aaaaa", 500)):
        story.series(RUNNING, [1] * 21, namespace="p13", pod=pod, model_name="llama")
        story.series(WAITING, [waiting] * 21, namespace="p13", pod=pod, model_name="llama")
    # 15: a pod that was scraped now, and one 40 s ago.
    story.serves("p15", A)
    story.series(RUNNING, [1] * 21, ended_s=40, namespace="p15", pod=B)
    # 16: no kube-state-metrics.
    story.serves("p16", A)
    # 17: one of three pods has not come through.
    story.serves("p17", A, B)


@pytest.fixture(scope="module")
def prometheus(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Prometheus]:
    tools, folder = tools_or_skip("prometheus", "promtool"), tmp_path_factory.mktemp("pitfalls")
    (folder / "logs").mkdir()
    server = Prometheus(tools, folder, discovery_url="http://127.0.0.1:1/nothing-to-scrape")
    (memory,) = [str(arg).partition("=")[2] for arg in server.argv if "tsdb.path" in str(arg)]
    text = folder / "story.om"
    text.write_text("\n".join([*written().lines, "# EOF\n"]))
    made: list[str | Path] = [tools.binary("promtool"), "tsdb", "create-blocks-from", "openmetrics", text, memory]
    subprocess.run(made, check=True, capture_output=True)
    try:
        yield server.up()
    finally:
        server.kill()


def subject(namespace: str, workload: str = "chat") -> Subject:
    return Subject(
        namespace=namespace,
        scaled_object="chat",
        workload=workload,
        backend="default",
        preset="vllm",
        window_s=120.0,
        max_age_s=60.0,
        slo_s=2.0,
    )


async def reading(prometheus: Prometheus, pitfall: str, name: str, workload: str = "chat") -> Reading:
    source = PrometheusSource("default", PrometheusBackend(url=prometheus.url), load(), timeout_s=30.0)
    asked = subject(pitfall, workload)
    try:
        return (await source.read({asked: frozenset({name})}, T))[asked].readings[name]
    finally:
        await source.close()


async def sample(prometheus: Prometheus, pitfall: str, name: str) -> Sample:
    found = await reading(prometheus, pitfall, name)
    assert isinstance(found, Sample)
    return found


async def test_pitfall_01_a_counter_reset_is_no_fall_and_no_jump(prometheus: Prometheus) -> None:
    found = await sample(prometheus, "p01", "generation_tokens_per_s")
    # 10 and 10, less one scrape of the one that restarted, and what the third did while it was there.
    assert 10 + 10 * 7 / 8 - 0.5 < found.value < 30
    assert found.pods == 1  # what the one counted just before it restarted is lost


async def test_pitfall_02_a_first_increment_that_no_rate_sees_leaves_the_pod_uncovered(prometheus: Prometheus) -> None:
    assert (await sample(prometheus, "p02", "running")).pods == 2
    found = await sample(prometheus, "p02", "generation_tokens_per_s")
    assert found.value == pytest.approx(10)
    assert found.pods == 1


async def test_pitfall_03_empty_and_nan_and_nothing_over_nothing_are_not_zero(prometheus: Prometheus) -> None:
    why = {name: await reading(prometheus, "p03", name) for name in ("queue", "p95_s", "service_s", "kv_usage")}
    assert {name: type(found) for name, found in why.items()} == dict.fromkeys(why, Missing)
    assert why["queue"] == Missing("the value is nan; want a finite number, 0 or more")
    assert why["kv_usage"] == Missing("no series")
    assert why["p95_s"] == Missing("0 observations within the window; want 20 or more")


async def test_pitfall_04_an_outage_does_not_hide_behind_a_zero(prometheus: Prometheus) -> None:
    assert await reading(prometheus, "p04", "queue") == Missing("no series")
    kind = Kind("it", 60.0, 120.0, frozenset({"queue", "running", "p95_s", "arrivals_per_s"}))
    for preset in load().values():
        assert not [q.text for q in questions({kind: {"a": 1}}, {"it": preset}) if "vector(" in q.text]


async def test_pitfall_05_series_that_outlive_their_pod_do_not_count(prometheus: Prometheus) -> None:
    found = await sample(prometheus, "p05", "queue")
    assert (found.value, found.pods) == (3, 1)


async def test_pitfall_06_a_quantile_beyond_the_last_bucket_says_that_it_is_one(prometheus: Prometheus) -> None:
    found = await sample(prometheus, "p06", "p95_s")
    assert (found.value, found.saturated) == (1.0, True)
    assert (await sample(prometheus, "p06", "attainment")).value == pytest.approx(0.1)


async def test_pitfall_07_those_who_wait_are_seen_where_those_who_ended_look_fine(prometheus: Prometheus) -> None:
    assert (await sample(prometheus, "p07", "p95_s")).value < 1
    assert (await sample(prometheus, "p07", "oldest_wait_s")).value == pytest.approx(300)


async def test_pitfall_08_a_p95_is_of_all_requests_not_of_the_pods_p95s(prometheus: Prometheus) -> None:
    found = await sample(prometheus, "p08", "p95_s")  # the mean of the pods' own, 0.95 s and 9.55 s, would be 5.25 s
    assert found.value == pytest.approx(0.95 / 0.99, rel=0.01)


async def test_pitfall_09_buckets_of_two_versions_never_make_requests_look_quicker(prometheus: Prometheus) -> None:
    p50, p95 = await sample(prometheus, "p09", "p50_s"), await sample(prometheus, "p09", "p95_s")
    assert 2.0 <= p50.value <= 10.0
    assert 9.5 <= p95.value <= 10.0  # the truth: 9.5, of requests that are even within 5..10 s
    assert (await sample(prometheus, "p09", "attainment")).value <= 0.5


async def test_pitfall_10_edges_are_numbers_however_they_are_spelt(prometheus: Prometheus) -> None:
    assert (await sample(prometheus, "p10", "p50_s")).value == pytest.approx(1.0)
    assert (await sample(prometheus, "p10", "p50_s")).count == pytest.approx(240, rel=0.05)


async def test_pitfall_11_what_is_scraped_twice_counts_once(prometheus: Prometheus) -> None:
    queue = await sample(prometheus, "p11", "queue")
    assert (queue.value, queue.pods) == (3, 1)
    assert (await sample(prometheus, "p11", "generation_tokens_per_s")).value == pytest.approx(10)


async def test_pitfall_12_a_burst_between_two_scrapes_is_in_the_counters(prometheus: Prometheus) -> None:
    assert (await sample(prometheus, "p12", "queue")).value == 0
    assert (await sample(prometheus, "p12", "arrivals_per_s")).value == pytest.approx(60 / 120, rel=0.2)


async def test_pitfall_13_workloads_that_serve_one_model_are_told_apart_by_their_pods(prometheus: Prometheus) -> None:
    assert (await sample(prometheus, "p13", "queue")).value == 3
    found = await reading(prometheus, "p13", "queue", "chat-batch")
    assert isinstance(found, Sample)
    assert found.value == 500


async def test_pitfall_14_nothing_is_made_of_process_metrics_that_engines_lose() -> None:
    presets = load().values()
    plain = [name for p in presets for of in (*p.gauges.values(), *p.counters.values()) for name in of.names]
    histograms = [name for p in presets for of in p.histograms.values() for name in of.names]
    every = {family for name in plain for family in name.families} | {f for name in histograms for f in name.families}
    assert every
    assert not {family for family in every if family.startswith("process_")}


async def test_pitfall_15_a_value_is_as_old_as_the_oldest_pod_in_it(prometheus: Prometheus) -> None:
    found = await sample(prometheus, "p15", "running")
    assert (found.value, found.pods, T - found.at_s) == (2, 2, 40)


async def test_pitfall_16_without_kube_state_metrics_only_its_own_readings_are_missing(prometheus: Prometheus) -> None:
    names = ("replicas", "ready", "pending", "terminating")
    assert {await reading(prometheus, "p16", name) for name in names} == {Missing("no series")}
    assert (await sample(prometheus, "p16", "running")).value == 1


async def test_pitfall_17_part_of_the_pods_is_told_as_part(prometheus: Prometheus) -> None:
    """Fewer pods than are ready, or a backend that says that it could not reach all of its stores."""
    assert (await sample(prometheus, "p17", "running")).pods == 2
    with FakePrometheus().serving() as partial:
        partial.answers = {"seen": 3, "oldest": T, "sum.running": 1}
        partial.warnings = ["store gateway-2 did not answer"]
        source = PrometheusSource("default", PrometheusBackend(url=partial.url), load())
        asked = subject("agents")
        found = (await source.read({asked: frozenset({"running"})}, T))[asked].readings["running"]
        await source.close()
    assert isinstance(found, Sample)
    assert found.doubt == "the backend warns: store gateway-2 did not answer"
