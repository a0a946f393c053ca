"""A client of the Kubernetes API that speaks plain JSON.

Credentials, kubeconfig dialects and TLS are the `kubernetes` library's; objects stay dicts, because its generated
models cost more than everything else on the way of a watch of thousands of pods.
"""

import asyncio
import contextlib
import ipaddress
import json
import os
import time
from collections.abc import AsyncIterable, AsyncIterator, Awaitable, Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Self
from urllib.parse import quote, urlencode, urlsplit

import aiohttp
import structlog
import yaml
from kubernetes.aio.client import Configuration
from kubernetes.aio.client.rest import RESTClientObject
from kubernetes.aio.config import ConfigException, kube_config
from kubernetes.aio.config.incluster_config import InClusterConfigLoader

Json = dict[str, Any]
Clock = Callable[[], float]  #: seconds on one monotone axis

SERVICE_ACCOUNT: Final = Path("/var/run/secrets/kubernetes.io/serviceaccount")
#: Tokens and certificates are read again this often. Kubelets renew a bound token at 80 % of its life (1 h by default).
RELOAD_S: Final = 60.0
#: aiohttp's close does not wait until TLS connections are closed; a loop that ends before leaves sockets behind.
#: Source: https://docs.aiohttp.org/en/stable/client_advanced.html#graceful-shutdown
TLS_GOODBYE_S: Final = 0.25
#: Status of a KubeError for which there was no answer at all: what was asked may or may not have happened.
NO_ANSWER: Final = 0
#: Reason of such an error where there was not even a connection: then it has not happened.
NOT_SENT: Final = "NotConnected"

log: structlog.typing.FilteringBoundLogger = structlog.get_logger()


class KubeError(Exception):
    """The API server's refusal, or its silence (`status` 0: it is not known whether the request took effect)."""

    def __init__(self, status: int, reason: str, message: str) -> None:
        super().__init__(f"{reason}: {message}" if status == NO_ANSWER else f"{status} {reason}: {message}")
        self.status = status
        self.reason = reason
        self.message = message

    @classmethod
    def of_body(cls, status: int, text: str) -> Self:
        """From an answer's body, which is a Status object unless a proxy wrote it."""
        found = _decoded(text)
        if isinstance(found, dict) and found.get("kind") == "Status":
            return cls(status, str(found.get("reason") or "Unknown"), str(found.get("message") or ""))
        return cls(status, "Unknown", " ".join(text.split())[:200])

    @property
    def unanswered(self) -> bool:
        return self.status == NO_ANSWER


