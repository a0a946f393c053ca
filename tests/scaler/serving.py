"""The real server on loopback for tests: `async with house(…) as served:`."""

from collections.abc import AsyncIterator, Awaitable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import grpc
import grpc.aio
from prometheus_client import CollectorRegistry

from scaler.pb import externalscaler_pb2 as pb
from scaler.pb.externalscaler_pb2_grpc import ExternalScalerStub
from scaler.server import Running, serving
from scaler.settings import Address, Settings
from tests.fakes.clock import ManualClock
from tests.fakes.cluster import FakeCluster
from tests.fakes.prometheus import FakePrometheus

LOOPBACK = Address(host="127.0.0.1", port=0)
START_S = 1_700_000_002.0
KEYS = {"scalerAddress": "scaler:9090", "policy": "queue", "queuePerReplica": "1", "stabilizationDown": "0s"}


def settings(**changed: object) -> Settings:
    usual: dict[str, Any] = {
        "listen": LOOPBACK,
        "metrics_listen": LOOPBACK,
        "backends": {"default": {"url": "http://127.0.0.1:1"}},
        "drain_s": 0.0,
        "first_answer_s": 2.0,
        "query_timeout_s": 2.0,
    }
    return Settings(**{**usual, **changed})


@dataclass(frozen=True, kw_only=True)
class Served:
    """The server, what it talks to, and a client of it."""

    running: Running
    cluster: FakeCluster
    prometheus: FakePrometheus
    clock: ManualClock
    keda: Any
    registry: CollectorRegistry = field(default_factory=CollectorRegistry)

    def load(self, queue: object, pods: int = 3) -> None:
        self.prometheus.answers = {"seen": pods, "oldest": self.clock(), "sum.waiting": queue, "sum.running": 0}


def ref(
    metadata: Mapping[str, str] | None = None, name: str = "chat-so", namespace: str = "agents"
) -> pb.ScaledObjectRef:
    return pb.ScaledObjectRef(name=name, namespace=namespace, scalerMetadata=KEYS if metadata is None else metadata)


def ask(metadata: Mapping[str, str] | None = None, metric: str = "desired_replicas") -> pb.GetMetricsRequest:
    return pb.GetMetricsRequest(scaledObjectRef=ref(metadata), metricName=metric)


@asynccontextmanager
async def house(
    *,
    reads_cluster: bool = True,
    cluster_down: bool = False,
    credentials: grpc.ChannelCredentials | None = None,
    **changed: object,
) -> AsyncIterator[Served]:
    clock, cluster, registry = ManualClock(START_S), FakeCluster(), CollectorRegistry()
    cluster.down = cluster_down
    with FakePrometheus().serving() as prometheus:
        backends = {"backends": {"default": {"url": prometheus.url}}}
        kube = cluster if reads_cluster else None
        serve = serving(
            settings(**{**backends, **changed}), kube=kube, clock=clock, sleep=clock.sleep, registry=registry
        )
        async with serve as running, _channel(running.address, credentials) as channel:
            make: Any = ExternalScalerStub
            yield Served(
                running=running,
                cluster=cluster,
                prometheus=prometheus,
                clock=clock,
                keda=make(channel),
                registry=registry,
            )


def _channel(address: str, credentials: grpc.ChannelCredentials | None) -> grpc.aio.Channel:
    port = address.rpartition(":")[2]
    if credentials is None:
        return grpc.aio.insecure_channel(f"127.0.0.1:{port}")
    return grpc.aio.secure_channel(f"localhost:{port}", credentials)


async def refused(call: Awaitable[object]) -> tuple[grpc.StatusCode, str]:
    """Code and details of a call that has to fail."""
    try:
        answer = await call
    except grpc.aio.AioRpcError as e:
        return e.code(), e.details() or ""
    raise AssertionError(f"was answered by {answer}")
