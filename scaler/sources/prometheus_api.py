"""Prometheus's HTTP API, as much as readings need: instant and range queries, decoded straight into their types.

Source: prometheus/prometheus docs/querying/api.md. Thanos and Mimir answer in the same form, and tell in `warnings` of
what they could not reach.
"""

import ssl
from base64 import b64encode
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from ipaddress import ip_address
from typing import Final, Generic, TypeVar
from urllib.parse import urlsplit

import aiohttp
import msgspec
import structlog

from scaler.backends import PrometheusBackend

log: structlog.typing.FilteringBoundLogger = structlog.get_logger()

MIB: Final = 1 << 20
MEANINGS: Final[Mapping[int, str]] = {
    400: "it does not understand the query",
    401: "it wants other credentials",
    403: "these credentials may not ask",
    404: "there is no Prometheus at this url",
    422: "it could not carry the query out",
    429: "it is asked too much",
    503: "it gave the query up or is not ready",
}


class NotAnsweredError(Exception):
    """One query has no answer; `str(e)` says why, without secrets. `reached`: whether the far side said anything."""

    def __init__(self, why: str, *, reached: bool) -> None:
        super().__init__(why)
        self.reached = reached


class Labels(msgspec.Struct, frozen=True, gc=False):
    """The labels that our own queries keep; "" where a series has not got one."""

    namespace: str = ""
    workload: str = ""
    part: str = ""
    le: str = ""


class NativeHistogram(msgspec.Struct, frozen=True, gc=False):
    """A native histogram; `buckets`: (boundary rule, lower, upper, count) for each that is not empty."""

    count: str
    sum: str
    buckets: list[tuple[int, str, str, str]] = []


class Point(msgspec.Struct, frozen=True, gc=False, array_like=True):
    at_s: float
    value: str


class NativePoint(msgspec.Struct, frozen=True, gc=False, array_like=True):
    at_s: float
    histogram: NativeHistogram


class Now(msgspec.Struct, frozen=True, gc=False):
    """A series of an instant query: a number or a histogram.

    None of this holds a list, a dict or a tuple that every series would have: the garbage collector, which walks over
    those of a hundred thousand series again and again, took four fifths of the time that decoding takes with them.
    """

    metric: Labels
    value: Point | None = None
    histogram: NativePoint | None = None


class Past(msgspec.Struct, frozen=True):
    """A series of a range query."""

    metric: Labels
    values: list[Point] = []
    histograms: list[NativePoint] = []


S = TypeVar("S")


class _Result(msgspec.Struct, Generic[S], frozen=True):
    kind: str = msgspec.field(name="resultType")
    result: list[S]


class _Body(msgspec.Struct, Generic[S], frozen=True):
    status: str
    data: _Result[S]
    warnings: list[str] = []


@dataclass(frozen=True, slots=True)
class Answer(Generic[S]):
    """`warnings`: why it may not be the whole truth, in the far side's words."""

    series: Sequence[S]
    warnings: tuple[str, ...]


VECTOR: Final = msgspec.json.Decoder(_Body[Now])
MATRIX: Final = msgspec.json.Decoder(_Body[Past])


