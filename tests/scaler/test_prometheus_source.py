"""The Prometheus source against a server on loopback, with every fault of the far side."""

import asyncio
import threading
from collections.abc import AsyncIterator, Iterator, Mapping
from dataclasses import replace
from pathlib import Path

import pytest

from scaler.backends import PrometheusBackend
from scaler.signals.reading import Missing, Reading, ReadingName, Sample
from scaler.signals.recipes import RECIPES
from scaler.sources import SOURCES
from scaler.sources.base import SourceError, Subject
from scaler.sources.presets import load
from scaler.sources.prometheus import PrometheusSource
from tests.fakes.clock import until
from tests.fakes.prometheus import FakePrometheus, Labels
from tests.fakes.source import read_one

QUEUE = frozenset({ReadingName.QUEUE})
EVERYTHING = frozenset(RECIPES)
T = 1_700_000_010.0
CHAT = Subject(
    namespace="agents",
    scaled_object="chat",
    workload="chat",
    backend="default",
    preset="vllm",
    window_s=120.0,
    max_age_s=60.0,
    slo_s=2.0,
)
#: A hundred requests in 120 s: half within 1 s, all but five within 2 s, those beyond every bucket.
E2E: list[tuple[Labels, float]] = [({"le": "1.0"}, 50 / 120), ({"le": "2.0"}, 95 / 120), ({"le": "+Inf"}, 100 / 120)]
#: The same as a native histogram.
NATIVE = {
    "count": str(100 / 120),
    "sum": "1.5",
    "buckets": [[0, "0.5", "1", str(50 / 120)], [0, "1", "2", str(45 / 120)], [0, "2", "4", str(5 / 120)]],
}


@pytest.fixture
def far_side() -> Iterator[FakePrometheus]:
    with FakePrometheus().serving() as fake:
        fake.answers = {"seen": 3, "oldest": T - 7, "sum.waiting": 12}
        yield fake


def asking(far_side: FakePrometheus, *, timeout_s: float = 2.0, at_once: int = 8, **given: object) -> PrometheusSource:
    backend = PrometheusBackend.model_validate({"url": far_side.url + "/", **given})
    return PrometheusSource("default", backend, load(), timeout_s=timeout_s, at_once=at_once)


@pytest.fixture
async def source(far_side: FakePrometheus) -> AsyncIterator[PrometheusSource]:
    source = asking(far_side)
    yield source
    await source.close()


async def reading(source: PrometheusSource, name: str = "queue", subject: Subject = CHAT, at_s: float = T) -> Reading:
    return (await read_one(source, frozenset({name}), subject, at_s)).readings[name]


async def failure(source: PrometheusSource) -> str:
    with pytest.raises(SourceError) as caught:
        await source.read({CHAT: QUEUE}, T)
    return str(caught.value)


async def test_a_value_with_the_age_of_its_oldest_pod_and_its_pods(source: PrometheusSource) -> None:
    assert await reading(source) == Sample(12.0, T - 7, pods=3)


async def test_the_instant_is_the_ticks(source: PrometheusSource, far_side: FakePrometheus) -> None:
    await reading(source)
    assert {asked["time"] for asked in far_side.queries} == {"1700000010.000"}


async def test_a_sample_is_never_newer_than_its_instant(source: PrometheusSource, far_side: FakePrometheus) -> None:
    far_side.answers["oldest"] = T + 3
    assert await reading(source) == Sample(12.0, T, pods=3)


async def test_a_value_without_fresh_pods_stands_for_none(source: PrometheusSource, far_side: FakePrometheus) -> None:
    far_side.answers = {"sum.waiting": 12}
    assert await reading(source) == Sample(12.0, T, pods=0)


