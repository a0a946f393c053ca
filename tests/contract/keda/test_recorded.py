"""What KEDA 2.21.0 sent for manifests/examples/agents/planner.yaml, replayed: the same bytes come back.

recorded/ holds the calls in hexadecimal, as they were on the wire in the end-to-end tests (SLICEWISE_RECORD), with the
answers that KEDA took and scaled by. The load then was 16 requests at 4 a replica.
"""

from pathlib import Path
from typing import Any

import grpc
import grpc.aio
import pytest

from scaler.pb import externalscaler_pb2 as pb
from scaler.trigger import Trigger
from tests.scaler.serving import house

RECORDED = Path(__file__).parent / "recorded"
SERVICE = "/externalscaler.ExternalScaler"


def recorded(call: str, part: str) -> bytes:
    return bytes.fromhex((RECORDED / f"{call}-planner.{part}.hex").read_text())


def metadata(call: str) -> dict[str, str]:
    if call == "GetMetrics":
        return dict(pb.GetMetricsRequest.FromString(recorded(call, "request")).scaledObjectRef.scalerMetadata)
    return dict(pb.ScaledObjectRef.FromString(recorded(call, "request")).scalerMetadata)


@pytest.mark.parametrize("call", ["GetMetricSpec", "GetMetrics", "IsActive", "StreamIsActive", "StreamMetricSpec"])
def test_every_call_brings_the_whole_metadata(call: str) -> None:
    found = metadata(call)
    assert found.keys() >= {"scalerAddress", "policy", "queuePerReplica", "stabilizationDown", "window", "hpaTolerance"}
    assert Trigger.parse(found).policy == "queue"


def test_the_metric_is_asked_for_without_the_trigger_s_index() -> None:
    assert pb.GetMetricsRequest.FromString(recorded("GetMetrics", "request")).metricName == "desired_replicas"


@pytest.mark.parametrize("call", ["GetMetricSpec", "GetMetrics", "IsActive"])
async def test_an_asked_answer_is_the_recorded_one(call: str) -> None:
    async with house() as served, grpc.aio.insecure_channel(served.running.address) as channel:
        served.load(queue=16)
        ask: Any = channel.unary_unary(f"{SERVICE}/{call}")
        assert await ask(recorded(call, "request")) == recorded(call, "response")


@pytest.mark.parametrize("call", ["StreamIsActive", "StreamMetricSpec"])
async def test_a_pushed_answer_is_the_recorded_one(call: str) -> None:
    async with house() as served, grpc.aio.insecure_channel(served.running.address) as channel:
        served.load(queue=16)
        ask: Any = channel.unary_stream(f"{SERVICE}/{call}")
        stream = ask(recorded(call, "request"))
        assert await stream.read() == recorded(call, "response")
        stream.cancel()
