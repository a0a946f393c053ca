"""KEDA's external-scaler protocol: messages to values and back, errors to status codes. No decisions."""

import asyncio
import re
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Final, NoReturn, TypeVar

import grpc
import grpc.aio
from typing_extensions import override

from scaler.engine import Engine, FullError, Published
from scaler.pb import externalscaler_pb2 as pb
from scaler.pb.externalscaler_pb2_grpc import ExternalScalerServicer
from scaler.policy.base import Decision
from scaler.trigger import TriggerError

METRIC: Final = "desired_replicas"
TARGET: Final = 1
"""As an AverageValue target, it makes the HPA want as many replicas as the value says."""

REQUESTED: Final = re.compile(rf"(s\d+-)?{METRIC}")
"""KEDA takes its own prefix off before it asks; one that forgets gets its answer too."""

NAME: Final = re.compile(r"[a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?")
"""RFC 1123 subdomain, near enough: nothing else reaches a query or a path."""

MAX_DETAILS: Final = 3000
"""Characters. gRPC's trailers hold 8 KiB in all by default, and text may grow threefold on the wire."""

Request = TypeVar("Request")
Response = TypeVar("Response")


@dataclass(frozen=True, slots=True, kw_only=True)
class Streams:
    """`repeat_s`: KEDA drops a `true` for an object whose metric it does not know yet, so it is said again.

    `life_s`: a stream ends by itself, with OK, before its connection's age ends it with an error: after each error KEDA
    waits longer before it comes back, up to a minute.
    """

    repeat_s: float
    life_s: float


