"""What JetStream may answer about a consumer, and what a connection may do meanwhile."""

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from nats import errors

from scaler.backends import NatsBackend
from scaler.signals.reading import Missing, Reading, ReadingName, Sample
from scaler.sources.base import Place, SourceError, Subject
from scaler.sources.nats import NatsSource, _readings

AT_S = 1000.0


def test_pending_and_unacknowledged() -> None:
    # The shape of io.nats.jetstream.api.v1.consumer_info_response, nats-io/jsm.go schemas.
    body = {"stream_name": "tasks", "name": "workers", "num_ack_pending": 2, "num_redelivered": 1, "num_pending": 7}
    assert _readings(json.dumps(body).encode(), AT_S) == {
        ReadingName.BACKLOG: Sample(7, AT_S),
        ReadingName.TAKEN: Sample(2, AT_S),
    }


@pytest.mark.parametrize(
    ("body", "why"),
    [
        pytest.param(
            {"error": {"code": 404, "err_code": 10014, "description": "consumer not found"}},
            "JetStream: consumer not found (code 404)",
            id="an error",
        ),
        pytest.param({"error": {}}, "not JetStream's JSON", id="an error without words"),
        pytest.param({"num_pending": 7}, "not JetStream's JSON", id="half an answer"),
        pytest.param({"num_pending": None, "num_ack_pending": 0}, "not JetStream's JSON", id="no number"),
        pytest.param([], "not JetStream's JSON", id="a list"),
        pytest.param("", "not JetStream's JSON", id="a word"),
    ],
)
def test_what_is_no_count_is_missing(body: object, why: str) -> None:
    reading = _readings(json.dumps(body).encode(), AT_S)[ReadingName.BACKLOG]
    assert isinstance(reading, Missing)
    assert why in reading.why


@pytest.mark.parametrize("body", [b"", b"\xff", b"{"], ids=["nothing", "no text", "half a text"])
def test_what_is_no_json_is_missing(body: bytes) -> None:
    assert isinstance(_readings(body, AT_S)[ReadingName.TAKEN], Missing)


def test_a_negative_count_is_missing() -> None:
    readings = _readings(b'{"num_pending": -1, "num_ack_pending": 0}', AT_S)
    assert isinstance(readings[ReadingName.BACKLOG], Missing)
    assert readings[ReadingName.TAKEN] == Sample(0, AT_S)


class ScriptedClient:
    """Stands for a connection: answers by consumer, with bytes or a failure. `closes`: at the first question."""

    def __init__(self) -> None:
        self.answers: dict[str, bytes | Exception] = {}
        self.told: Exception | None = None
        self.closes = False
        self.is_connected = False
        self.is_closed = False
        self.connections = 0
        self.options: dict[str, Any] = {}
        self.refuses: Exception | None = None
        self.asked: list[str] = []

    async def connect(self, **options: Any) -> None:  # noqa: ANN401  # as nats-py has it
        self.options = options
        self.connections += 1
        if self.told is not None:
            await options["error_cb"](self.told)
        if self.refuses is not None:
            raise self.refuses
        self.is_connected = True

    async def request(self, subject: str, _: bytes, *, timeout: float) -> SimpleNamespace:  # noqa: ASYNC109  # as it has it
        self.asked.append(subject)
        if self.told is not None:
            await self.options["error_cb"](self.told)
        self.is_connected = not self.closes
        answer = self.answers.get(subject.rpartition(".")[2], TimeoutError(timeout))
        if isinstance(answer, Exception):
            raise answer
        return SimpleNamespace(data=answer)

    async def close(self) -> None:
        self.is_connected, self.is_closed = False, True


@pytest.fixture
def client(monkeypatch: pytest.MonkeyPatch) -> ScriptedClient:
    scripted = ScriptedClient()
    monkeypatch.setattr("scaler.sources.nats.Client", lambda: scripted)
    return scripted


def source_of(**settings: Any) -> NatsSource:  # noqa: ANN401  # settings of any kind
    backend = NatsBackend(kind="nats", servers=("nats://nats:4222",), names=("*",), **settings)
    return NatsSource("messages", backend, timeout_s=5.0)