class Kube:
    """Requests to one API server, with the credentials of one kubeconfig or of the pod's ServiceAccount.

    Paths are those of the REST API, from the root: `/api/v1/namespaces/default/pods/a`. Each request has `timeout_s`.
    Credentials are read again every minute and at once when the server answers 401.
    """

    def __init__(self, configure: "_Configure", *, timeout_s: float, clock: Clock) -> None:
        self._configure = configure
        self._timeout_s = timeout_s
        self._clock = clock
        self._configuration = Configuration()
        self._identity: tuple[object, ...] = ()
        self._client: Any = None  # a RESTClientObject, which has no annotations
        self._retired: list[Any] = []
        self._read_at_s = 0.0
        self._reading = asyncio.Lock()

    @classmethod
    @contextlib.asynccontextmanager
    async def connect(
        cls,
        kubeconfig: Path | None,
        *,
        timeout_s: float = 10.0,
        service_account: Path = SERVICE_ACCOUNT,
        environ: Mapping[str, str] = os.environ,
        clock: Clock = time.monotonic,
    ) -> AsyncIterator[Self]:
        """Read the credentials; nothing is sent yet.

        Without `kubeconfig`: the pod's ServiceAccount if there is one, else $KUBECONFIG or ~/.kube/config.
        Raises KubeError (status 0) if there are none or they are broken.
        """
        kube = cls(_configure_from(kubeconfig, service_account, environ), timeout_s=timeout_s, clock=clock)
        await kube._read_credentials()
        try:
            yield kube
        finally:
            await kube._close()

    async def get(self, path: str, **query: str | int) -> Json:
        return await self._ask(_Request("GET", path, query=query))

    async def create(self, path: str, body: Json) -> Json:
        return await self._ask(_Request("POST", path, body=body))

    async def merge_patch(self, path: str, body: Json) -> Json:
        """RFC 7386: keys are merged, null deletes."""
        return await self._ask(_Request("PATCH", path, body=body, content_type="application/merge-patch+json"))

    async def replace(self, path: str, body: Json) -> Json:
        return await self._ask(_Request("PUT", path, body=body))

    async def delete(self, path: str, body: Json | None = None) -> Json:
        return await self._ask(_Request("DELETE", path, body=body))

    @contextlib.asynccontextmanager
    async def lines(
        self, path: str, *, quiet_s: float, query: Mapping[str, str | int]
    ) -> AsyncIterator[AsyncIterable[bytes]]:
        """The lines of an answer that does not end by itself: a watch. Silence longer than `quiet_s` is a KubeError."""
        limit = aiohttp.ClientTimeout(total=None, sock_connect=self._timeout_s, sock_read=quiet_s)
        request = _Request("GET", path, query=query)
        async with self._open(request, limit) as response:
            with _silence_is_an_error(request, limit):
                yield response.content

    async def _ask(self, request: "_Request") -> Json:
        limit = aiohttp.ClientTimeout(total=self._timeout_s)
        async with self._open(request, limit) as response:
            with _silence_is_an_error(request, limit):
                text = await response.read()
        found = _decoded(text)
        if not isinstance(found, dict):
            raise KubeError(NO_ANSWER, "NotJson", f"{request}: answered by {text[:80]!r}, not by a JSON object")
        return found

    @contextlib.asynccontextmanager
    async def _open(self, request: "_Request", limit: aiohttp.ClientTimeout) -> AsyncIterator[aiohttp.ClientResponse]:
        """The good answer with its connection. A second try only after 401, with credentials read anew."""
        if self._clock() - self._read_at_s >= RELOAD_S:
            await self._reload(self._read_at_s)
        sent_at_s = self._clock()
        response = await self._send(request, limit)
        if response.status == 401:  # a rotated token: nothing has happened, so asking again is safe
            response.release()
            await self._reload(sent_at_s)
            response = await self._send(request, limit)
        try:
            if response.status >= 400:
                with _silence_is_an_error(request, limit):
                    text = await response.text(errors="replace")
                raise KubeError.of_body(response.status, text)
            yield response
        finally:
            response.release()

    async def _send(self, request: "_Request", limit: aiohttp.ClientTimeout) -> aiohttp.ClientResponse:
        client = self._client
        if client is None:
            raise KubeError(NO_ANSWER, "NoCredentials", "the client is not connected: use Kube.connect")
        headers = {"Accept": "application/json", "Content-Type": request.content_type, "User-Agent": "slicewise"}
        if token := self._configuration.api_key.get("BearerToken"):
            headers["Authorization"] = token
        asked = f"?{urlencode(request.query)}" if request.query else ""
        url = f"{self._configuration.host.rstrip('/')}{quote(request.path, safe='/:')}{asked}"
        with _silence_is_an_error(request, limit):
            answer = await client.request(
                request.method, url, headers=headers, body=request.body, _request_timeout=limit
            )
        response: aiohttp.ClientResponse = answer.response
        return response

    async def _reload(self, older_than_s: float) -> None:
        """Read the credentials again, unless that was done since `older_than_s`. A failure keeps the old ones."""
        async with self._reading:
            if self._read_at_s > older_than_s:
                return
            try:
                await self._read_credentials()
            except KubeError as e:
                log.warning("kube.credentials_not_read", why=e.message)
            self._read_at_s = self._clock()

    async def _read_credentials(self) -> None:
        configuration = Configuration()
        try:
            await self._configure(configuration)
            # As Go's clients do: a proxy from the environment is never asked for loopback addresses.
            configuration.client_session_kwargs = {"trust_env": not _is_loopback(configuration.host)}
            identity = _identity(configuration)
            client = self._client if identity == self._identity else RESTClientObject(configuration)
        except (ConfigException, yaml.YAMLError, OSError, ValueError, KeyError, TypeError, AttributeError) as e:
            # the library checks little: a broken kubeconfig shows as any of these
            raise KubeError(NO_ANSWER, "NoCredentials", str(e)) from e
        for old in self._retired:  # it had a whole reload interval to finish its requests
            await old.close()
        self._retired = [] if client is self._client or self._client is None else [self._client]
        self._configuration, self._identity, self._client = configuration, identity, client
        self._read_at_s = self._clock()

    async def _close(self) -> None:
        for client in (*self._retired, *([self._client] if self._client else [])):
            await client.close()
        if self._configuration.host.startswith("https:"):
            await asyncio.sleep(TLS_GOODBYE_S)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Request:
    method: str = field(kw_only=False)
    path: str = field(kw_only=False)
    query: Mapping[str, str | int] = field(default_factory=dict)
    body: Json | None = None
    content_type: str = "application/json"

    def __str__(self) -> str:
        return f"{self.method} {self.path}"


