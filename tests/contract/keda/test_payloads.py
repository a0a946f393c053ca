"""KEDA's messages byte for byte: field numbers and wire types are the contract, whatever our generated code says.

The bytes are made by hand from the protocol (tag = number << 3 | type; type 0 varint, 1 eight bytes, 2 length).
"""

import struct
from typing import Any

import grpc
import grpc.aio
import pytest
from google.protobuf.message import Message

from scaler.pb import externalscaler_pb2 as pb
from tests.scaler.serving import house

ONE_AS_DOUBLE = struct.pack("<d", 1.0)
SEVEN_AS_DOUBLE = struct.pack("<d", 7.0)


def varint(number: int) -> bytes:
    return bytes([number]) if number < 128 else bytes([number & 127 | 128]) + varint(number >> 7)


def field(number: int, content: bytes) -> bytes:
    return varint(number << 3 | 2) + varint(len(content)) + content


def entry(key: str, value: str) -> bytes:
    return field(3, field(1, key.encode()) + field(2, value.encode()))


METADATA = {
    "policy": "queue",
    "queuePerReplica": "1",
    "scalerAddress": "slicewise-scaler.slicewise.svc:9090",
    "stabilizationDown": "0s",
}
REF = field(1, b"chat-so") + field(2, b"agents") + b"".join(entry(*item) for item in METADATA.items())
REQUEST = field(1, REF) + field(2, b"desired_replicas")
NAME = field(1, b"desired_replicas")
SPEC = field(1, NAME + b"\x10\x01" + b"\x19" + ONE_AS_DOUBLE)
VALUE = field(1, NAME + b"\x10\x07" + b"\x19" + SEVEN_AS_DOUBLE)
ACTIVE = b"\x08\x01"


@pytest.mark.parametrize(
    ("payload", "message"),
    [
        pytest.param(REF, pb.ScaledObjectRef(name="chat-so", namespace="agents", scalerMetadata=METADATA), id="ref"),
        pytest.param(
            REQUEST,
            pb.GetMetricsRequest(
                scaledObjectRef=pb.ScaledObjectRef(name="chat-so", namespace="agents", scalerMetadata=METADATA),
                metricName="desired_replicas",
            ),
            id="request for a metric",
        ),
        pytest.param(
            SPEC,
            pb.GetMetricSpecResponse(
                metricSpecs=[pb.MetricSpec(metricName="desired_replicas", targetSize=1, targetSizeFloat=1.0)]
            ),
            id="spec",
        ),
        pytest.param(
            VALUE,
            pb.GetMetricsResponse(
                metricValues=[pb.MetricValue(metricName="desired_replicas", metricValue=7, metricValueFloat=7.0)]
            ),
            id="value",
        ),
        pytest.param(ACTIVE, pb.IsActiveResponse(result=True), id="active"),
        pytest.param(b"", pb.IsActiveResponse(result=False), id="inactive: proto3 leaves it out"),
    ],
)
def test_message(payload: bytes, message: Message) -> None:
    assert type(message).FromString(payload) == message
    assert message.SerializeToString(deterministic=True) == payload


def test_fields_of_a_newer_keda_are_passed_over() -> None:
    # kedacore/test-tools has a metricType = 4 in MetricSpec; whatever comes, it comes with a number unknown to us.
    ref = pb.ScaledObjectRef.FromString(REF + field(9, b"from the future") + b"\x50\x07")
    assert (ref.name, dict(ref.scalerMetadata)) == ("chat-so", METADATA)


@pytest.mark.parametrize(
    ("call", "request_", "answer"),
    [
        pytest.param("GetMetricSpec", REF, SPEC, id="GetMetricSpec"),
        pytest.param("GetMetrics", REQUEST, VALUE, id="GetMetrics"),
        pytest.param("GetMetrics", REQUEST + field(9, b"new"), VALUE, id="GetMetrics of a newer KEDA"),
        pytest.param("IsActive", REF, ACTIVE, id="IsActive"),
    ],
)
async def test_answer(call: str, request_: bytes, answer: bytes) -> None:
    """Raw bytes in and out of the real server: no generated code on the client's side."""
    async with house() as served, grpc.aio.insecure_channel(served.running.address) as channel:
        served.load(queue=7)
        raw: Any = channel.unary_unary(f"/externalscaler.ExternalScaler/{call}")
        assert await raw(request_) == answer


@pytest.mark.parametrize(("call", "answer"), [("StreamIsActive", ACTIVE), ("StreamMetricSpec", SPEC)])
async def test_pushed(call: str, answer: bytes) -> None:
    async with house() as served, grpc.aio.insecure_channel(served.running.address) as channel:
        served.load(queue=7)
        raw: Any = channel.unary_stream(f"/externalscaler.ExternalScaler/{call}")
        stream = raw(REF)
        assert await stream.read() == answer
        stream.cancel()


@pytest.mark.parametrize("garbage", [b"\xff", b"\x0a\x7f", b"\x1a\x02\x0a"])
async def test_bytes_that_are_no_message_are_refused_and_the_next_call_is_answered(garbage: bytes) -> None:
    async with house() as served, grpc.aio.insecure_channel(served.running.address) as channel:
        raw: Any = channel.unary_unary("/externalscaler.ExternalScaler/GetMetricSpec")
        with pytest.raises(grpc.aio.AioRpcError, match="Error parsing message"):
            await raw(garbage)
        assert await raw(REF) == SPEC
