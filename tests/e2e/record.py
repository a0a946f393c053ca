"""Records what the real KEDA and the real kube-scheduler send: proxies that pass bytes on unread and tell who listens.

A `Shelf` keeps the first few messages of each kind, as they were on the wire, with the answer beside each; there is one
when SLICEWISE_RECORD names a folder, and tests/contract holds what was recorded once. A `Tape` (tape.py) keeps all.
"""

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent import futures
from contextlib import contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Final

import grpc
import httpx

from tests.e2e.parts.process import LOOPBACK

STREAMS: Final = frozenset({"StreamIsActive", "StreamMetricSpec"})
KEPT: Final = 5  # of each kind: the first may come before there is anything to say


now_s: Final = time.time  # noqa: TID251  # an edge: a recording has the wall clock's instants, as the scaler's log has


@dataclass(frozen=True, slots=True)
class Exchange:
    """One message and its answer. `at_s`: when it came. `error`: why there is no answer."""

    kind: str
    at_s: float
    request: bytes
    response: bytes = b""
    error: str = ""


Listener = Callable[[Exchange], None]


class Shelf:
    """Keeps the first few messages of each kind as files, beside those of earlier shelves in the same folder."""

    def __init__(self, folder: Path, suffix: str) -> None:
        self._folder = folder
        self._suffix = suffix
        self._kept: dict[str, set[bytes]] = {}
        self._lock = threading.Lock()
        folder.mkdir(parents=True, exist_ok=True)

    def __call__(self, exchange: Exchange) -> None:
        if exchange.error:
            return
        with self._lock:
            seen = self._kept.setdefault(exchange.kind, set())
            if exchange.request in seen or len(seen) >= KEPT:
                return
            seen.add(exchange.request)
            count = len(list(self._folder.glob(f"{exchange.kind}-*.request.*")))
            stem = self._folder / f"{exchange.kind}-{count + 1}"
        for part, message in (("request", exchange.request), ("response", exchange.response)):
            stem.with_suffix(f".{part}.{self._suffix}").write_bytes(self._written(message))

    def _written(self, message: bytes) -> bytes:
        return message.hex().encode() if self._suffix == "hex" else message


@contextmanager
def recording_http(upstream: str, listeners: Sequence[Listener]) -> Iterator[str]:
    """A proxy in front of the extender at `upstream`; yields its own URL."""
    client = httpx.Client(base_url=upstream, timeout=30.0)

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            body, at_s = self.rfile.read(int(self.headers["Content-Length"])), now_s()
            kind = self.path.strip("/").replace("/", "-")
            try:
                answer = client.post(self.path, content=body, headers={"Content-Type": self.headers["Content-Type"]})
                status, content = answer.status_code, answer.content
                _tell(listeners, Exchange(kind, at_s, body, content))
            except httpx.TransportError as e:
                status, content = 502, str(e).encode()
                _tell(listeners, Exchange(kind, at_s, body, error=str(e)))
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002  # the base class names it
            pass

    server = ThreadingHTTPServer((LOOPBACK, 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://{LOOPBACK}:{server.server_address[1]}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
        client.close()


def _tell(listeners: Sequence[Listener], exchange: Exchange) -> None:
    for listener in listeners:
        listener(exchange)


class _AnyCall(grpc.GenericRpcHandler):
    """Answers every method by asking `channel` the same, bytes for bytes."""

    def __init__(self, channel: grpc.Channel, listeners: Sequence[Listener]) -> None:
        self._channel = channel
        self._listeners = listeners

    def service(self, handler_call_details: grpc.HandlerCallDetails) -> "grpc.RpcMethodHandler[bytes, bytes]":
        method = handler_call_details.method
        kind = method.rpartition("/")[2]
        if kind in STREAMS:
            return grpc.unary_stream_rpc_method_handler(self._streamed(method, kind))
        return grpc.unary_unary_rpc_method_handler(self._asked(method, kind))

    def _asked(self, method: str, kind: str) -> Callable[[bytes, grpc.ServicerContext], bytes]:
        ask: grpc.UnaryUnaryMultiCallable[bytes, bytes] = self._channel.unary_unary(method)

        def call(request: bytes, context: grpc.ServicerContext) -> bytes:
            at_s = now_s()
            try:
                response = ask(request, timeout=30)
            except grpc.RpcError as e:
                _tell(self._listeners, Exchange(kind, at_s, request, error=f"{e.code().name}: {e.details()}"))
                context.abort(e.code(), e.details() or "")
                raise
            _tell(self._listeners, Exchange(kind, at_s, request, response))
            return response

        return call

    def _streamed(self, method: str, kind: str) -> Callable[[bytes, grpc.ServicerContext], Iterator[bytes]]:
        ask: grpc.UnaryStreamMultiCallable[bytes, bytes] = self._channel.unary_stream(method)

        def call(request: bytes, context: grpc.ServicerContext) -> Iterator[bytes]:
            answers = ask(request)

            def end() -> None:
                answers.cancel()

            context.add_callback(end)
            try:
                for response in answers:
                    _tell(self._listeners, Exchange(kind, now_s(), request, response))
                    yield response
            except grpc.RpcError as e:
                context.abort(e.code(), e.details() or "")

        return call


@contextmanager
def recording_grpc(upstream: str, listeners: Sequence[Listener]) -> Iterator[str]:
    """A proxy in front of the scaler at `upstream` (host:port); yields its own address."""
    with grpc.insecure_channel(upstream) as channel:
        server = grpc.server(futures.ThreadPoolExecutor(max_workers=32), handlers=[_AnyCall(channel, listeners)])
        port = server.add_insecure_port(f"{LOOPBACK}:0")
        server.start()
        try:
            yield f"{LOOPBACK}:{port}"
        finally:
            server.stop(grace=1).wait()
