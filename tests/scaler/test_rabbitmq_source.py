"""What RabbitMQ's management API may answer: an HTTP server on loopback says it."""

import re
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from aiohttp import web
from hypothesis import given
from hypothesis import strategies as st

from scaler.backends import RabbitmqBackend
from scaler.signals.reading import Missing, Reading, ReadingName, Sample
from scaler.sources.base import Place, SourceError, Subject
from scaler.sources.rabbitmq import FEW, MAX_BYTES, MAX_PAGES, PAGE, RabbitmqSource, _pattern

AT_S = 1000.0
WANTED = frozenset({ReadingName.BACKLOG, ReadingName.TAKEN, ReadingName.OLDEST_WAIT_S})


class Api:
    """Answers every request with `body` and `status`; `seen`: what was asked."""

    def __init__(self) -> None:
        self.body: Any = {"items": [], "page_count": 1}
        self.status = 200
        self.seen: list[web.BaseRequest] = []
        self.url = ""

    async def answer(self, request: web.BaseRequest) -> web.StreamResponse:
        self.seen.append(request)
        if callable(self.body):
            return web.json_response(self.body(int(request.query["page"])))
        if isinstance(self.body, bytes):
            return web.Response(body=self.body, status=self.status, headers={"Location": "/elsewhere"})
        return web.json_response(self.body, status=self.status)


@pytest_asyncio.fixture
async def api() -> AsyncIterator[Api]:
    api = Api()
    server = web.ServerRunner(web.Server(api.answer))
    await server.setup()
    site = web.TCPSite(server, "127.0.0.1", 0)
    await site.start()
    api.url = f"http://127.0.0.1:{server.addresses[0][1]}"
    try:
        yield api
    finally:
        await server.cleanup()


def subject_of(queue: str) -> Subject:
    place = Place(backend="messages", name=queue)
    return Subject(
        namespace="agents",
        scaled_object=queue,
        workload="w",
        backend="default",
        preset="vllm",
        window_s=60.0,
        max_age_s=60.0,
        backlog=place,
    )


async def read(api: Api, folder: Path, *queues: str, vhost: str = "/") -> list[dict[str, Reading]]:
    (folder / "user").write_text("me")
    (folder / "password").write_text("secret")
    backend = RabbitmqBackend(
        kind="rabbitmq",
        url=api.url,
        vhost=vhost,
        names=("*",),
        username_file=folder / "user",
        password_file=folder / "password",
    )
    source = RabbitmqSource("messages", backend, timeout_s=5.0)
    try:
        found = await source.read({subject_of(queue): WANTED for queue in queues}, AT_S)
        return [dict(found[subject_of(queue)].readings) for queue in queues]
    finally:
        await source.close()


@pytest.mark.parametrize(
    ("queue", "backlog", "taken", "oldest"),
    [
        pytest.param(
            {"messages_ready": 3, "messages_unacknowledged": 1, "head_message_timestamp": 940},
            3,
            1,
            60,
            id="counts and the time of the oldest",
        ),
        pytest.param(
            {"messages_ready": 0, "messages_unacknowledged": 0, "state": "idle"}, 0, 0, 0, id="empty: nothing waits"
        ),
        pytest.param(
            {"messages_ready": 0, "messages_unacknowledged": 2},
            0,
            2,
            "the oldest message carries no timestamp",
            id="taken messages without a timestamp",
        ),
        pytest.param(
            {"messages_ready": 1, "messages_unacknowledged": 0, "head_message_timestamp": 2000},
            1,
            0,
            0,
            id="a timestamp of the future is no age",
        ),
        pytest.param(
            {"messages_ready": 1, "messages_unacknowledged": 0, "head_message_timestamp": ""},
            1,
            0,
            "the oldest message carries no timestamp",
            id="no timestamp at all",
        ),
        pytest.param({}, "no statistics", "no statistics", "not known", id="a queue so new that nothing is counted"),
        pytest.param({"messages_ready": 4}, 4, "no statistics", "not known", id="half the statistics"),
        pytest.param(
            {"messages_ready": -1, "messages_unacknowledged": 1.5},
            "want a finite number, 0 or more",
            "not a count: '1.5'",
            "not known",
            id="no counts",
        ),
        pytest.param(
            {"messages_ready": True, "messages_unacknowledged": "3"},
            "not a count",
            "not a count",
            "not known",
            id="words",
        ),
        pytest.param({"messages_ready": 9, "state": "down"}, *["the queue is down"] * 3, id="its node is down"),
        pytest.param({"messages_ready": 9, "state": "minority"}, *["the queue is minority"] * 3, id="no majority"),
        pytest.param({"messages_ready": 9, "state": None}, *["the queue is None"] * 3, id="no state"),
    ],
)
async def test_what_is_said_of_a_queue(
    api: Api, tmp_path: Path, *, queue: dict[str, Any], backlog: float | str, taken: float | str, oldest: float | str
) -> None:
    api.body = {"items": [{"name": "tasks", **queue}], "page_count": 1}
    (found,) = await read(api, tmp_path, "tasks")
    for name, want in (("backlog", backlog), ("taken", taken), ("oldest_wait_s", oldest)):
        reading = found[name]
        if isinstance(want, str):
            assert isinstance(reading, Missing)
            assert want in reading.why
        else:
            assert reading == Sample(want, AT_S)