_Configure = Callable[[Configuration], Awaitable[None]]


def _configure_from(kubeconfig: Path | None, service_account: Path, environ: Mapping[str, str]) -> _Configure:
    library: Any = kube_config  # it has no annotations
    paths = str(kubeconfig) if kubeconfig else environ.get("KUBECONFIG") or "~/.kube/config"
    files = [Path(p).expanduser() for p in paths.split(os.pathsep) if p]

    async def from_files(configuration: Configuration) -> None:
        if not any(f.is_file() for f in files):
            raise ConfigException(f"no kubeconfig at {paths}: name one with --kubeconfig or $KUBECONFIG")
        await library.load_kube_config(config_file=paths, client_configuration=configuration, persist_config=False)

    async def from_pod(configuration: Configuration) -> None:
        token, authority = service_account / "token", service_account / "ca.crt"
        load: Any = InClusterConfigLoader
        load(str(token), str(authority), try_refresh_token=False, environ=environ).load_and_set(configuration)

    return from_pod if kubeconfig is None and "KUBERNETES_SERVICE_HOST" in environ else from_files


def _identity(configuration: Configuration) -> tuple[object, ...]:
    """What a connection pool is made from; when it changes, a new pool is needed. The token goes with each request."""
    paths = (configuration.ssl_ca_cert, configuration.cert_file, configuration.key_file)
    files = tuple(Path(p).read_bytes() if p else b"" for p in paths)
    return (configuration.host, configuration.verify_ssl, configuration.tls_server_name, configuration.proxy, *files)


def _is_loopback(host: str) -> bool:
    name = urlsplit(host).hostname or ""
    with contextlib.suppress(ValueError):
        return ipaddress.ip_address(name).is_loopback
    return name == "localhost"


def _decoded(text: str | bytes) -> object:
    try:
        return json.loads(text)
    except ValueError:
        return None


@contextlib.contextmanager
def _silence_is_an_error(request: _Request, limit: aiohttp.ClientTimeout) -> Iterator[None]:
    try:
        yield
    except (aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError) as e:
        raise KubeError(NO_ANSWER, NOT_SENT, f"{request}: {str(e) or type(e).__name__}") from e
    except TimeoutError as e:  # aiohttp's time-outs are this too
        limit_s = limit.total or limit.sock_read or 0.0
        raise KubeError(NO_ANSWER, "Timeout", f"{request}: nothing heard for {limit_s:g} s") from e
    except (aiohttp.ClientError, OSError) as e:
        raise KubeError(NO_ANSWER, "Unreachable", f"{request}: {str(e) or type(e).__name__}") from e
