"""The source against a real RabbitMQ, its numbers beside rabbitmqctl's."""

import asyncio
import logging
from collections.abc import Iterator
from pathlib import Path

import pika
import pytest
from pika.adapters.blocking_connection import BlockingChannel

from scaler.signals.reading import ReadingName, Sample
from scaler.sources.base import Source
from scaler.sources.rabbitmq import FEW
from tests.e2e.parts.rabbitmq import PASSWORD, PROGRAMS, USER, Rabbitmq
from tests.e2e.parts.tools import brokers_or_skip
from tests.integration.places import fails, now_s, read, source_of, subject_of, values, why_missing, written

pytestmark = [pytest.mark.integration, pytest.mark.timeout(300)]


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rabbitmq]:
    brokers_or_skip(str(PROGRAMS / "rabbitmq-server"), "epmd")
    running = Rabbitmq(tmp_path_factory.mktemp("rabbitmq"))
    try:
        yield running.up()
    finally:
        running.down()


@pytest.fixture
def channel(node: Rabbitmq) -> Iterator[BlockingChannel]:
    login = pika.PlainCredentials(USER, PASSWORD)
    connection = pika.BlockingConnection(pika.ConnectionParameters("127.0.0.1", node.port, credentials=login))
    yield connection.channel()
    if connection.is_open:
        connection.close()


def settings_of(node: Rabbitmq, folder: Path, **others: object) -> dict[str, object]:
    return {"kind": "rabbitmq", "url": node.api, **written(folder, username=USER, password=PASSWORD), **others}


def publish(channel: BlockingChannel, queue: str, messages: int, *, sent_s: float | None = None) -> None:
    timestamp = None if sent_s is None else int(sent_s)
    for _ in range(messages):
        channel.basic_publish("", queue, b"x", pika.BasicProperties(delivery_mode=2, timestamp=timestamp))


async def settled(source: Source, queue: str, ready: int, taken: int) -> dict[str, float | str]:
    """What is read once RabbitMQ's statistics have caught up with what was done.

    A quorum queue tells every 5 s (quorum_tick_interval), and the management plugin collects every 5 s.
    """
    found: dict[str, float | str] = {}
    for _ in range(150):
        found = await values(source, subject_of(queue))
        if (found[ReadingName.BACKLOG], found[ReadingName.TAKEN]) == (ready, taken):
            return found
        await asyncio.sleep(0.2)
    raise AssertionError(found)


async def test_a_queue_holds_what_rabbitmqctl_says(node: Rabbitmq, channel: BlockingChannel, tmp_path: Path) -> None:
    node.declare("tasks")
    publish(channel, "tasks", 9, sent_s=now_s() - 300)
    channel.basic_get("tasks")
    channel.basic_get("tasks")
    async with source_of(settings_of(node, tmp_path)) as source:
        found = await settled(source, "tasks", 7, 2)
    assert node.listed()["tasks"] == (7, 2)
    oldest_s = found[ReadingName.OLDEST_WAIT_S]
    assert isinstance(oldest_s, float)
    assert oldest_s == pytest.approx(300, abs=30)


async def test_messages_without_a_timestamp_have_no_age(
    node: Rabbitmq, channel: BlockingChannel, tmp_path: Path
) -> None:
    node.declare("plain")
    async with source_of(settings_of(node, tmp_path)) as source:
        assert (await settled(source, "plain", 0, 0))[ReadingName.OLDEST_WAIT_S] == 0
        publish(channel, "plain", 1)
        found = await settled(source, "plain", 1, 0)
    assert found[ReadingName.OLDEST_WAIT_S] == "the oldest message carries no timestamp"


@pytest.mark.parametrize("queue", ["quorum", "stream"])
async def test_queues_of_other_kinds_are_counted_as_well(
    node: Rabbitmq, channel: BlockingChannel, tmp_path: Path, queue: str
) -> None:
    node.declare(queue, **{"queue-type": queue})
    publish(channel, queue, 3)
    async with source_of(settings_of(node, tmp_path)) as source:
        await settled(source, queue, 3, 0)
    assert node.listed()[queue] == (3, 0)