class KedaService(ExternalScalerServicer):
    """All five calls. `closing`: set when the process is to end, so that streams end with OK."""

    def __init__(self, engine: Engine, streams: Streams, closing: asyncio.Event) -> None:
        self._engine = engine
        self._streams = streams
        self._closing = closing

    @override
    async def GetMetricSpec(
        self,
        request: pb.ScaledObjectRef,
        context: grpc.aio.ServicerContext[pb.ScaledObjectRef, pb.GetMetricSpecResponse],
    ) -> pb.GetMetricSpecResponse:
        await self._check(request, context)
        return _spec()

    @override
    async def GetMetrics(
        self,
        request: pb.GetMetricsRequest,
        context: grpc.aio.ServicerContext[pb.GetMetricsRequest, pb.GetMetricsResponse],
    ) -> pb.GetMetricsResponse:
        name = request.metricName
        if REQUESTED.fullmatch(name) is None:
            await context.abort(grpc.StatusCode.INVALID_ARGUMENT, f"metricName: want {METRIC} (got {name[:80]!r})")
        decision = (await self._decide(request.scaledObjectRef, context)).decision
        if decision.replicas is None:
            await _refuse(context, decision)
        value = pb.MetricValue(
            metricName=name, metricValue=decision.replicas, metricValueFloat=float(decision.replicas)
        )
        return pb.GetMetricsResponse(metricValues=[value])

    @override
    async def IsActive(
        self, request: pb.ScaledObjectRef, context: grpc.aio.ServicerContext[pb.ScaledObjectRef, pb.IsActiveResponse]
    ) -> pb.IsActiveResponse:
        decision = (await self._decide(request, context)).decision
        if decision.replicas is None and not decision.active:
            await _refuse(context, decision)
        return pb.IsActiveResponse(result=decision.active)

    @override
    async def StreamIsActive(
        self, request: pb.ScaledObjectRef, context: grpc.aio.ServicerContext[pb.ScaledObjectRef, pb.IsActiveResponse]
    ) -> AsyncIterator[pb.IsActiveResponse]:
        """`true` at the start if the workload is active, when it becomes so, and again as long as nothing runs.

        KEDA acts on `true` only from 2.18 on; before, `false` scaled to zero over the heads of the object's other
        triggers. So `false` is never sent: polling and KEDA's cooldown bring a workload to zero.
        """
        loop = asyncio.get_running_loop()
        ends_s, due_s, first = loop.time() + self._streams.life_s, loop.time(), True
        while loop.time() < ends_s and not self._closing.is_set():
            decision = (await self._decide(request, context)).decision
            if not decision.active:
                due_s, first = loop.time(), True
            elif decision.replicas and (first or not decision.current) and loop.time() >= due_s:
                due_s, first = loop.time() + self._streams.repeat_s, False
                yield pb.IsActiveResponse(result=True)
            await self._until_news(request, min(ends_s, due_s if due_s > loop.time() else ends_s) - loop.time())

    @override
    async def StreamMetricSpec(
        self,
        request: pb.ScaledObjectRef,
        context: grpc.aio.ServicerContext[pb.ScaledObjectRef, pb.GetMetricSpecResponse],
    ) -> AsyncIterator[pb.GetMetricSpecResponse]:
        """The spec at once, and never again: it does not change."""
        await self._check(request, context)
        yield _spec()
        try:
            await asyncio.wait_for(self._closing.wait(), self._streams.life_s)
        except TimeoutError:
            return

    async def _check(self, ref: pb.ScaledObjectRef, context: grpc.aio.ServicerContext[Request, Response]) -> None:
        """From metadata alone, without I/O: a GetMetricSpec that fails blinds KEDA's fallback."""
        await _check_names(ref, context)
        try:
            self._engine.admit(ref.namespace, ref.scalerMetadata)
        except TriggerError as e:
            await context.abort(grpc.StatusCode.INVALID_ARGUMENT, str(e)[:MAX_DETAILS])

    async def _decide(self, ref: pb.ScaledObjectRef, context: grpc.aio.ServicerContext[Request, Response]) -> Published:
        await _check_names(ref, context)
        try:
            return await self._engine.decide(ref.namespace, ref.name, ref.scalerMetadata)
        except TriggerError as e:
            await context.abort(grpc.StatusCode.INVALID_ARGUMENT, str(e)[:MAX_DETAILS])
        except FullError as e:
            await context.abort(grpc.StatusCode.RESOURCE_EXHAUSTED, str(e))

    async def _until_news(self, ref: pb.ScaledObjectRef, timeout_s: float) -> None:
        """Until the object has been evaluated again, the process is to end, or `timeout_s` is over."""
        waits = {
            asyncio.create_task(self._engine.news(ref.namespace, ref.name, ref.scalerMetadata)),
            asyncio.create_task(self._closing.wait()),
        }
        try:
            await asyncio.wait(waits, timeout=max(0.0, timeout_s), return_when=asyncio.FIRST_COMPLETED)
        finally:
            for wait in waits:
                wait.cancel()
            await asyncio.gather(*waits, return_exceptions=True)


def _spec() -> pb.GetMetricSpecResponse:
    spec = pb.MetricSpec(metricName=METRIC, targetSize=TARGET, targetSizeFloat=float(TARGET))
    return pb.GetMetricSpecResponse(metricSpecs=[spec])


async def _check_names(ref: pb.ScaledObjectRef, context: grpc.aio.ServicerContext[Request, Response]) -> None:
    faults = [
        f"scaledObjectRef.{field}: want a Kubernetes name (got {name[:80]!r})"
        for field, name in (("name", ref.name), ("namespace", ref.namespace))
        if NAME.fullmatch(name) is None
    ]
    if faults:
        await context.abort(grpc.StatusCode.INVALID_ARGUMENT, "; ".join(faults))


async def _refuse(context: grpc.aio.ServicerContext[Request, Response], decision: Decision) -> NoReturn:
    """KEDA counts this as a failure: it leaves the replicas alone, or lets the object's fallback act."""
    story = "; ".join(map(str, decision.steps))
    await context.abort(grpc.StatusCode.UNAVAILABLE, f"replicas not known: {story}"[:MAX_DETAILS])