async def read(source: NatsSource, *consumers: str) -> list[Reading]:
    subjects = [
        Subject(
            namespace="agents",
            scaled_object=consumer,
            workload="w",
            backend="default",
            preset="vllm",
            window_s=60.0,
            max_age_s=60.0,
            backlog=Place(backend="messages", name="tasks", group=consumer),
        )
        for consumer in consumers
    ]
    found = await source.read({subject: source.provides(subject) for subject in subjects}, AT_S)
    return [found[subject].readings[ReadingName.BACKLOG] for subject in subjects]


SEVEN = b'{"num_pending": 7, "num_ack_pending": 0}'


async def test_the_connection_is_kept(client: ScriptedClient) -> None:
    client.answers = {"workers": SEVEN}
    source = source_of(domain="hub")
    assert await read(source, "workers") == await read(source, "workers") == [Sample(7, AT_S)]
    assert client.connections == 1
    assert set(client.asked) == {"$JS.hub.API.CONSUMER.INFO.tasks.workers"}
    await source.close()
    assert client.is_closed


async def test_one_consumer_without_a_leader_does_not_take_the_others_with_it(client: ScriptedClient) -> None:
    client.answers = {"workers": SEVEN}
    found, silent = await read(source_of(), "workers", "unled")
    assert found == Sample(7, AT_S)
    assert silent == Missing("no answer within 4 s; the consumer may have no leader now")


async def test_silence_from_all_is_the_servers(client: ScriptedClient) -> None:
    with pytest.raises(SourceError, match=r"^no answer within 4 s$"):
        await read(source_of(), "workers", "others")
    assert client.is_closed


async def test_a_subject_that_we_may_not_ask_is_missing_with_the_servers_words(client: ScriptedClient) -> None:
    client.told = errors.Error('permissions violation for publish to "$js.api.consumer.info.tasks.secret"')
    client.answers = {"workers": SEVEN}
    found, secret = await read(source_of(), "workers", "secret")
    assert found == Sample(7, AT_S)
    assert isinstance(secret, Missing)
    assert "permissions violation" in secret.why


@pytest.mark.parametrize(
    ("answer", "why"),
    [
        pytest.param(errors.NoRespondersError(), "JetStream is not enabled for this account", id="no JetStream"),
        pytest.param(errors.BadSubjectError(), "not asked (BadSubjectError", id="a subject that is none"),
    ],
)
async def test_a_failed_question_is_missing(client: ScriptedClient, answer: Exception, why: str) -> None:
    client.answers = {"workers": answer}
    (found,) = await read(source_of(), "workers")
    assert isinstance(found, Missing)
    assert why in found.why


async def test_a_connection_that_ends_meanwhile(client: ScriptedClient) -> None:
    client.answers, client.closes = {"workers": SEVEN}, True
    with pytest.raises(SourceError, match=r"^the connection ended \(without a word\)$"):
        await read(source_of(), "workers")


@pytest.mark.parametrize(
    ("refusal", "told", "why"),
    [
        pytest.param(errors.NoServersError(), None, "(NoServersError)", id="nobody there"),
        pytest.param(errors.NoServersError(), OSError("Connect call failed"), "(OSError: Connect call", id="and why"),
        pytest.param(TimeoutError(), None, "no answer within 5 s", id="silence"),
    ],
)
async def test_what_ends_the_reading(
    client: ScriptedClient, refusal: Exception, told: Exception | None, why: str
) -> None:
    client.refuses, client.told = refusal, told
    with pytest.raises(SourceError) as failure:
        await read(source_of(), "workers")
    assert why in str(failure.value)


@pytest.mark.parametrize("name", ["a.b", "a*", ">", "a/b", "a\\b", ""], ids=repr)
async def test_names_that_are_more_than_one_name_are_not_asked(client: ScriptedClient, name: str) -> None:
    (found,) = await read(source_of(), name)
    assert isinstance(found, Missing)
    assert client.asked == []


async def test_how_it_logs_in(client: ScriptedClient, tmp_path: Path) -> None:
    (tmp_path / "token").write_text("s3cret\n")
    client.answers = {"workers": SEVEN}
    await read(source_of(token_file=tmp_path / "token"), "workers")
    assert client.options["token"] == "s3cret"
    creds = tmp_path / "user.creds"
    with pytest.raises(SourceError, match=r"^credentials_file: cannot read"):
        await read(source_of(credentials_file=creds), "workers")
    creds.write_text("-----BEGIN NATS USER JWT-----")
    await read(source_of(credentials_file=creds), "workers")
    assert client.options["user_credentials"] == str(creds)