@pytest.mark.parametrize(
    ("value", "why"),
    [
        pytest.param("NaN", "the value is nan; want a finite number, 0 or more", id="NaN"),
        pytest.param("+Inf", "the value is inf; want a finite number, 0 or more", id="infinite"),
        pytest.param("-1", "the value is -1; want a finite number, 0 or more", id="below 0"),
    ],
)
async def test_what_is_no_load_is_missing_also_beside_a_gateways_word(
    source: PrometheusSource, far_side: FakePrometheus, value: str, why: str
) -> None:
    far_side.answers |= {"sum.waiting": value, "gateway.agent_requests_waiting": 5}
    assert await reading(source) == Missing(why)


async def test_without_any_series_it_is_missing(source: PrometheusSource, far_side: FakePrometheus) -> None:
    far_side.answers = {}
    assert await reading(source) == Missing("no series")


async def test_answers_about_others_reach_nobody(source: PrometheusSource, far_side: FakePrometheus) -> None:
    """Whatever the far side says: a namespace that is not asked for, a workload that nobody has, a part unheard of."""
    others: list[tuple[Labels, float]] = [({"namespace": "others"}, 99), ({"workload": "chat-b"}, 98), ({}, 12)]
    far_side.answers["sum.waiting"] = others
    other = replace(CHAT, namespace="theirs")
    found = await source.read({CHAT: QUEUE, other: QUEUE}, T)
    assert found[CHAT].readings == {"queue": Sample(12.0, T - 7, pods=3)}
    assert found[other].readings == {"queue": Missing("no series")}


@pytest.mark.parametrize(
    "body",
    [
        pytest.param(b"", id="nothing"),
        pytest.param(b"<html>", id="not JSON"),
        pytest.param(b"{}", id="no status"),
        pytest.param(b'{"status": "success", "data": {"resultType": "vector", "result": {}}}', id="no list"),
        pytest.param(b'{"status": "success", "data": {"resultType": "scalar", "result": [1, "2"]}}', id="a scalar"),
        pytest.param(b'{"status": "success", "data": {"resultType": "matrix", "result": []}}', id="a matrix"),
        pytest.param(b'{"status": "error", "data": {"resultType": "vector", "result": []}}', id="an error"),
        pytest.param(
            b'{"status": "success", "data": {"resultType": "vector", "result": [{"metric": [], "value": [0, "1"]}]}}',
            id="labels that are none",
        ),
        pytest.param(
            b'{"status": "success", "data": {"resultType": "vector", "result": [{"metric": {}, "value": ["1"]}]}}',
            id="half a value",
        ),
    ],
)
async def test_what_is_not_prometheus_is_an_error(
    source: PrometheusSource, far_side: FakePrometheus, body: bytes
) -> None:
    far_side.body = body
    assert (await failure(source)).startswith("the answer is no")


async def test_values_that_are_no_numbers_are_missing(source: PrometheusSource, far_side: FakePrometheus) -> None:
    far_side.answers["sum.waiting"] = "many"
    assert await reading(source) == Missing("the answer has values that are no numbers")


@pytest.mark.parametrize(
    ("status", "meaning"),
    [
        pytest.param(400, ": it does not understand the query", id="a bad query"),
        pytest.param(401, ": it wants other credentials", id="no credentials"),
        pytest.param(403, ": these credentials may not ask", id="wrong credentials"),
        pytest.param(404, ": there is no Prometheus at this url", id="a wrong address"),
        pytest.param(422, ": it could not carry the query out", id="too many samples"),
        pytest.param(500, "", id="its own defect"),
        pytest.param(503, ": it gave the query up or is not ready", id="too slow"),
    ],
)
async def test_a_refusal_is_an_error_that_says_no_more_than_its_status(
    source: PrometheusSource, far_side: FakePrometheus, status: int, meaning: str
) -> None:
    far_side.status = status
    assert await failure(source) == f"answered with HTTP status {status}{meaning}"


async def test_a_redirect_is_not_followed(source: PrometheusSource, far_side: FakePrometheus) -> None:
    far_side.status, far_side.location = 307, f"{far_side.url}/elsewhere"
    assert await failure(source) == "answered with HTTP status 307"
    assert len(far_side.queries) == 1


