"""What JetStream may answer about a consumer."""

import json

import pytest

from scaler.signals.reading import Missing, ReadingName, Sample
from scaler.sources.nats import _readings

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
