"""What the sources of message brokers share, with a broker that a test scripts."""

import asyncio
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest
from pydantic import TypeAdapter

from scaler.backends import AnyBackend, Backend, NatsBackend, RedisBackend
from scaler.signals.reading import Missing, ReadingName, Sample
from scaler.sources import SOURCES, MissingExtraError, Wiring, connect
from scaler.sources.base import Place, SourceError, Subject
from scaler.sources.broker import Answer, BrokerSource, Question, credentials, text_of, tls_context

AT_S = 1000.0
SETTINGS = RedisBackend(
    kind="redis", url="redis://redis:6379", names=("{namespace}.*", "shared"), namespaces=("agents", "eval")
)


class ScriptedBroker(BrokerSource):
    """Answers 7 to everything, or does what `answer` says."""

    def __init__(self, timeout_s: float = 5.0) -> None:
        super().__init__("messages", SETTINGS, timeout_s=timeout_s)
        self.asked: list[frozenset[Question]] = []
        self.hangs: asyncio.Event | None = None
        self.fails: Exception | None = None
        self.dropped = 0

    async def _answer(self, questions: frozenset[Question], at_s: float) -> Mapping[Question, Answer]:
        self.asked.append(questions)
        if self.hangs is not None:
            await self.hangs.wait()
        if self.fails is not None:
            raise self.fails
        seven = {"backlog": ReadingName.BACKLOG, "sessions": ReadingName.SESSIONS}
        return {q: Answer(readings={seven[q.role]: Sample(7.0, at_s)}, asked=f"ask {q.place.name}") for q in questions}

    async def _drop(self) -> None:
        self.dropped += 1


def subject(
    backlog: str | None = None, *, sessions: str | None = None, namespace: str = "agents", backend: str = "messages"
) -> Subject:
    return Subject(
        namespace=namespace,
        scaled_object="planner",
        workload="planner",
        backend="default",
        preset="vllm",
        window_s=60.0,
        max_age_s=60.0,
        backlog=None if backlog is None else Place(backend=backend, name=backlog),
        sessions=None if sessions is None else Place(backend=backend, name=sessions),
    )


@pytest.mark.parametrize(
    ("of", "names"),
    [
        pytest.param(subject(), set(), id="nothing named"),
        pytest.param(subject("shared"), {"backlog", "taken"}, id="a backlog"),
        pytest.param(subject(sessions="shared"), {"sessions"}, id="sessions"),
        pytest.param(subject("shared", sessions="shared"), {"backlog", "taken", "sessions"}, id="both"),
        pytest.param(subject("shared", backend="other"), set(), id="of another backend"),
    ],
)
def test_it_provides_what_the_trigger_names_here(of: Subject, names: set[str]) -> None:
    assert ScriptedBroker().provides(of) == names


async def test_equal_questions_are_asked_once() -> None:
    broker = ScriptedBroker()
    subjects = [subject("shared", namespace=namespace) for namespace in ("agents", "eval")]
    found = await broker.read({s: broker.provides(s) for s in subjects}, AT_S)
    assert broker.asked == [frozenset({Question(Place(backend="messages", name="shared"), "backlog")})]
    assert [found[s].readings[ReadingName.BACKLOG] for s in subjects] == [Sample(7.0, AT_S)] * 2


async def test_a_reading_comes_with_what_was_asked_and_one_that_is_not_there_is_missing() -> None:
    broker = ScriptedBroker()
    one = subject("shared", sessions="agents.s")
    found = (await broker.read({one: broker.provides(one) | {"p95_s"}}, AT_S))[one]
    assert found.readings[ReadingName.SESSIONS] == Sample(7.0, AT_S)
    assert found.asked[ReadingName.SESSIONS] == "ask agents.s"
    assert found.readings[ReadingName.TAKEN] == Missing("a place of this kind does not have it")
    assert found.asked[ReadingName.TAKEN] == "ask shared"


@pytest.mark.parametrize(
    ("of", "why"),
    [
        pytest.param(subject("eval.in"), "namespace 'agents' may name agents.*, shared there", id="another tenant's"),
        pytest.param(subject("shared", namespace="dev"), "namespace 'dev' may not use this backend", id="no tenant"),
    ],
)
async def test_what_a_tenant_may_not_name_is_not_asked(of: Subject, why: str) -> None:
    broker = ScriptedBroker()
    reading = (await broker.read({of: broker.provides(of)}, AT_S))[of].readings[ReadingName.BACKLOG]
    assert isinstance(reading, Missing)
    assert why in reading.why
    assert broker.asked == []


async def test_one_refused_does_not_take_the_others_with_it() -> None:
    broker = ScriptedBroker()
    allowed, refused = subject("shared"), subject("eval.in")
    found = await broker.read({s: broker.provides(s) for s in (allowed, refused)}, AT_S)
    assert found[allowed].readings[ReadingName.BACKLOG] == Sample(7.0, AT_S)
    assert isinstance(found[refused].readings[ReadingName.BACKLOG], Missing)