async def test_a_queue_that_is_not_among_the_answers_is_missing(api: Api, tmp_path: Path) -> None:
    api.body = {"items": [{"name": "tasks-2", "messages_ready": 3}], "page_count": 1}
    (found,) = await read(api, tmp_path, "tasks", vhost="agents")
    assert set(found.values()) == {Missing("there is no such queue in virtual host 'agents'")}


@pytest.mark.parametrize(
    ("status", "body", "why"),
    [
        pytest.param(401, {}, "refused our credentials (HTTP status 401)", id="nobody"),
        pytest.param(404, {}, "has no virtual host '/'", id="no virtual host"),
        pytest.param(500, {}, "answered with HTTP status 500", id="a failure"),
        pytest.param(302, b"", "answered with HTTP status 302", id="a redirect: credentials go nowhere else"),
        pytest.param(200, b"<html>", "not the management API's JSON", id="a page"),
        pytest.param(200, [], "not the management API's JSON", id="a list"),
        pytest.param(200, {"items": []}, "not the management API's JSON", id="no number of pages"),
        pytest.param(200, {"items": [{}], "page_count": 1}, "not the management API's JSON", id="no name"),
        pytest.param(200, b" " * (MAX_BYTES + 1), f"longer than {MAX_BYTES} bytes", id="a flood"),
    ],
)
async def test_what_is_no_answer(api: Api, tmp_path: Path, status: int, body: object, why: str) -> None:
    api.status, api.body = status, body
    with pytest.raises(SourceError) as failure:
        await read(api, tmp_path, "tasks")
    assert why in str(failure.value)


def queue(number: int) -> dict[str, object]:
    return {"name": f"q{number}", "messages_ready": number, "messages_unacknowledged": 0}


async def test_one_request_for_a_few_queues(api: Api, tmp_path: Path) -> None:
    api.body = {"items": [queue(number) for number in range(FEW)], "page_count": 1}
    found = await read(api, tmp_path, *(f"q{number}" for number in range(FEW)), vhost="a/b")
    assert [readings["backlog"] for readings in found] == [Sample(number, AT_S) for number in range(FEW)]
    (request,) = api.seen
    assert request.raw_path.startswith("/api/queues/a%2Fb?page=1&page_size=500&columns=")
    assert request.query["name"].startswith("^(q0|q1|q10|")
    assert request.headers["Authorization"] == "Basic bWU6c2VjcmV0"


async def test_many_queues_are_listed_page_by_page_until_all_are_found(api: Api, tmp_path: Path) -> None:
    api.body = lambda page: {
        "items": [queue(number) for number in range(100 * page, 100 * page + 100)],
        "page_count": 9,
    }
    names = [f"q{number}" for number in range(150, 250)]
    found = await read(api, tmp_path, *names)
    assert [readings["backlog"] for readings in found] == [Sample(number, AT_S) for number in range(150, 250)]
    assert [request.query["page"] for request in api.seen] == ["1", "2"]
    assert "name" not in api.seen[0].query
    (*_, gone) = await read(api, tmp_path, *names, "gone")
    assert isinstance(gone["backlog"], Missing)
    assert len(api.seen) == 2 + 9


async def test_a_virtual_host_of_too_many_queues_is_not_listed(api: Api, tmp_path: Path) -> None:
    api.body = {"items": [], "page_count": MAX_PAGES + 1}
    with pytest.raises(SourceError, match=f"has more than {MAX_PAGES * PAGE} queues"):
        await read(api, tmp_path, *(f"q{number}" for number in range(FEW + 1)))


@given(st.lists(st.text(st.characters(codec="utf-8", exclude_categories=["C"]), min_size=1, max_size=255), min_size=1))
def test_a_pattern_matches_its_names_and_nothing_else(names: list[str]) -> None:
    pattern = _pattern(names)
    for name in names:
        assert re.search(pattern, name)
        assert not re.search(pattern, f"{name}\x00")
        assert not re.search(pattern, f"\x00{name}")
