"""Certificates that are replaced while the program runs, as cert-manager and the kubelet's Secret mounts do."""

import ssl
from dataclasses import dataclass
from pathlib import Path

import structlog

log: structlog.typing.FilteringBoundLogger = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Material:
    """PEM bytes. `client_ca`: who may sign clients' certificates; None: clients are not asked for one."""

    certificate: bytes
    key: bytes
    client_ca: bytes | None


@dataclass(frozen=True, slots=True, kw_only=True)
class CertificateFiles:
    certificate: Path
    key: Path
    client_ca: Path | None = None

    def read(self) -> Material:
        """What the files hold now, for gRPC. Raises OSError."""
        authority = self.client_ca.read_bytes() if self.client_ca else None
        return Material(self.certificate.read_bytes(), self.key.read_bytes(), authority)

    def context(self) -> ssl.SSLContext:
        """A server's context. Raises OSError (ssl.SSLError is one): files missing, broken or not of one pair."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        context.load_cert_chain(self.certificate, self.key)
        if self.client_ca:
            context.verify_mode = ssl.CERT_REQUIRED
            context.load_verify_locations(cafile=self.client_ca)
        return context


class ReloadingContext:
    """One context to give to a server; each handshake uses the newest good files."""

    def __init__(self, files: CertificateFiles) -> None:
        self._files = files
        self._material = files.read()
        self._newest = files.context()
        self.context = files.context()
        self.context.sni_callback = self._choose

    def _choose(self, connection: ssl.SSLSocket | ssl.SSLObject, _name: str | None, _: ssl.SSLContext) -> None:
        # OpenSSL takes certificate and client authorities from the context that the connection is moved to here. It
        # calls this for clients without SNI too.
        connection.context = self._newest

    def reload(self) -> bool:
        """Take the files if they have changed; say whether they were taken. Files that do not load change nothing."""
        try:
            material = self._files.read()
            if material == self._material:
                return False
            newest = self._files.context()
        except OSError as e:  # half-written, or certificate and key of two pairs: the next look will be better
            log.warning("tls.not_reloaded", why=str(e), certificate=str(self._files.certificate))
            return False
        self._material, self._newest = material, newest
        log.info("tls.reloaded", certificate=str(self._files.certificate))
        return True
