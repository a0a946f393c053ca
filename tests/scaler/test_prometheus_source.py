"""The Prometheus source against a server on loopback, with every fault of the far side."""

import asyncio
import threading
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from scaler.backends import PrometheusBackend
from scaler.signals.reading import Missing, ReadingName, Sample
from scaler.sources import SOURCES
from scaler.sources.base import Subject
from scaler.sources.presets import load
from scaler.sources.prometheus import PrometheusSource
from tests.fakes.clock import until
from tests.fakes.prometheus import FakePrometheus
from tests.fakes.source import read_one

QUEUE = frozenset({ReadingName.QUEUE})
T = 1_700_000_010.0


def subject(workload: str | None = "chat") -> Subject:
    return Subject(
        namespace="agents",
        scaled_object="chat",
        workload=workload,
        backend="default",
        preset="vllm",
        window_s=120.0,
        max_age_s=60.0,
    )


@pytest.fixture
def far_side() -> Iterator[FakePrometheus]:
    with FakePrometheus().serving() as fake:
        fake.answers = {"count(max by (pod)": 3, "max(timestamp": T - 7, "num_requests_waiting": 12}
        yield fake


@pytest.fixture
async def source(far_side: FakePrometheus) -> AsyncIterator[PrometheusSource]:
    source = PrometheusSource("default", PrometheusBackend(url=far_side.url + "/"), load(), timeout_s=2.0)
    yield source
    await source.close()


async def queue(source: PrometheusSource, at_s: float = T) -> Sample | Missing:
    found = await read_one(source, QUEUE, subject(), at_s)
    assert found.readings.keys() == QUEUE
    return found.readings[ReadingName.QUEUE]


async def test_a_value_with_its_age_and_its_pods(source: PrometheusSource) -> None:
    assert await queue(source) == Sample(12.0, T - 7, pods=3)


async def test_the_instant_is_the_ticks(source: PrometheusSource, far_side: FakePrometheus) -> None:
    await queue(source)
    assert {at for _, at in far_side.queries} == {"1700000010.000"}


async def test_a_sample_is_never_newer_than_its_instant(source: PrometheusSource, far_side: FakePrometheus) -> None:
    far_side.answers["max(timestamp"] = T + 3
    assert await queue(source) == Sample(12.0, T, pods=3)


async def test_a_value_without_fresh_pods_stands_for_none(source: PrometheusSource, far_side: FakePrometheus) -> None:
    far_side.answers = {"num_requests_waiting": 12}
    assert await queue(source) == Sample(12.0, T, pods=0)


@pytest.mark.parametrize(
    ("answer", "why"),
    [
        pytest.param([], "no series", id="empty"),
        pytest.param("NaN", "the value is nan; want a finite number, 0 or more", id="NaN"),
        pytest.param("+Inf", "the value is inf; want a finite number, 0 or more", id="+Inf"),
        pytest.param("-Inf", "the value is -inf; want a finite number, 0 or more", id="-Inf"),
        pytest.param(-3, "the value is -3; want a finite number, 0 or more", id="negative"),
        pytest.param([1, 2, 3], "3 series; want one", id="several series"),
        pytest.param("twelve", "the answer is not a vector of one number", id="no number"),
        pytest.param({"data": {"result": [0, "12"]}}, "2 series; want one", id="a scalar"),
        pytest.param({"data": {"result": "12"}}, "the answer is not a vector", id="a string"),
        pytest.param({"data": {"result": [{"values": []}]}}, "the answer is not a vector of one number", id="a matrix"),
        pytest.param({"data": {"result": [7]}}, "the answer is not a vector of one number", id="no series in it"),
        pytest.param({"error": "x"}, "backend 'default': the answer is not Prometheus's JSON", id="no data"),
    ],
)
async def test_an_answer_that_is_no_number_is_missing(
    source: PrometheusSource, far_side: FakePrometheus, answer: object, why: str
) -> None:
    far_side.answers["num_requests_waiting"] = answer
    assert await queue(source) == Missing(why)


@pytest.mark.parametrize("body", [b"", b"<html>", b"[1]", b"7", b'{"data":', b"\xff\xfe"])
async def test_garbage_is_missing(source: PrometheusSource, far_side: FakePrometheus, body: bytes) -> None:
    far_side.body = body
    reading = await queue(source)
    assert isinstance(reading, Missing)
    assert reading.why.startswith("backend 'default': ")


@pytest.mark.parametrize("status", [400, 401, 422, 500, 503])
async def test_a_refusal_is_missing(source: PrometheusSource, far_side: FakePrometheus, status: int) -> None:
    far_side.status, far_side.body = status, b"secret details"
    assert await queue(source) == Missing(f"backend 'default': answered with HTTP status {status}")