async def test_one_query_refused_leaves_the_others_their_values(
    source: PrometheusSource, far_side: FakePrometheus
) -> None:
    far_side.refuses = {"rate.generation_tokens": 422}
    names = frozenset({"queue", "generation_tokens_per_s"})
    found = (await read_one(source, names, CHAT, T)).readings
    assert found["queue"] == Sample(12.0, T - 7, pods=3)
    assert found["generation_tokens_per_s"] == Missing(
        "answered with HTTP status 422: it could not carry the query out"
    )


async def test_a_second_way_is_no_substitute_for_one_that_could_not_be_asked(
    source: PrometheusSource, far_side: FakePrometheus
) -> None:
    far_side.answers |= {"rate.ended": 3, "sum.waiting": 4}
    far_side.refuses = {"seen": 503}
    names = frozenset({"oldest_wait_s", "generation_tokens_per_s"})
    found = (await read_one(source, names, CHAT, T)).readings
    assert {type(value) for value in found.values()} == {Missing}


async def test_a_slow_answer_is_an_error(far_side: FakePrometheus) -> None:
    far_side.slow = threading.Event()
    source = asking(far_side, timeout_s=0.1)
    assert await failure(source) == "no answer within 0.1 s"
    far_side.slow.set()
    await source.close()


async def test_the_far_side_is_told_when_we_give_up(source: PrometheusSource, far_side: FakePrometheus) -> None:
    await reading(source)
    assert {asked["timeout"] for asked in far_side.queries} == {"2s"}


async def test_no_more_queries_at_a_time_than_allowed_and_waiting_in_line_is_no_time_out(
    far_side: FakePrometheus,
) -> None:
    far_side.slow = threading.Event()
    source = asking(far_side, at_once=1)
    asked = asyncio.create_task(source.read({CHAT: EVERYTHING}, T))
    await until(lambda: bool(far_side.queries))
    assert len(far_side.queries) == 1
    far_side.slow.set()
    assert (await asked)[CHAT].readings["queue"] == Sample(12.0, T - 7, pods=3)
    await source.close()


async def test_nobody_there_is_an_error(far_side: FakePrometheus) -> None:
    far_side.url = "http://127.0.0.1:1"
    source = asking(far_side)
    assert await failure(source) == "not reachable (ClientConnectorError)"
    await source.close()


async def test_an_answer_that_is_too_large_is_not_read_to_its_end(far_side: FakePrometheus) -> None:
    far_side.body = b" " * (3 << 20)
    source = asking(far_side, largest_mib=1)
    assert await failure(source) == "the answer is larger than 1 MiB"
    await source.close()


async def test_a_workload_without_a_name_is_not_asked_for(source: PrometheusSource, far_side: FakePrometheus) -> None:
    assert await reading(source, subject=replace(CHAT, workload=None)) == Missing("the workload's name is not known")
    assert far_side.queries == []


async def test_warnings_are_doubts(source: PrometheusSource, far_side: FakePrometheus) -> None:
    """Thanos and Mimir answer with what they could reach, and warn."""
    far_side.warnings = ["store 10.0.0.7 did not answer"]
    doubt = "the backend warns: store 10.0.0.7 did not answer"
    assert await reading(source) == Sample(12.0, T - 7, pods=3, doubt=doubt)


@pytest.mark.parametrize(
    "answer",
    [
        pytest.param({"e2e_s.0": E2E}, id="classic buckets"),
        pytest.param({"e2e_s.0": [({"le": le["le"].replace(".0", "")}, n) for le, n in E2E]}, id='le="1", not "1.0"'),
    ],
)
async def test_a_quantile_says_of_how_many_and_whether_it_saturates(
    source: PrometheusSource, far_side: FakePrometheus, answer: Mapping[str, object]
) -> None:
    far_side.answers |= answer
    p50 = await reading(source, "p50_s")
    assert isinstance(p50, Sample)
    assert p50.value == pytest.approx(1.0)
    assert p50.count == pytest.approx(100)
    assert (p50.saturated, p50.pods) == (False, 3)
    far_side.answers["e2e_s.0"] = [({"le": "1.0"}, 50 / 120), ({"le": "2.0"}, 90 / 120), ({"le": "+Inf"}, 100 / 120)]
    p95 = await reading(source, "p95_s")
    assert isinstance(p95, Sample)
    assert (p95.value, p95.saturated) == (2.0, True)


