"""The server as a process sees it: health, reflection, metrics, TLS, addresses, shutdown."""

import asyncio
import datetime as dt
import ipaddress
from pathlib import Path
from typing import Any
from urllib.request import urlopen

import grpc
import grpc.aio
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import ProtoReflectionDescriptorDatabase
from structlog.testing import capture_logs

from scaler.pb.externalscaler_pb2_grpc import ExternalScalerStub
from scaler.server import SERVICE, ListenError, serving
from scaler.settings import Address
from tests.fakes.clock import ManualClock
from tests.fakes.cluster import FakeCluster
from tests.scaler.serving import ask, house, ref, refused, settings

SERVING = health_pb2.HealthCheckResponse.SERVING


async def health(address: str, service: str) -> object:
    async with grpc.aio.insecure_channel(address) as channel:
        answer: Any = await health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest(service=service))
        return answer.status


@pytest.mark.parametrize("service", ["", SERVICE])
async def test_health(service: str) -> None:
    async with house() as served:
        assert await health(served.running.address, service) == SERVING


async def test_health_says_no_while_calls_are_still_answered() -> None:
    closing = asyncio.Event()
    serve = serving(settings(drain_s=0.5), kube=FakeCluster(), clock=ManualClock(), sleep=ManualClock().sleep)

    async def run(told: asyncio.Queue[str]) -> None:
        async with serve as running:
            told.put_nowait(running.address)
            await closing.wait()

    told: asyncio.Queue[str] = asyncio.Queue()
    task = asyncio.create_task(run(told))
    address = await told.get()
    async with grpc.aio.insecure_channel(address) as channel:
        check = health_pb2_grpc.HealthStub(channel).Check
        assert (await check(health_pb2.HealthCheckRequest(service=""))).status == SERVING
        closing.set()
        for _ in range(5000):
            if (await check(health_pb2.HealthCheckRequest(service=""))).status != SERVING:
                break
        assert not task.done()
    await task


async def test_reflection_names_the_calls() -> None:
    async with house() as served:

        def described() -> set[str]:
            with grpc.insecure_channel(served.running.address) as channel:
                database = ProtoReflectionDescriptorDatabase(channel)
                assert SERVICE in database.get_services()
                file = database.FindFileContainingSymbol(SERVICE)
                return {method.name for method in file.service[0].method}

        assert await asyncio.to_thread(described) == {
            "IsActive",
            "StreamIsActive",
            "GetMetricSpec",
            "GetMetrics",
            "StreamMetricSpec",
        }


async def test_metrics_are_served() -> None:
    async with house() as served:
        served.load(queue=7)
        await served.keda.GetMetrics(ask())

        def scrape() -> str:
            with urlopen(f"http://{served.running.metrics_address}/metrics", timeout=5) as response:
                return str(response.read(), "utf-8")

        text = await asyncio.to_thread(scrape)
        assert 'slicewise_scaler_desired_replicas{namespace="agents",scaled_object="chat-so"' in text


async def test_an_address_in_use_is_said_so() -> None:
    async with house() as served:
        taken = Address(host="127.0.0.1", port=int(served.running.address.rpartition(":")[2]))
        for name in ("listen", "metrics_listen"):
            serve = serving(settings(**{name: taken}), kube=None, clock=ManualClock(), sleep=ManualClock().sleep)
            with pytest.raises(ListenError, match=f"cannot listen on {taken}"):
                async with serve:
                    raise AssertionError("it listens")


async def test_ticks_that_end_by_a_defect_end_the_server() -> None:
    class BrokenClock(ManualClock):
        async def sleep(self, seconds: float) -> None:
            raise ZeroDivisionError("a defect")

    clock = BrokenClock()
    with pytest.raises(ZeroDivisionError):
        async with serving(settings(), kube=FakeCluster(), clock=clock, sleep=clock.sleep) as running:
            await asyncio.wait({running.ticks})


async def test_plaintext_beyond_loopback_is_warned_of() -> None:
    everywhere = Address(host="0.0.0.0", port=0)
    with capture_logs() as events:
        async with house(listen=everywhere, plaintext=True):
            pass
    assert [event["log_level"] for event in events if event["event"] == "scaler.plaintext"] == ["warning"]


