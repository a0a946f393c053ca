"""How fast KEDA is answered: GetMetrics over a real loopback connection, like KEDA's to a process of its own."""

import asyncio
import time
from collections.abc import Mapping
from multiprocessing import Pipe, get_context
from multiprocessing.connection import Connection
from typing import Any, Final

import grpc.aio

from scaler.backends import PrometheusBackend
from scaler.pb import externalscaler_pb2 as pb
from scaler.pb.externalscaler_pb2_grpc import ExternalScalerStub
from scaler.server import serving
from scaler.settings import Address, Settings
from slicewise.process import logs
from tests.fakes.cluster import FakeCluster, scaled_object

Row = tuple[str, float, str]

OBJECTS: Final = 500
CALLS: Final = 6_000
CLIENTS: Final = 8
LOOPBACK: Final = Address(host="127.0.0.1", port=0)
KEYS: Final = {
    "scalerAddress": "slicewise-scaler.slicewise.svc:9090",
    "policy": "queue",
    "queuePerReplica": "4",
    "stabilizationDown": "5m",
}
START_S: Final = 1_700_000_002.0


def _cluster() -> FakeCluster:
    """A Kubernetes API that answers at once; Prometheus is absent, so every decision is a hold of what runs."""
    cluster = FakeCluster(replicas=3)
    cluster.objects["/apis/keda.sh/v1alpha1/scaledobjects"] = [
        scaled_object(f"chat-{n}", {"name": "chat"}) for n in range(OBJECTS)
    ]
    return cluster


def _serve(parent: Connection) -> None:
    """The server in a process of its own, as KEDA finds it; ends when the parent says so."""
    logs.configure("json", "error")
    settings = Settings(
        listen=LOOPBACK,
        metrics_listen=LOOPBACK,
        backends={"default": PrometheusBackend(url="http://127.0.0.1:1")},
        drain_s=0.0,
    )

    async def serve() -> None:
        async with serving(settings, kube=_cluster(), clock=lambda: START_S, sleep=_never) as running:
            parent.send(running.address)
            await asyncio.to_thread(parent.recv)

    asyncio.run(serve())


async def _never(_: float) -> None:
    """No tick comes: what is measured is answering, not evaluating."""
    await asyncio.Event().wait()


async def run() -> list[Row]:
    ours, theirs = Pipe()
    process = get_context("spawn").Process(target=_serve, args=(theirs,), daemon=True)
    process.start()
    try:
        address = await asyncio.to_thread(ours.recv)
        async with grpc.aio.insecure_channel(address) as channel:
            make: Any = ExternalScalerStub
            return await _rows(make(channel))
    finally:
        ours.send("end")
        await asyncio.to_thread(process.join, 10)
        process.kill()


async def _rows(keda: Any) -> list[Row]:  # noqa: ANN401  # generated without annotations
    requests = [_request(f"chat-{n}", KEYS) for n in range(OBJECTS)]
    await _measured(keda, requests, calls=OBJECTS, clients=CLIENTS)  # the first call of each evaluates it
    alone = sorted(await _measured(keda, requests, calls=CALLS, clients=1))
    begun_s = time.perf_counter()
    crowd = sorted(await _measured(keda, requests, calls=CALLS, clients=CLIENTS))
    all_s = time.perf_counter() - begun_s
    what = f"GetMetrics, {OBJECTS} ScaledObjects"
    return [
        (f"{what}, one call at a time, median", _quantile(alone, 0.5) * 1e3, "ms"),
        (f"{what}, one call at a time, p99", _quantile(alone, 0.99) * 1e3, "ms"),
        (f"{what}, {CLIENTS} calls at a time", CALLS / all_s, "calls/s"),
        (f"{what}, {CLIENTS} calls at a time, p99", _quantile(crowd, 0.99) * 1e3, "ms"),
    ]


def _request(name: str, metadata: Mapping[str, str]) -> pb.GetMetricsRequest:
    ref = pb.ScaledObjectRef(name=name, namespace="agents", scalerMetadata=metadata)
    return pb.GetMetricsRequest(scaledObjectRef=ref, metricName="desired_replicas")


async def _measured(
    keda: Any,  # noqa: ANN401  # as above
    requests: list[pb.GetMetricsRequest],
    *,
    calls: int,
    clients: int,
) -> list[float]:
    """Seconds of each call; the clients share the calls out among themselves."""
    left, took_s = iter(range(calls)), []

    async def client() -> None:
        for n in left:
            begun_s = time.perf_counter()
            answer = await keda.GetMetrics(requests[n % len(requests)])
            took_s.append(time.perf_counter() - begun_s)
            if answer.metricValues[0].metricValue != 3:
                raise RuntimeError(f"a wrong answer: {answer}")

    await asyncio.gather(*(client() for _ in range(clients)))
    return took_s


def _quantile(ordered: list[float], share: float) -> float:
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]