async def test_a_native_histogram_gives_the_same(source: PrometheusSource, far_side: FakePrometheus) -> None:
    far_side.answers["e2e_s.0"] = [({}, NATIVE)]
    p50, attainment = await reading(source, "p50_s"), await reading(source, "attainment")
    assert isinstance(p50, Sample)
    assert isinstance(attainment, Sample)
    assert p50.value == pytest.approx(1.0)
    assert p50.count == pytest.approx(100)
    assert attainment.value == pytest.approx(0.95)


async def test_pods_with_native_and_pods_with_classic_histograms_count_together_and_the_worse_answer_holds(
    source: PrometheusSource, far_side: FakePrometheus
) -> None:
    slower: list[tuple[Labels, object]] = [({"le": "1.0"}, 0), ({"le": "2.0"}, 100 / 120), ({"le": "+Inf"}, 100 / 120)]
    far_side.answers["e2e_s.0"] = [({}, NATIVE), *slower]
    p50 = await reading(source, "p50_s")
    assert isinstance(p50, Sample)
    assert p50.value == pytest.approx(1.5)
    assert p50.count == pytest.approx(200)


async def test_attainment_at_an_slo_between_two_edges_is_pessimistic(
    source: PrometheusSource, far_side: FakePrometheus
) -> None:
    far_side.answers["e2e_s.0"] = E2E
    found = await reading(source, "attainment", replace(CHAT, slo_s=1.9))
    assert isinstance(found, Sample)
    assert found.value == pytest.approx(0.5)
    assert await reading(source, "attainment", replace(CHAT, slo_s=None)) == Missing(
        "there is no p95Target or firstTokenTarget to hold the requests against"
    )


async def test_quantiles_of_few_requests_are_missing(source: PrometheusSource, far_side: FakePrometheus) -> None:
    far_side.answers["e2e_s.0"] = [(labels, n * 0.15) for labels, n in E2E]
    assert await reading(source, "p95_s") == Missing("15 observations within the window; want 20 or more")


async def test_a_histogram_without_its_open_bucket_is_missing(
    source: PrometheusSource, far_side: FakePrometheus
) -> None:
    far_side.answers["e2e_s.0"] = E2E[:2]
    assert await reading(source, "p95_s") == Missing("the histogram has no bucket +Inf")


async def test_pods_too_young_for_a_rate_do_not_stand_behind_one(
    source: PrometheusSource, far_side: FakePrometheus
) -> None:
    far_side.answers |= {"young": 1, "rate.generation_tokens": 40}
    assert await reading(source, "generation_tokens_per_s") == Sample(40.0, T - 7, pods=2)
    assert await reading(source, "queue") == Sample(12.0, T - 7, pods=3)


async def test_subjects_of_a_kind_share_their_queries(source: PrometheusSource, far_side: FakePrometheus) -> None:
    subjects = [replace(CHAT, namespace=f"n{n % 7}", workload=f"chat-{n}") for n in range(500)]
    found = await source.read(dict.fromkeys(subjects, EVERYTHING), T)
    assert set(found) == set(subjects)
    assert len(far_side.queries) == len({asked["query"] for asked in far_side.queries}) == 5


async def test_subjects_of_a_thousand_share_a_query_and_a_refusal_is_of_its_namespaces_only(
    source: PrometheusSource, far_side: FakePrometheus
) -> None:
    subjects = [replace(CHAT, namespace=f"n{n % 4}", workload=f"chat-{n}") for n in range(2400)]
    asks = {**dict.fromkeys(subjects, QUEUE), CHAT: QUEUE}
    far_side.warnings, far_side.refused_namespace = ["partial"], "n2"
    found = await source.read(asks, T)
    assert len(far_side.queries) == 2
    refused = Missing("answered with HTTP status 503: it gave the query up or is not ready")
    assert {found[one].readings["queue"] for one in subjects if one.namespace in {"n2", "n3"}} == {refused}
    assert found[CHAT].readings["queue"] == Sample(12.0, T - 7, pods=3, doubt="the backend warns: partial")


