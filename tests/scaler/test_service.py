"""KEDA's calls against the real server over a real connection."""

import asyncio
import math
from collections.abc import AsyncIterable
from contextlib import AsyncExitStack
from typing import Any

import grpc
import pytest

from scaler.pb import externalscaler_pb2 as pb
from scaler.pb.externalscaler_pb2_grpc import ExternalScalerStub
from tests.fakes.clock import until
from tests.scaler.serving import KEYS, Served, ask, house, ref, refused

INVALID, UNAVAILABLE = grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.UNAVAILABLE


def evaluations(served: Served) -> float:
    return served.registry.get_sample_value("slicewise_scaler_evaluation_seconds_count") or 0.0


async def tick(served: Served) -> None:
    """The next tick, and all that it asks over sockets."""
    before = evaluations(served)
    await served.clock.advance(15.0)
    await until(lambda: evaluations(served) > before)


async def test_the_spec_is_one_metric_with_target_one_and_asks_nobody() -> None:
    async with house() as served:
        got = await served.keda.GetMetricSpec(ref())
        want = pb.MetricSpec(metricName="desired_replicas", targetSize=1, targetSizeFloat=1.0)
        assert list(got.metricSpecs) == [want]
        assert served.prometheus.queries == []


async def test_the_spec_needs_no_far_side() -> None:
    async with house(cluster_down=True) as served:
        served.prometheus.status = 503
        assert len((await served.keda.GetMetricSpec(ref())).metricSpecs) == 1


async def test_one_value_with_both_fields_filled() -> None:
    async with house() as served:
        served.load(queue=7)
        got = await served.keda.GetMetrics(ask())
        assert list(got.metricValues) == [
            pb.MetricValue(metricName="desired_replicas", metricValue=7, metricValueFloat=7.0)
        ]
        assert (await served.keda.IsActive(ref())).result is True


async def test_a_name_with_kedas_prefix_is_answered_under_that_name() -> None:
    async with house() as served:
        served.load(queue=7)
        (value,) = (await served.keda.GetMetrics(ask(metric="s1-desired_replicas"))).metricValues
        assert value.metricName == "s1-desired_replicas"


async def test_zero_is_an_answer() -> None:
    async with house() as served:
        served.load(queue=0)
        (value,) = (await served.keda.GetMetrics(ask())).metricValues
        assert (value.metricValue, value.metricValueFloat) == (0, 0.0)
        assert (await served.keda.IsActive(ref())).result is False


async def test_metrics_and_activity_are_of_one_evaluation() -> None:
    async with house() as served:
        served.load(queue=7)
        await served.keda.GetMetrics(ask())
        asked = len(served.prometheus.queries)
        served.load(queue=0)
        assert (await served.keda.IsActive(ref())).result is True
        assert len(served.prometheus.queries) == asked


@pytest.mark.parametrize("queue", [[], "NaN", "+Inf", -1, [1, 2]])
async def test_no_number_is_neither_zero_nor_passed_on(queue: object) -> None:
    async with house() as served:
        served.load(queue=queue)
        (value,) = (await served.keda.GetMetrics(ask())).metricValues
        assert value.metricValueFloat == 3.0
        assert math.isfinite(value.metricValueFloat)
        assert (await served.keda.IsActive(ref())).result is True


async def test_nothing_known_is_unavailable_with_the_reasons() -> None:
    async with house(cluster_down=True) as served:
        served.prometheus.status = 503
        for call in (served.keda.GetMetrics(ask()), served.keda.IsActive(ref())):
            code, why = await refused(call)
            assert code == UNAVAILABLE
            assert why.startswith("replicas not known: queue: ? -> ? (demand not known: ")
            assert "/apis/keda.sh/v1alpha1/scaledobjects is not listed yet (Unreachable)" in why


async def test_fail_lets_kedas_fallback_act_but_an_active_workload_stays_active() -> None:
    keys = {**KEYS, "onMissing": "fail"}
    async with house() as served:
        served.load(queue=7)
        await served.keda.GetMetrics(ask(keys))
        served.prometheus.status = 503
        await tick(served)
        assert (await refused(served.keda.GetMetrics(ask(keys))))[0] == UNAVAILABLE
        assert (await served.keda.IsActive(ref(keys))).result is True


