"""The whole scaler as one value: gRPC server, engine, metrics. Started here, by the command and by tests alike."""

import asyncio
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass
from typing import Any, Final

import grpc
import grpc.aio
import structlog
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection
from prometheus_client import CollectorRegistry, start_http_server

from scaler.backends import PrometheusBackend
from scaler.clock import Clock, Sleep
from scaler.engine import Engine, Limits
from scaler.obs import Observer
from scaler.pb import externalscaler_pb2 as pb
from scaler.pb import externalscaler_pb2_grpc as pb_grpc
from scaler.service import KedaService, Streams
from scaler.settings import Address, Settings
from scaler.sources import Wiring, connect, presets
from scaler.sources.cluster import ClusterSource
from scaler.sources.dependencies import DependencySource
from scaler.sources.guarded import Guarded
from scaler.sources.prometheus_api import PrometheusApi
from slicewise.process.tls import CertificateFiles, Material
from slicewise.process.watch import Reader

log: structlog.typing.FilteringBoundLogger = structlog.get_logger()

SERVICE: Final[str] = pb.DESCRIPTOR.services_by_name["ExternalScaler"].full_name
MAX_REQUEST_BYTES: Final = 256 * 1024
"""A trigger's metadata; Kubernetes bounds the whole ScaledObject at 1.5 MiB, and none is near."""


class ListenError(OSError):
    """An address cannot be listened on."""


@dataclass(frozen=True, slots=True)
class Running:
    """Where the server listens, once it does. `ticks`: ends only by a defect."""

    address: str
    metrics_address: str
    ticks: asyncio.Task[None]


def engine_of(
    settings: Settings, cluster: ClusterSource | None, observer: Observer, clock: Clock, sleep: Sleep
) -> Engine:
    known = presets.load()
    wiring = Wiring(
        presets=known,
        clock=clock,
        timeout_s=settings.query_timeout_s,
        at_once=settings.queries_at_once,
        pods=cluster,
    )
    guarded = [
        Guarded(name, connect(name, backend, wiring), timeout_s=settings.source_timeout_s, clock=clock)
        for name, backend in settings.backends.items()
    ]
    guarded += _dependencies(settings, clock)
    limits = Limits(
        tick_s=settings.tick_s,
        delay_s=settings.delay_s,
        first_answer_s=settings.first_answer_s,
        forget_after_s=settings.forget_after_s,
        max_objects=settings.max_objects,
        backends={name: backend.access for name, backend in settings.backends.items()},
        presets=frozenset(known),
        dependencies=frozenset(settings.dependencies),
        reads_cluster=cluster is not None,
    )
    return Engine(cluster, guarded, limits, observer, clock=clock, sleep=sleep)


@asynccontextmanager
async def engine_with(
    settings: Settings,
    *,
    kube: Reader | None,
    clock: Clock,
    sleep: Sleep = asyncio.sleep,
    registry: CollectorRegistry | None = None,
) -> AsyncIterator[Engine]:
    """An engine with its sources and watches, which serves nobody and does not tick by itself."""
    cluster = None if kube is None else _cluster(settings, kube, clock)
    observer = Observer(CollectorRegistry() if registry is None else registry)
    engine = engine_of(settings, cluster, observer, clock, sleep)
    async with AsyncExitStack() as stack:
        stack.push_async_callback(engine.close)
        if cluster is not None:
            await stack.enter_async_context(_watching(cluster))
        yield engine


@asynccontextmanager
async def serving(
    settings: Settings,
    *,
    kube: Reader | None,
    clock: Clock,
    sleep: Sleep = asyncio.sleep,
    registry: CollectorRegistry | None = None,
) -> AsyncIterator[Running]:
    """Serves while the block runs; then drains: health says no, streams end with OK, calls in flight are answered.

    `kube`: None where the Kubernetes API is not read. Raises ListenError.
    """
    registry = CollectorRegistry() if registry is None else registry
    closing = asyncio.Event()
    server = grpc.aio.server(options=_options(settings))
    streams = Streams(repeat_s=settings.repeat_s, life_s=0.8 * settings.max_connection_age_s)
    register: Any = pb_grpc.add_ExternalScalerServicer_to_server  # generated without annotations
    healthy: Any = health.aio.HealthServicer()
    health_pb2_grpc.add_HealthServicer_to_server(healthy, server)
    reflection.enable_server_reflection((SERVICE, health.SERVICE_NAME, reflection.SERVICE_NAME), server)
    async with AsyncExitStack() as stack:
        engine = await stack.enter_async_context(
            engine_with(settings, kube=kube, clock=clock, sleep=sleep, registry=registry)
        )
        register(KedaService(engine, streams, closing), server)
        stack.push_async_callback(server.stop, None)
        metrics_address = stack.enter_context(_metrics(settings.metrics_listen, registry))
        port = _bind(server, settings)
        await server.start()
        ticking = asyncio.create_task(engine.run(), name="scaler ticks")
        for name in ("", SERVICE):
            await healthy.set(name, health_pb2.HealthCheckResponse.SERVING)
        address = str(settings.listen.model_copy(update={"port": port}))
        log.info("scaler.listening", address=address, metrics=metrics_address, tls=settings.tls_certificate is not None)
        try:
            yield Running(address, metrics_address, ticking)
        finally:
            await healthy.enter_graceful_shutdown()
            closing.set()
            await asyncio.sleep(settings.drain_s)
            await server.stop(grace=settings.first_answer_s)
            ticking.cancel()
            with suppress(asyncio.CancelledError):
                await ticking
            log.info("scaler.stopped")