class Authority:
    """A throw-away CA with one server and one client certificate, valid for localhost."""

    def __init__(self, folder: Path, name: str) -> None:
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        self.certificate = self._sign(self._name, self._key, is_authority=True)
        self.path = folder / f"{name}.pem"
        self.path.write_bytes(self.certificate)

    def issue(self, name: str) -> tuple[bytes, bytes]:
        """Certificate and key as PEM."""
        key = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        pem = key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        return self._sign(subject, key, is_authority=False), pem

    def _sign(self, subject: x509.Name, key: ec.EllipticCurvePrivateKey, *, is_authority: bool) -> bytes:
        names = x509.SubjectAlternativeName(
            [x509.DNSName("localhost"), x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]
        )
        start = dt.datetime.fromtimestamp(1_600_000_000, dt.UTC)
        built = (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(self._name)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(start)
            .not_valid_after(start + dt.timedelta(days=36_500))
            .add_extension(x509.BasicConstraints(ca=is_authority, path_length=None), critical=True)
            .add_extension(names, critical=False)
            .sign(self._key, hashes.SHA256())
        )
        return built.public_bytes(serialization.Encoding.PEM)


class Certificates:
    def __init__(self, folder: Path) -> None:
        self.authority = Authority(folder, "ca")
        self.certificate, self.key = folder / "tls.crt", folder / "tls.key"
        self.renew(self.authority)

    def renew(self, authority: Authority) -> None:
        certificate, key = authority.issue("scaler")
        self.certificate.write_bytes(certificate)
        self.key.write_bytes(key)

    def settings(self) -> dict[str, Any]:
        return {"tls_certificate": self.certificate, "tls_key": self.key}


@pytest.fixture
def certificates(tmp_path: Path) -> Certificates:
    return Certificates(tmp_path)


async def test_tls(certificates: Certificates) -> None:
    trust = grpc.ssl_channel_credentials(certificates.authority.certificate)
    async with house(credentials=trust, **certificates.settings()) as served:
        assert len((await served.keda.GetMetricSpec(ref())).metricSpecs) == 1


async def test_clients_without_a_certificate_are_refused_where_one_is_asked_for(certificates: Certificates) -> None:
    authority = certificates.authority
    certificate, key = authority.issue("keda")
    mutual = {**certificates.settings(), "tls_client_ca": authority.path}
    with_one = grpc.ssl_channel_credentials(authority.certificate, key, certificate)
    async with house(credentials=with_one, **mutual) as served:
        assert len((await served.keda.GetMetricSpec(ref())).metricSpecs) == 1
    without = grpc.ssl_channel_credentials(authority.certificate)
    async with house(credentials=without, **mutual) as served:
        assert (await refused(served.keda.GetMetricSpec(ref())))[0] == grpc.StatusCode.UNAVAILABLE


async def test_a_renewed_certificate_is_picked_up(certificates: Certificates, tmp_path: Path) -> None:
    async with house(**certificates.settings()) as served:
        port = served.running.address.rpartition(":")[2]
        other = Authority(tmp_path, "other-ca")
        certificates.renew(other)
        assert await spec_by_tls(port, other.certificate) == 1
        certificates.key.unlink()
        assert await spec_by_tls(port, other.certificate) == 1


async def spec_by_tls(port: str, authority: bytes) -> int:
    make: Any = ExternalScalerStub
    async with grpc.aio.secure_channel(f"localhost:{port}", grpc.ssl_channel_credentials(authority)) as channel:
        return len((await make(channel).GetMetricSpec(ref())).metricSpecs)


async def test_a_broken_certificate_is_said_so(certificates: Certificates) -> None:
    certificates.certificate.unlink()
    serve = serving(settings(**certificates.settings()), kube=None, clock=ManualClock(), sleep=ManualClock().sleep)
    with pytest.raises(ListenError, match=r"tls\.crt"):
        async with serve:
            raise AssertionError("it listens")