async def test_a_gateways_word_on_sessions_comes_first(source: PrometheusSource, far_side: FakePrometheus) -> None:
    far_side.answers |= {"gateway.agent_sessions_active": 40, "pods.agent_sessions_active": 7}
    assert await reading(source, "sessions") == Sample(40.0, T)
    del far_side.answers["gateway.agent_sessions_active"]
    assert await reading(source, "sessions") == Sample(7.0, T - 7, pods=3)


async def test_the_past_is_read_like_the_present_instant_by_instant(
    source: PrometheusSource, far_side: FakePrometheus
) -> None:
    past = await source.history({CHAT: QUEUE}, T - 60, T, 15)
    assert [at_s for at_s, _ in past] == [T - 60, T - 45, T - 30, T - 15, T]
    assert past[-1][1][CHAT].readings == {"queue": Sample(12.0, T - 7, pods=3)}
    assert past[0][1][CHAT].readings == {"queue": Sample(12.0, T - 60, pods=3)}
    assert len(far_side.queries) == 1


async def test_a_long_past_of_many_is_asked_for_in_stretches(
    source: PrometheusSource, far_side: FakePrometheus
) -> None:
    subjects = [replace(CHAT, workload=f"chat-{n}") for n in range(5000)]
    past = await source.history(dict.fromkeys(subjects, QUEUE), T - 90, T, 15)
    assert len(past) == 7
    assert [asked["start"] for asked in far_side.queries] == ["1699999920.000", "1699999980.000"]


async def test_kube_state_metrics_stand_in_for_the_kubernetes_api(
    source: PrometheusSource, far_side: FakePrometheus
) -> None:
    far_side.answers = {"replicas": 3}
    names = frozenset({"replicas", "ready"})
    found = (await read_one(source, names, CHAT, T)).readings
    assert found == {"replicas": Sample(3.0, T), "ready": Missing("no series")}


def test_it_provides_what_the_preset_knows_for_its_own_backend_only(far_side: FakePrometheus) -> None:
    source = asking(far_side)
    assert {"queue", "p95_s", "replicas", "terminating"} <= source.provides(CHAT)
    assert source.provides(replace(CHAT, backend="other")) == frozenset()


async def test_a_token_file_is_read_for_each_request(far_side: FakePrometheus, tmp_path: Path) -> None:
    token = tmp_path / "token"
    source = asking(far_side, token_file=token)
    for word in ("first", "second"):
        token.write_text(f"{word}\n")
        await reading(source)
        assert far_side.headers[-1]["Authorization"] == f"Bearer {word}"
    token.unlink()
    assert await failure(source) == "its credentials cannot be read (FileNotFoundError)"
    await source.close()


async def test_name_and_password_come_from_files(far_side: FakePrometheus, tmp_path: Path) -> None:
    name, password = tmp_path / "name", tmp_path / "password"
    name.write_text("scaler\n")
    password.write_text("s3cret\n")
    source = asking(far_side, username_file=name, password_file=password)
    await reading(source)
    assert far_side.headers[-1]["Authorization"] == "Basic c2NhbGVyOnMzY3JldA=="
    await source.close()


async def test_closing_gives_up_what_is_asked(far_side: FakePrometheus) -> None:
    far_side.slow = threading.Event()
    source = asking(far_side, timeout_s=5.0)
    asked = asyncio.create_task(source.read({CHAT: QUEUE}, T))
    await until(lambda: bool(far_side.queries))
    await source.close()
    with pytest.raises(SourceError):
        await asked
    far_side.slow.set()


def test_the_source_is_listed() -> None:
    assert SOURCES["prometheus"] == "scaler.sources.prometheus"
