import asyncio
import datetime as dt
import ssl
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from slicewise.process.tls import CertificateFiles, ReloadingContext

START = dt.datetime(2020, 1, 1, tzinfo=dt.UTC)
END = dt.datetime(2120, 1, 1, tzinfo=dt.UTC)


@dataclass
class Authority:
    name: str

    def __post_init__(self) -> None:
        self.key = ec.generate_private_key(ec.SECP256R1())
        self.certificate = self._sign(self.name, self.key, ca=True)

    def _sign(self, name: str, key: ec.EllipticCurvePrivateKey, *, ca: bool) -> x509.Certificate:
        who = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        issuer = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, self.name)])
        builder = x509.CertificateBuilder(issuer, who, key.public_key(), x509.random_serial_number(), START, END)
        builder = builder.add_extension(x509.BasicConstraints(ca, None), critical=True)
        builder = builder.add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
        return builder.sign(self.key, hashes.SHA256())

    def write(self, path: Path) -> Path:
        path.write_bytes(self.certificate.public_bytes(serialization.Encoding.PEM))
        return path

    def issue(self, folder: Path, name: str) -> CertificateFiles:
        key = ec.generate_private_key(ec.SECP256R1())
        files = CertificateFiles(certificate=folder / f"{name}.crt", key=folder / f"{name}.key")
        files.certificate.write_bytes(self._sign(name, key, ca=False).public_bytes(serialization.Encoding.PEM))
        plain = (serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
        files.key.write_bytes(key.private_bytes(*plain))
        return files


class Server:
    """Says "hello" to whoever gets through the handshake."""

    def __init__(self, context: ssl.SSLContext) -> None:
        self.context = context

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._greet, "127.0.0.1", 0, ssl=self.context)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()

    async def _greet(self, _: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"hello")
        writer.close()

    async def meets(self, server_ca: Path, client: CertificateFiles | None = None, *, sni: bool = True) -> bool:
        context = ssl.create_default_context(cafile=str(server_ca))
        context.check_hostname = sni
        if client:
            context.load_cert_chain(client.certificate, client.key)
        name = "localhost" if sni else ""
        try:
            reader, writer = await asyncio.open_connection(
                "127.0.0.1", self.port, ssl=context, server_hostname=name or None
            )
            heard = await reader.read()
            writer.close()
        except (ssl.SSLError, ConnectionError):
            return False
        return heard == b"hello"


def _move(source: CertificateFiles, target: CertificateFiles) -> None:
    target.certificate.write_bytes(source.certificate.read_bytes())
    target.key.write_bytes(source.key.read_bytes())


async def test_a_running_server_takes_new_certificates(tmp_path: Path) -> None:
    old, new = Authority("old"), Authority("new")
    old_ca, new_ca = old.write(tmp_path / "old-ca.crt"), new.write(tmp_path / "new-ca.crt")
    files = old.issue(tmp_path, "server")
    reloading = ReloadingContext(files)
    async with Server(reloading.context) as server:
        assert await server.meets(old_ca)
        assert not reloading.reload()
        files.certificate.write_bytes(new.issue(tmp_path, "other").certificate.read_bytes())
        assert not reloading.reload()  # certificate and key do not belong together yet
        assert await server.meets(old_ca)
        _move(new.issue(tmp_path, "other"), files)
        assert reloading.reload()
        assert (await server.meets(old_ca), await server.meets(new_ca)) == (False, True)
        assert await server.meets(new_ca, sni=False)
        files.key.unlink()
        assert not reloading.reload()
        assert await server.meets(new_ca)


async def test_only_clients_of_the_present_authority_get_in(tmp_path: Path) -> None:
    old, new = Authority("old"), Authority("new")
    server_ca = old.write(tmp_path / "server-ca.crt")
    served = old.issue(tmp_path, "server")
    clients = old.write(tmp_path / "clients-ca.crt")
    files = CertificateFiles(certificate=served.certificate, key=served.key, client_ca=clients)
    old_client, new_client = old.issue(tmp_path, "old-client"), new.issue(tmp_path, "new-client")
    reloading = ReloadingContext(files)
    async with Server(reloading.context) as server:
        assert not await server.meets(server_ca)
        assert (await server.meets(server_ca, old_client), await server.meets(server_ca, new_client)) == (True, False)
        new.write(clients)
        assert reloading.reload()
        assert (await server.meets(server_ca, old_client), await server.meets(server_ca, new_client)) == (False, True)
    assert files.read().client_ca == clients.read_bytes()


def test_files_that_do_not_load_are_an_error_at_the_start(tmp_path: Path) -> None:
    files = CertificateFiles(certificate=tmp_path / "a", key=tmp_path / "b")
    with pytest.raises(OSError, match="No such file"):
        ReloadingContext(files)
