"""The source against a real NATS with JetStream, its numbers beside those of the server's monitoring endpoint."""

import logging
import ssl
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from scaler.signals.reading import ReadingName
from tests.e2e.parts.certificates import Certificates
from tests.e2e.parts.nats import ADMIN, ADMIN_PASSWORD, PASSWORD, USER, Nats
from tests.e2e.parts.nats_accounts import account_with_user
from tests.e2e.parts.tools import brokers_or_skip
from tests.integration.places import backlog, fails, read, source_of, subject_of, values, why_missing, written

nats = pytest.importorskip("nats", reason="needs nats-py: pip install 'slicewise[nats]'")

pytestmark = [pytest.mark.integration, pytest.mark.timeout(60)]
WORKERS = subject_of("tasks", "workers")


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Nats]:
    brokers_or_skip("nats-server")
    running = Nats(tmp_path)
    try:
        yield running.up()
    finally:
        running.kill()


def settings_of(server: Nats, folder: Path) -> dict[str, object]:
    return {"kind": "nats", "servers": [server.url], **written(folder, username=USER, password=PASSWORD)}


@asynccontextmanager
async def admin(server: Nats, **login: Any) -> AsyncIterator[Any]:  # noqa: ANN401  # as nats-py has it
    client = await nats.connect(server.url, **(login or {"user": ADMIN, "password": ADMIN_PASSWORD}))
    try:
        yield client.jetstream()
    finally:
        await client.close()


async def fill(server: Nats, messages: int, *, taken: int, **login: Any) -> None:  # noqa: ANN401  # as above
    """A stream of tasks, of which the consumer `workers` has got the first and acknowledged none."""
    async with admin(server, **login) as stream:
        await stream.add_stream(name="tasks", subjects=["tasks.>"])
        for number in range(messages):
            await stream.publish("tasks.new", str(number).encode())
        workers = await stream.pull_subscribe("tasks.>", "workers")
        if taken:
            await workers.fetch(taken)


async def test_a_consumer_has_before_it_what_the_server_says(server: Nats, tmp_path: Path) -> None:
    await fill(server, 9, taken=2)
    told = server.consumer("tasks", "workers")
    async with source_of(settings_of(server, tmp_path)) as source:
        found = await values(source, WORKERS)
    assert found == {ReadingName.BACKLOG: told["num_pending"], ReadingName.TAKEN: told["num_ack_pending"]}
    assert found == {"backlog": 7, "taken": 2}


async def test_one_question_for_all_that_ask_the_same(server: Nats, tmp_path: Path) -> None:
    await fill(server, 3, taken=0)
    subjects = [subject_of("tasks", "workers", namespace=f"agents-{number}") for number in range(50)]
    before = server.consumer("tasks", "workers")
    async with source_of(settings_of(server, tmp_path)) as source:
        found = await read(source, *subjects)
    assert {readings[ReadingName.BACKLOG].value for readings in found} == {before["num_pending"]}  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("stream", "consumer", "why"),
    [
        pytest.param("tasks", "gone", "JetStream: consumer not found (code 404)", id="a consumer that is not there"),
        pytest.param("gone", "workers", "JetStream: stream not found (code 404)", id="a stream that is not there"),
        pytest.param("tasks", None, "name the consumer in backlogGroup", id="no consumer"),
        pytest.param("tasks", "*", "no stream or consumer has such a name", id="a wildcard"),
        pytest.param("tasks.x", "workers", "no stream or consumer has such a name", id="a name of several parts"),
        pytest.param("secret", "workers", "permissions violation", id="a stream out of our user's reach"),
    ],
)
async def test_what_is_not_there_is_missing(
    server: Nats, tmp_path: Path, stream: str, consumer: str | None, why: str
) -> None:
    await fill(server, 1, taken=0)
    async with source_of(settings_of(server, tmp_path), timeout_s=1.0) as source:
        assert why in await why_missing(source, stream, consumer)


async def test_wrong_credentials_are_said_and_not_shown(
    server: Nats, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    await fill(server, 1, taken=0)
    settings = {**settings_of(server, tmp_path), **written(tmp_path, password="not this one")}
    async with source_of(settings) as source:
        why = await fails(source, WORKERS)
        assert "uthorization" in why
        assert "not this one" not in why
        written(tmp_path, password=PASSWORD)
        assert (await values(source, WORKERS))[ReadingName.BACKLOG] == 1
    assert "not this one" not in caplog.text
    assert PASSWORD not in caplog.text


async def test_a_server_that_is_down_comes_back_after_a_restart(server: Nats, tmp_path: Path) -> None:
    await fill(server, 4, taken=1)
    async with source_of(settings_of(server, tmp_path)) as source:
        assert (await values(source, WORKERS))[ReadingName.BACKLOG] == 3
        server.kill()
        assert "the connection ended" in await fails(source, WORKERS)
        assert "not reachable" in await fails(source, WORKERS)
        server.up()
        assert await values(source, WORKERS) == {"backlog": 3, "taken": 1}


async def test_a_server_that_says_nothing_is_given_up_and_asked_anew(server: Nats, tmp_path: Path) -> None:
    await fill(server, 1, taken=0)
    async with source_of(settings_of(server, tmp_path), timeout_s=1.0) as source:
        await backlog(source, "tasks", "workers")
        server.pause()
        assert await fails(source, WORKERS) == "no answer within 0.8 s"
        assert await fails(source, WORKERS) == "no answer within 1 s"  # at the connection, now
        server.resume()
        assert (await values(source, WORKERS))[ReadingName.BACKLOG] == 1


async def test_a_token_over_tls(tmp_path: Path) -> None:
    brokers_or_skip("nats-server")
    certificates = Certificates(tmp_path / "pki")
    pair = certificates.issue("nats", common_name="localhost", hosts=("localhost", "127.0.0.1"))
    server = Nats(tmp_path, login='authorization { token: "opensesame" }', tls=pair)
    settings = {"kind": "nats", "servers": [server.url], **written(tmp_path, token="opensesame")}
    try:
        server.up()
        context = ssl.create_default_context(cafile=certificates.ca)
        await fill(server, 2, taken=0, token="opensesame", tls=context)
        async with source_of({**settings, "ca_file": str(certificates.ca)}) as source:
            assert await values(source, WORKERS) == {"backlog": 2, "taken": 0}
        async with source_of(settings) as source:
            assert "CERTIFICATE_VERIFY_FAILED" in await fails(source, WORKERS)
    finally:
        server.kill()


async def test_a_file_of_credentials(tmp_path: Path) -> None:
    brokers_or_skip("nats-server")
    file = tmp_path / "user.creds"
    server = Nats(tmp_path, login=account_with_user(file))
    settings = {"kind": "nats", "servers": [server.url], "credentials_file": str(file)}
    try:
        server.up()
        await fill(server, 3, taken=1, user_credentials=str(file))
        async with source_of(settings) as source:
            assert await values(source, WORKERS) == {"backlog": 2, "taken": 1}
        account_with_user(file)  # of another operator
        async with source_of(settings) as source:
            assert "uthorization" in await fails(source, WORKERS)
    finally:
        server.kill()