def _dependencies(settings: Settings, clock: Clock) -> Iterator[Guarded]:
    for name, backend in settings.backends.items():
        asked = {n: d for n, d in settings.dependencies.items() if d.backend == name}
        if asked and isinstance(backend, PrometheusBackend):
            source = DependencySource(PrometheusApi(backend, timeout_s=settings.query_timeout_s), asked)
            yield Guarded(name, source, timeout_s=settings.source_timeout_s, clock=clock)


def _cluster(settings: Settings, kube: Reader, clock: Clock) -> ClusterSource:
    return ClusterSource(
        kube,
        clock=clock,
        watches_pods=any(backend.kind == "scrape" for backend in settings.backends.values()),
        first_answer_s=0.8 * settings.first_answer_s,
    )


@asynccontextmanager
async def _watching(cluster: ClusterSource) -> AsyncIterator[None]:
    stop = asyncio.Event()
    watching = asyncio.create_task(cluster.run(stop), name="scaler watches")
    try:
        yield
    finally:
        stop.set()
        await watching


def _options(settings: Settings) -> Sequence[tuple[str, int]]:
    age_ms = int(settings.max_connection_age_s * 1000)
    return (
        # A connection's end is the only time at which KEDA's round_robin looks addresses up again. Its streams have as
        # long again to end with OK: each lives for less than that.
        ("grpc.max_connection_age_ms", age_ms),
        ("grpc.max_connection_age_grace_ms", age_ms),
        # A node that vanished leaves half-open connections behind.
        ("grpc.keepalive_time_ms", 60_000),
        ("grpc.keepalive_timeout_ms", 20_000),
        # KEDA sends no keepalive today; one that begins to must not be taken for an attack.
        ("grpc.http2.min_ping_interval_without_data_ms", 5_000),
        ("grpc.keepalive_permit_without_calls", 1),
        # All ScaledObjects of a cluster share one connection, with two streams each where they push.
        ("grpc.max_concurrent_streams", 2 * settings.max_objects + 1000),
        ("grpc.max_receive_message_length", MAX_REQUEST_BYTES),
        # Two servers on one port would answer in turns.
        ("grpc.so_reuseport", 0),
    )


def _bind(server: grpc.aio.Server, settings: Settings) -> int:
    address = str(settings.listen)
    try:
        if settings.tls_certificate is None or settings.tls_key is None:
            if not settings.listen.is_loopback:
                log.warning(
                    "scaler.plaintext", address=address, why="plaintext is set: whoever is on the path can answer KEDA"
                )
            return server.add_insecure_port(address)
        files = CertificateFiles(
            certificate=settings.tls_certificate, key=settings.tls_key, client_ca=settings.tls_client_ca
        )
        return server.add_secure_port(address, _credentials(files))
    except (RuntimeError, OSError) as e:
        raise ListenError(f"cannot listen on {address}: {e}") from e


def _credentials(files: CertificateFiles) -> grpc.ServerCredentials:
    """Read anew for each connection, taken where they have changed; files that cannot be read change nothing."""
    newest = files.read()

    def renewed() -> grpc.ServerCertificateConfiguration | None:
        nonlocal newest
        try:
            material = files.read()
        except OSError as e:
            log.warning("tls.not_reloaded", why=str(e))
            return None
        if material == newest:
            return None
        newest = material
        log.info("tls.reloaded", certificate=str(files.certificate))
        return _configuration(material)

    fetch: Any = renewed  # None says "no change", which the stubs do not know
    return grpc.dynamic_ssl_server_credentials(
        _configuration(newest), fetch, require_client_authentication=files.client_ca is not None
    )


def _configuration(material: Material) -> grpc.ServerCertificateConfiguration:
    return grpc.ssl_server_certificate_configuration(
        [(material.key, material.certificate)], root_certificates=material.client_ca
    )


@contextmanager
def _metrics(listen: Address, registry: CollectorRegistry) -> Iterator[str]:
    try:
        server, thread = start_http_server(listen.port, listen.host, registry)
    except OSError as e:
        raise ListenError(f"cannot listen on {listen}: {e}") from e
    try:
        yield str(listen.model_copy(update={"port": server.server_port}))
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