class PrometheusApi:
    """Asks one backend. Never follows a redirect: that would hand our credentials to whom we were not told of."""

    def __init__(self, backend: PrometheusBackend, *, timeout_s: float) -> None:
        self._backend = backend
        self._timeout_s = timeout_s
        self._url = backend.url.rstrip("/")
        self._session: aiohttp.ClientSession | None = None

    async def instant(self, query: str, at_s: float) -> Answer[Now]:
        """The vector at `at_s`. Raises NotAnsweredError."""
        return _read(await self._ask("query", {"query": query, "time": f"{at_s:.3f}"}), VECTOR, "vector")

    async def over(self, query: str, from_s: float, to_s: float, step_s: float) -> Answer[Past]:
        """The matrix from `from_s` to `to_s`, both included. Raises NotAnsweredError."""
        asked = {"query": query, "start": f"{from_s:.3f}", "end": f"{to_s:.3f}", "step": f"{step_s:.3f}"}
        return _read(await self._ask("query_range", asked), MATRIX, "matrix")

    async def close(self) -> None:
        if self._session is not None:
            await self._session.close()

    async def _ask(self, path: str, asked: Mapping[str, str]) -> bytes:
        # Prometheus gives up when we do.
        form = {**asked, "timeout": f"{self._timeout_s:g}s"}
        try:
            status, body = await self._post(f"{self._url}/api/v1/{path}", form)
        except TimeoutError as e:
            raise NotAnsweredError(f"no answer within {self._timeout_s:g} s", reached=False) from e
        except (aiohttp.ClientError, ssl.SSLError, OSError) as e:
            log.debug("prometheus.unreachable", why=str(e)[:500])
            raise NotAnsweredError(f"not reachable ({type(e).__name__})", reached=False) from e
        if status != 200:
            log.debug("prometheus.refused", status=status, query=asked["query"][:2000], body=body[:500])
            meaning = f": {MEANINGS[status]}" if status in MEANINGS else ""
            raise NotAnsweredError(f"answered with HTTP status {status}{meaning}", reached=True)
        return body

    async def _post(self, url: str, form: Mapping[str, str]) -> tuple[int, bytes]:
        """The query stands in the body: it is longer than an address may be."""
        session = self._connected()
        timeout = aiohttp.ClientTimeout(total=self._timeout_s)
        headers = self._credentials()
        async with session.post(url, data=form, headers=headers, timeout=timeout, allow_redirects=False) as response:
            body = bytearray()
            async for chunk in response.content.iter_any():
                body += chunk
                if len(body) > self._backend.largest_mib * MIB:
                    response.close()
                    raise NotAnsweredError(f"the answer is larger than {self._backend.largest_mib} MiB", reached=True)
            return response.status, bytes(body)

    def _connected(self) -> aiohttp.ClientSession:
        """Made when first asked: a session belongs to the loop that runs."""
        if self._session is None:
            # As Go's clients do: a proxy from the environment is never asked for loopback addresses.
            trust_env = not _is_loopback(self._url)
            connector = aiohttp.TCPConnector(limit=0, ssl=_tls(self._backend))  # the source bounds what is open at once
            self._session = aiohttp.ClientSession(connector=connector, trust_env=trust_env)
        return self._session

    def _credentials(self) -> Mapping[str, str]:
        try:
            return self._read_credentials()
        except OSError as e:
            raise NotAnsweredError(f"its credentials cannot be read ({type(e).__name__})", reached=False) from e

    def _read_credentials(self) -> Mapping[str, str]:
        backend = self._backend
        if backend.token_file is not None:
            return {"Authorization": f"Bearer {backend.token_file.read_text().strip()}"}
        if backend.username_file is not None and backend.password_file is not None:
            name, password = (file.read_text().strip() for file in (backend.username_file, backend.password_file))
            return {"Authorization": f"Basic {b64encode(f'{name}:{password}'.encode()).decode()}"}
        return {}


def _read(body: bytes, decoder: msgspec.json.Decoder[_Body[S]], kind: str) -> Answer[S]:
    try:
        answer = decoder.decode(body)
    except msgspec.MsgspecError as e:
        log.debug("prometheus.garbled", why=str(e), body=body[:500])
        raise NotAnsweredError("the answer is not Prometheus's JSON", reached=True) from e
    if answer.status != "success" or answer.data.kind != kind:
        raise NotAnsweredError(f"the answer is no {kind}", reached=True)
    return Answer(answer.data.result, tuple(answer.warnings))


def _tls(backend: PrometheusBackend) -> ssl.SSLContext | bool:
    if urlsplit(backend.url).scheme != "https":
        return True
    context = ssl.create_default_context(cafile=backend.ca_file)
    if backend.certificate_file is not None:
        context.load_cert_chain(backend.certificate_file, backend.key_file)
    return context


def _is_loopback(url: str) -> bool:
    host = urlsplit(url).hostname or ""
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