async def test_a_broker_that_says_nothing_loses_its_connection() -> None:
    broker = ScriptedBroker(timeout_s=0.01)
    broker.hangs = asyncio.Event()
    with pytest.raises(SourceError, match=r"^no answer within 0.01 s$"):
        await broker.read({subject("shared"): frozenset({"backlog"})}, AT_S)
    assert broker.dropped == 1


async def test_a_reading_that_is_given_up_ends_the_connection() -> None:
    broker = ScriptedBroker()
    broker.hangs = asyncio.Event()
    reading = asyncio.create_task(_read(broker))
    for _ in range(10):
        await asyncio.sleep(0)
    assert broker.asked
    reading.cancel()
    with pytest.raises(asyncio.CancelledError):
        await reading
    assert broker.dropped == 1


async def test_a_connection_is_used_by_one_reading_at_a_time() -> None:
    broker = ScriptedBroker()
    broker.hangs = asyncio.Event()
    both = [asyncio.create_task(_read(broker)) for _ in range(2)]
    for _ in range(10):
        await asyncio.sleep(0)
    assert len(broker.asked) == 1
    broker.hangs.set()
    await asyncio.gather(*both)
    assert len(broker.asked) == 2


async def test_a_failure_is_raised_and_the_connection_made_anew() -> None:
    broker = ScriptedBroker()
    broker.fails = SourceError("refused our credentials")
    with pytest.raises(SourceError, match="refused our credentials"):
        await _read(broker)
    assert broker.dropped == 1
    await broker.close()
    assert broker.dropped == 2


async def _read(broker: BrokerSource) -> None:
    await broker.read({subject("shared"): frozenset({"backlog"})}, AT_S)


def test_credentials_are_read_anew_and_never_shown(tmp_path: Path) -> None:
    user, password = tmp_path / "user", tmp_path / "password"
    user.write_text("me\n")
    settings = SETTINGS.model_copy(update={"username_file": user, "password_file": password})
    with pytest.raises(SourceError, match=r"^password_file: cannot read .*password \(FileNotFoundError\)$"):
        credentials(settings)
    password.write_text(" secret \n")
    assert credentials(settings) == ("me", "secret")
    password.write_bytes(b"secret\xff")
    with pytest.raises(SourceError) as failure:
        credentials(settings)
    assert "secret" not in str(failure.value)
    assert failure.value.__cause__ is None
    assert text_of(None, "token_file") is None


def test_files_of_tls_that_do_not_fit_are_named(tmp_path: Path) -> None:
    broken = tmp_path / "ca.pem"
    broken.write_text("no certificate")
    with pytest.raises(SourceError, match=r"^TLS: cannot use .*ca\.pem \(SSLError\)$"):
        tls_context(SETTINGS.model_copy(update={"ca_file": broken}))


@pytest.mark.parametrize(
    ("kind", "library", "settings"),
    [
        pytest.param("kafka", "aiokafka", {"servers": ["kafka:9092"]}, id="kafka"),
        pytest.param("nats", "nats", {"servers": ["nats://nats:4222"]}, id="nats"),
        pytest.param("redis", "redis", {"url": "redis://redis"}, id="redis"),
    ],
)
def test_a_client_that_is_not_installed_is_named_with_its_extra(
    monkeypatch: pytest.MonkeyPatch, kind: str, library: str, settings: dict[str, object]
) -> None:
    for name in [name for name in sys.modules if name.startswith(f"scaler.sources.{kind}")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, library, None)
    backend: Backend = TypeAdapter(AnyBackend).validate_python({"kind": kind, "names": ["*"], **settings})
    with pytest.raises(MissingExtraError, match=rf"pip install 'slicewise\[{kind}\]'"):
        connect("messages", backend, WIRING)


WIRING = Wiring(presets={}, clock=lambda: AT_S, timeout_s=5.0, at_once=8)


@pytest.mark.parametrize("kind", ["kafka", "nats", "rabbitmq", "redis"])
async def test_every_kind_has_its_source(kind: str) -> None:
    login = {"username_file": "/u", "password_file": "/p"} if kind == "rabbitmq" else {}
    address = {"url": {"rabbitmq": "http://x", "redis": "redis://x"}.get(kind)}
    servers = {"servers": [{"kafka": "x:1", "nats": "nats://x:1"}.get(kind)]}
    where = address if address["url"] else servers
    backend: Backend = TypeAdapter(AnyBackend).validate_python({"kind": kind, "names": ["*"], **where, **login})
    source = connect("messages", backend, WIRING)
    assert source.provides(subject("shared")) >= {"backlog", "taken"}
    assert source.provides(subject(sessions="shared")) == ({"sessions"} if kind == "redis" else set())
    assert type(source).__module__ == SOURCES[kind]
    await source.close()


def test_nats_by_tls_is_told_by_its_address() -> None:
    plain = NatsBackend(kind="nats", servers=("nats://nats:4222",), names=("*",))
    assert not plain.encrypted