@pytest.mark.parametrize(
    ("request_", "want"),
    [
        pytest.param(ask({**KEYS, "queuePerReplica": "x"}), "trigger metadata 'queuePerReplica': want", id="bad value"),
        pytest.param(ask({**KEYS, "replicas": "x"}), "trigger metadata 'replicas': unknown key", id="unknown key"),
        pytest.param(ask({**KEYS, "backend": "us"}), "this server knows default", id="backend not allowed"),
        pytest.param(ask(metric="cpu"), "metricName: want desired_replicas (got 'cpu')", id="another metric"),
        pytest.param(ask(metric=""), "metricName: want desired_replicas (got '')", id="no metric"),
        pytest.param(pb.GetMetricsRequest(metricName="desired_replicas"), "scaledObjectRef.name: want", id="no object"),
    ],
)
async def test_bad_requests_are_told_what_is_wrong(request_: pb.GetMetricsRequest, want: str) -> None:
    async with house() as served:
        code, why = await refused(served.keda.GetMetrics(request_))
        assert code == INVALID
        assert want in why


async def test_all_calls_refuse_bad_metadata_with_every_fault() -> None:
    bad = ref({"policy": "queue", "queuePerReplica": "x", "maxAge": "60"})

    async def first(stream: AsyncIterable[object]) -> object:
        return await anext(aiter(stream))

    async with house() as served:
        calls = [
            served.keda.GetMetricSpec(bad),
            served.keda.IsActive(bad),
            first(served.keda.StreamIsActive(bad)),
            first(served.keda.StreamMetricSpec(bad)),
        ]
        for call in calls:
            code, why = await refused(call)
            assert code == INVALID
            assert "'queuePerReplica'" in why
            assert "'maxAge'" in why


@pytest.mark.parametrize("name", ['x"} or up{', "../x", "", "a" * 300, "Ä"])
async def test_names_that_kubernetes_would_not_give_reach_nobody(name: str) -> None:
    async with house() as served:
        assert (await refused(served.keda.IsActive(ref(name=name))))[0] == INVALID
        assert (await refused(served.keda.IsActive(ref(namespace=name))))[0] == INVALID
        assert served.prometheus.queries == []


async def test_a_full_server_says_so() -> None:
    async with house(max_objects=1) as served:
        served.load(queue=1)
        await served.keda.IsActive(ref())
        code, why = await refused(served.keda.IsActive(ref(name="another")))
        assert code == grpc.StatusCode.RESOURCE_EXHAUSTED
        assert "max_objects" in why


async def test_activation_is_pushed_at_once_and_again_while_nothing_runs() -> None:
    async with house(repeat_s=0.05) as served:
        served.cluster.scale(0)
        served.load(queue=0, pods=0)
        stream = served.keda.StreamIsActive(ref())
        first = asyncio.create_task(stream.read())
        await until(lambda: evaluations(served) > 0)
        served.load(queue=2, pods=0)
        await tick(served)
        assert (await first).result is True
        assert (await stream.read()).result is True
        stream.cancel()


async def test_an_active_workload_is_pushed_once_when_its_pods_run() -> None:
    async with house(repeat_s=0.01, max_connection_age_s=1.2) as served:
        served.load(queue=2)
        stream = served.keda.StreamIsActive(ref())
        pushed = [message.result async for message in stream]
        assert pushed == [True]
        assert await stream.code() == grpc.StatusCode.OK


async def test_inactivity_is_never_pushed() -> None:
    async with house(max_connection_age_s=1.2) as served:
        served.load(queue=0)
        stream = served.keda.StreamIsActive(ref())
        assert [message async for message in stream] == []
        assert await stream.code() == grpc.StatusCode.OK


async def test_what_is_not_known_is_not_pushed() -> None:
    async with house(max_connection_age_s=1.2, cluster_down=True) as served:
        served.prometheus.status = 503
        stream = served.keda.StreamIsActive(ref())
        assert [message async for message in stream] == []


async def test_the_spec_is_pushed_at_once_and_the_stream_stays_open_to_its_end() -> None:
    async with house(max_connection_age_s=1.2) as served:
        stream = served.keda.StreamMetricSpec(ref())
        pushed = [message async for message in stream]
        assert pushed == [await served.keda.GetMetricSpec(ref())]
        assert await stream.code() == grpc.StatusCode.OK


async def test_streams_end_with_ok_when_the_server_stops() -> None:
    make: Any = ExternalScalerStub
    async with AsyncExitStack() as longer:
        async with house() as served:
            served.load(queue=2)
            keda = make(await longer.enter_async_context(grpc.aio.insecure_channel(served.running.address)))
            streams = [keda.StreamIsActive(ref()), keda.StreamMetricSpec(ref())]
            for stream in streams:
                await stream.read()
            ends = [asyncio.create_task(stream.code()) for stream in streams]
        assert [await end for end in ends] == [grpc.StatusCode.OK] * 2