async def test_names_are_taken_literally_and_many_are_asked_at_once(node: Rabbitmq, tmp_path: Path) -> None:
    names = [
        "a.b",
        "a+b",
        "a|b",
        "a/b",
        "(a)",
        "äöü",
        "a b",
        "100%",
        *(f"many-{number}-{'x' * 90}" for number in range(80)),
    ]
    node.declare(*names)
    async with source_of(settings_of(node, tmp_path)) as source:
        await settled(source, names[-1], 0, 0)
        found = await read(source, *map(subject_of, names))
        counts = {name: readings[ReadingName.BACKLOG] for name, readings in zip(names, found, strict=True)}
        assert {name for name, reading in counts.items() if not isinstance(reading, Sample)} == set()
        assert "there is no such queue" in await why_missing(source, "axb")  # a.b is no pattern


async def test_what_is_not_there_is_missing(node: Rabbitmq, tmp_path: Path) -> None:
    async with source_of(settings_of(node, tmp_path)) as source:
        assert await why_missing(source, "gone") == "there is no such queue in virtual host '/'"
    async with source_of(settings_of(node, tmp_path, vhost="gone")) as source:
        assert "no virtual host 'gone'" in await fails(source, subject_of("tasks"))


async def test_the_least_that_a_user_needs(node: Rabbitmq, tmp_path: Path) -> None:
    node.declare("looked-at")
    node.add_onlooker("onlooker", "peep")
    settings = {**settings_of(node, tmp_path), **written(tmp_path, username="onlooker", password="peep")}
    async with source_of(settings) as source:
        await settled(source, "looked-at", 0, 0)


async def test_more_queues_than_a_page_holds(node: Rabbitmq, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("scaler.sources.rabbitmq.PAGE", 7)
    names = [f"page-{number:03}" for number in range(FEW + 1)]
    node.declare(*names)
    async with source_of(settings_of(node, tmp_path)) as source:
        await settled(source, names[-1], 0, 0)
        found = await read(source, *map(subject_of, names))
    assert {type(readings[ReadingName.BACKLOG]) for readings in found} == {Sample}


async def test_wrong_credentials_are_said_and_not_shown(
    node: Rabbitmq, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    node.declare("login")
    settings = {**settings_of(node, tmp_path), **written(tmp_path, password="not this one")}
    async with source_of(settings) as source:
        assert await fails(source, subject_of("login")) == "refused our credentials (HTTP status 401)"
        written(tmp_path, password=PASSWORD)
        await settled(source, "login", 0, 0)
    assert "not this one" not in caplog.text
    assert PASSWORD not in caplog.text


async def test_a_server_that_says_nothing_is_given_up_and_asked_anew(node: Rabbitmq, tmp_path: Path) -> None:
    node.declare("quiet")
    async with source_of(settings_of(node, tmp_path), timeout_s=2.0) as source:
        await settled(source, "quiet", 0, 0)
        node.pause()
        try:
            assert await fails(source, subject_of("quiet")) == "no answer within 2 s"
            assert await fails(source, subject_of("quiet")) == "no answer within 2 s"
        finally:
            node.resume()
        await settled(source, "quiet", 0, 0)


async def test_a_server_that_is_down_comes_back_after_a_restart(
    node: Rabbitmq, channel: BlockingChannel, tmp_path: Path
) -> None:
    node.declare("kept")
    publish(channel, "kept", 4)
    channel.connection.close()
    async with source_of(settings_of(node, tmp_path)) as source:
        await settled(source, "kept", 4, 0)
        node.stop(grace_s=60)  # by SIGKILL it would forget what it was told last
        assert "not reachable" in await fails(source, subject_of("kept"))
        node.up()
        await settled(source, "kept", 4, 0)
    assert node.listed()["kept"] == (4, 0)
