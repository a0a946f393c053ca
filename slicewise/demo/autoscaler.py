"""A stand-in for KEDA and the HorizontalPodAutoscaler: the simulator's own rules, asking the real scaler over gRPC."""

from collections.abc import Callable
from typing import Any, Final

import grpc

from scaler.pb import externalscaler_pb2 as pb
from scaler.pb.externalscaler_pb2_grpc import ExternalScalerStub
from sim.cluster import hpa, keda
from sim.cluster.scaledobject import ScaledObject, milli
from slicewise.demo.controllers import DEPLOYMENTS
from slicewise.demo.kube_store import Store
from slicewise.demo.scene import Line

#: KEDA sets no deadline; the demo must end in time whatever its parts do.
DEADLINE_S: Final = 5.0
#: The generated stub is not annotated.
STUB: Final[Callable[[grpc.aio.Channel], Any]] = ExternalScalerStub
NEVER_S: Final = float("-inf")


class Autoscaler:
    """One ScaledObject of one external trigger. `wanted`: what the scaler answered last, None before and on errors."""

    def __init__(
        self, store: Store, scaled_object: ScaledObject, channel: grpc.aio.Channel, tell: Callable[[Line], None]
    ) -> None:
        self._store = store
        self._object = scaled_object
        self._stub = STUB(channel)
        self._tell = tell
        self._ref = pb.ScaledObjectRef(
            name=scaled_object.metadata.name,
            namespace=scaled_object.metadata.namespace,
            scalerMetadata=dict(scaled_object.spec.triggers[0].metadata),
        )
        self._hpa_past = hpa.NO_PAST
        self._keda_past = keda.Past(created_s=0.0)
        self._record: keda.Record | None = None
        self._served = ""
        self._polled_s = self._synced_s = NEVER_S
        self._now_s = 0.0
        self._silent = False
        self.wanted: float | None = None
        self.calls = self.errors = 0
        self.ups = self.downs = 0

    async def step(self, now_s: float) -> None:
        """KEDA's poll and the HPA's sync, whichever is due."""
        self._now_s = now_s
        if now_s - self._polled_s >= self._object.spec.polling_interval:
            self._polled_s = now_s
            await self._poll(now_s)
        if now_s - self._synced_s >= hpa.SYNC_PERIOD_S:
            self._synced_s = now_s
            await self._sync(now_s)

    async def _poll(self, now_s: float) -> None:
        if self._record is None or not self._object.uses_hpa_observations():
            await self._query()
        if self._record is None:
            return
        request, self._keda_past = keda.poll(self._object, [self._record], self._scale(), self._keda_past, now_s)
        if request.replicas is not None:
            self._write(request.replicas, "keda", request.reason, now_s)

    async def _sync(self, now_s: float) -> None:
        spec = await self._query()
        if spec is None or self._record is None:
            return
        name, record = spec.targets[0].name, self._record
        usage = hpa.Failed(record.error) if record.value_milli is None else record.value_milli
        verdict, self._hpa_past = hpa.sync(spec, self._scale(), {name: usage}, self._hpa_past, now_s)
        if verdict.replicas != self._scale().spec:
            why = "; ".join([verdict.reason, *map(str, verdict.steps)])
            self._write(verdict.replicas, "hpa", why, now_s)

    async def _query(self) -> hpa.Spec | None:
        """GetMetricSpec, GetMetrics, IsActive: what KEDA asks for one metric. None where there was no spec."""
        try:
            specs = await self._stub.GetMetricSpec(self._ref, timeout=DEADLINE_S)
        except grpc.aio.AioRpcError as e:
            self._failed(e)
            return None
        served = specs.metricSpecs[0]
        spec = self._object.hpa(lambda _: (served.metricName, served.targetSizeFloat or served.targetSize))
        answer = await self._answer(served.metricName)
        self._record, self._keda_past = keda.observe(
            self._object.spec.fallback, spec.targets[0], answer, self._scale(), self._keda_past
        )
        return spec

    async def _answer(self, metric: str) -> keda.Answer | hpa.Failed:
        asked = pb.GetMetricsRequest(scaledObjectRef=self._ref, metricName=metric)
        self.calls += 1
        try:
            metrics = await self._stub.GetMetrics(asked, timeout=DEADLINE_S)
            active = await self._stub.IsActive(self._ref, timeout=DEADLINE_S)
        except grpc.aio.AioRpcError as e:
            return self._failed(e)
        self._silent = False
        self.wanted = metrics.metricValues[0].metricValueFloat or float(metrics.metricValues[0].metricValue)
        return keda.Answer(milli(self.wanted), active.result)

    def _failed(self, error: grpc.aio.AioRpcError) -> hpa.Failed:
        self.errors += 1
        self.wanted = None
        if not self._silent:
            self._tell(Line(self._now_s, "keda", f"no answer: {error.code().name}", error.details() or "", "red"))
        self._silent = True
        return hpa.Failed(f"{error.code().name}: {error.details()}")

    def _scale(self) -> hpa.Scale:
        deployment = self._store.get(DEPLOYMENTS, self._object.spec.scale_target_ref.name)
        status = deployment.get("status", {})
        return hpa.Scale(
            spec=deployment["spec"]["replicas"],
            status=status.get("replicas", 0),
            ready=status.get("readyReplicas", 0),
        )

    def _write(self, replicas: int, who: str, why: str, now_s: float) -> None:
        name, before = self._object.spec.scale_target_ref.name, self._scale().spec
        self.ups, self.downs = self.ups + (replicas > before), self.downs + (replicas < before)
        self._store.merge_patch(DEPLOYMENTS, name, {"spec": {"replicas": replicas}})
        self._tell(Line(now_s, who, f"{name} {before} -> {replicas}", why, "green" if replicas > before else "blue"))
