"""Settings of message brokers: what is taken, and what is said about what is not."""

from typing import Any, get_args

import pytest
from pydantic import TypeAdapter, ValidationError

from scaler.backends import AnyBackend, Backend, MessageBroker

PARSED: TypeAdapter[Backend] = TypeAdapter(AnyBackend)
KAFKA = {"kind": "kafka", "servers": ["kafka:9092"], "names": ["{namespace}.*"]}
RABBITMQ = {
    "kind": "rabbitmq",
    "url": "https://rabbitmq:15671",
    "names": ["*"],
    "username_file": "/u",
    "password_file": "/p",
}
NATS = {"kind": "nats", "servers": ["tls://nats:4222"], "names": ["*"]}
REDIS = {"kind": "redis", "url": "redis://redis:6379/0", "names": ["session:{namespace}:*"]}
KINDS = [kind for kind in get_args(get_args(AnyBackend)[0]) if issubclass(kind, MessageBroker)]


@pytest.mark.parametrize("settings", [KAFKA, RABBITMQ, NATS, REDIS], ids=lambda s: str(s["kind"]))
def test_the_least_that_is_wanted(settings: dict[str, Any]) -> None:
    backend = PARSED.validate_python({**settings, "namespaces": ["agents"]})
    assert isinstance(backend, MessageBroker)
    assert backend.access.namespaces == ("agents",)
    assert backend.access.names == tuple(settings["names"])


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: str(kind.__name__))
def test_every_field_has_a_reason(kind: type[MessageBroker]) -> None:
    assert [n for n, field in kind.model_fields.items() if not field.description and n != "kind"] == []


LOGIN = {"username_file": "/u", "password_file": "/p"}


@pytest.mark.parametrize(
    ("settings", "fault"),
    [
        pytest.param({**KAFKA, "names": []}, "at least 1 item", id="no names: nobody could use it"),
        pytest.param({k: v for k, v in KAFKA.items() if k != "names"}, "names", id="names are not left out silently"),
        pytest.param({**KAFKA, "names": ["{namespace}-*"]}, "separate it by a character", id="a pattern that leaks"),
        pytest.param({**KAFKA, "servers": ["kafka"]}, "servers", id="no port"),
        pytest.param({**KAFKA, "servers": ["http://kafka:9092"]}, "servers", id="a URL where there is none"),
        pytest.param({**KAFKA, "servers": []}, "at least 1 item", id="no server"),
        pytest.param({**KAFKA, "sasl": "PLAIN"}, "sasl, username_file and password_file go together", id="no user"),
        pytest.param({**KAFKA, **LOGIN}, "sasl, username_file and password_file go together", id="no mechanism"),
        pytest.param({**KAFKA, "sasl": "GSSAPI", **LOGIN}, "SCRAM-SHA-512", id="a mechanism that we do not have"),
        pytest.param({**KAFKA, "ca_file": "/ca"}, "for TLS, and the address is one without", id="a CA without TLS"),
        pytest.param({**KAFKA, "offset_reset": "none"}, "'earliest' or 'latest'", id="no policy for no position"),
        pytest.param({**KAFKA, "max_partitions": 0}, "max_partitions", id="no partition at all"),
        pytest.param({**RABBITMQ, "url": "https://me:secret@rabbitmq"}, "url", id="a password in an address"),
        pytest.param({**RABBITMQ, "url": "amqp://rabbitmq"}, "url", id="not the management API"),
        pytest.param(
            {k: v for k, v in RABBITMQ.items() if not k.endswith("_file")}, "answers nobody without", id="no user there"
        ),
        pytest.param({**NATS, "servers": ["nats:4222"]}, "servers", id="no scheme"),
        pytest.param({**NATS, "token_file": "/t", **LOGIN}, "want one way to log in", id="two ways to log in"),
        pytest.param({**NATS, "domain": "a.b"}, "domain", id="a domain of several parts"),
        pytest.param({**REDIS, "url": "redis://:secret@redis"}, "url", id="a password in Redis' address"),
        pytest.param({**REDIS, "certificate_file": "/c"}, "certificate_file and key_file go together", id="no key"),
        pytest.param({**REDIS, "username_file": "/u"}, "username_file needs password_file", id="no password"),
        pytest.param({**REDIS, "in_work": "processing"}, "in_work", id="one list of work for all"),
        pytest.param(
            {**REDIS, "in_work": "{name}:x", "popped_is_done": True}, "leave one out", id="two words on what was popped"
        ),
        pytest.param({**REDIS, "session_scores": "seconds"}, "'expires_s'", id="scores without their meaning"),
        pytest.param({**REDIS, "password": "secret"}, "Extra inputs", id="a secret in the settings"),
    ],
)
def test_what_is_refused(settings: dict[str, Any], fault: str) -> None:
    with pytest.raises(ValidationError) as refusal:
        PARSED.validate_python(settings)
    assert fault in str(refusal.value)


def test_all_faults_at_once() -> None:
    with pytest.raises(ValidationError) as refusal:
        PARSED.validate_python({**REDIS, "key_file": "/k", "username_file": "/u", "ca_file": "/ca"})
    for fault in ("go together", "needs password_file", "for TLS"):
        assert fault in str(refusal.value)