async def test_a_slow_answer_is_missing(far_side: FakePrometheus) -> None:
    far_side.slow = threading.Event()
    source = PrometheusSource("default", PrometheusBackend(url=far_side.url), load(), timeout_s=0.1)
    assert await queue(source) == Missing("backend 'default': no answer within 0.1 s")
    far_side.slow.set()
    await source.close()


async def test_a_silent_backend_is_not_asked_all_questions_of_a_tick(far_side: FakePrometheus) -> None:
    far_side.slow = threading.Event()
    source = PrometheusSource("default", PrometheusBackend(url=far_side.url), load(), timeout_s=0.1, threads=2)
    everything = source.provides(subject())
    found = await read_one(source, everything, subject(), T)
    reasons = {reading.why for reading in found.readings.values() if isinstance(reading, Missing)}
    assert reasons == {
        "backend 'default': no answer within 0.1 s",
        "backend 'default': left 2 other questions of this instant unanswered, so it was not asked",
    }
    assert len(far_side.queries) <= 4
    far_side.slow.set()
    await source.close()


async def test_questions_wait_in_line_without_their_time_running(far_side: FakePrometheus) -> None:
    source = PrometheusSource("default", PrometheusBackend(url=far_side.url), load(), timeout_s=2.0, threads=1)
    found = await read_one(source, frozenset(ReadingName), subject(), T)
    assert not [r.why for r in found.readings.values() if isinstance(r, Missing) and "no answer" in r.why]
    await source.close()


async def test_nobody_there_is_missing() -> None:
    source = PrometheusSource("default", PrometheusBackend(url="http://127.0.0.1:1"), load(), timeout_s=2.0)
    assert await queue(source) == Missing("backend 'default': not reachable (ConnectionError)")
    await source.close()


async def test_a_workload_without_a_name_is_not_asked_for(source: PrometheusSource, far_side: FakePrometheus) -> None:
    found = await read_one(source, QUEUE, subject(workload=None), T)
    assert found.readings == {ReadingName.QUEUE: Missing("the workload's name is not known")}
    assert far_side.queries == []


async def test_each_question_of_a_tick_is_asked_once(source: PrometheusSource, far_side: FakePrometheus) -> None:
    both = frozenset({ReadingName.QUEUE, ReadingName.RUNNING})
    await read_one(source, both, subject(), T)
    await read_one(source, both, subject(), T)
    asked = len(far_side.queries)
    assert asked == len({query for query, _ in far_side.queries}) == 4
    await read_one(source, QUEUE, subject(), T + 15)
    assert len(far_side.queries) == asked + 3


async def test_a_gateways_word_on_sessions_comes_first(source: PrometheusSource, far_side: FakePrometheus) -> None:
    sessions = frozenset({ReadingName.SESSIONS})
    far_side.answers = {'agent_sessions_active{namespace="agents",workload=': 40, "sum(": 7, "count(": 2}
    assert (await read_one(source, sessions, subject(), T)).readings[ReadingName.SESSIONS] == Sample(40.0, T)
    del far_side.answers['agent_sessions_active{namespace="agents",workload=']
    far_side.answers = {'workload="chat"': [], **far_side.answers}
    at_s = T + 15
    assert (await read_one(source, sessions, subject(), at_s)).readings[ReadingName.SESSIONS] == Sample(
        7.0, at_s, pods=2
    )


async def test_a_token_file_is_read_for_each_request(far_side: FakePrometheus, tmp_path: Path) -> None:
    token = tmp_path / "token"
    source = PrometheusSource("default", PrometheusBackend(url=far_side.url, token_file=token), load())
    for n, word in enumerate(("first", "second")):
        token.write_text(f"{word}\n")
        await queue(source, T + n)
        assert far_side.headers[-1]["Authorization"] == f"Bearer {word}"
    token.unlink()
    assert await queue(source, T + 9) == Missing("backend 'default': not reachable (FileNotFoundError)")
    await source.close()


async def test_closing_gives_up_what_is_asked(far_side: FakePrometheus) -> None:
    far_side.slow = threading.Event()
    source = PrometheusSource("default", PrometheusBackend(url=far_side.url), load(), timeout_s=5.0)
    asking = asyncio.create_task(queue(source))
    await until(lambda: bool(far_side.queries))
    await source.close()
    with pytest.raises(asyncio.CancelledError):
        await asking
    far_side.slow.set()


def test_every_source_is_listed() -> None:
    assert set(SOURCES) == {"prometheus"}
