"""Records what the real KEDA and the real kube-scheduler send: proxies that pass bytes on unread and keep a copy.

Started when SLICEWISE_RECORD names a folder. The first few messages of each kind are kept, as they were on the wire,
with the answer beside each. tests/contract holds what was recorded once.
"""

import threading
from collections.abc import Callable, Iterator
from concurrent import futures
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Final

import grpc
import httpx

from tests.e2e.parts.process import LOOPBACK

STREAMS: Final = frozenset({"StreamIsActive", "StreamMetricSpec"})
KEPT: Final = 5  # of each kind: the first may come before there is anything to say


class Shelf:
    """Keeps the first few messages of each kind as files, beside those of earlier shelves in the same folder."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._kept: dict[str, set[bytes]] = {}
        self._lock = threading.Lock()
        folder.mkdir(parents=True, exist_ok=True)

    def keep(self, kind: str, suffix: str, request: bytes, response: bytes) -> None:
        with self._lock:
            seen = self._kept.setdefault(kind, set())
            if request in seen or len(seen) >= KEPT:
                return
            seen.add(request)
            stem = self._folder / f"{kind}-{len(list(self._folder.glob(f'{kind}-*.request.*'))) + 1}"
        stem.with_suffix(f".request.{suffix}").write_bytes(request)
        stem.with_suffix(f".response.{suffix}").write_bytes(response)


@contextmanager
def recording_http(upstream: str, shelf: Shelf) -> Iterator[str]:
    """A proxy in front of the extender at `upstream`; yields its own URL."""
    client = httpx.Client(base_url=upstream, timeout=30.0)

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            try:
                answer = client.post(self.path, content=body, headers={"Content-Type": self.headers["Content-Type"]})
                status, content = answer.status_code, answer.content
                shelf.keep(self.path.strip("/").replace("/", "-"), "json", body, content)
            except httpx.TransportError as e:
                status, content = 502, str(e).encode()
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


class _AnyCall(grpc.GenericRpcHandler):
    """Answers every method by asking `channel` the same, bytes for bytes."""

    def __init__(self, channel: grpc.Channel, shelf: Shelf) -> None:
        self._channel = channel
        self._shelf = shelf

    def service(self, handler_call_details: grpc.HandlerCallDetails) -> "grpc.RpcMethodHandler[bytes, bytes]":
        method = handler_call_details.method
        kind = method.rpartition("/")[2]
        if kind in STREAMS:
            return grpc.unary_stream_rpc_method_handler(self._streamed(method, kind))
        return grpc.unary_unary_rpc_method_handler(self._asked(method, kind))

    def _asked(self, method: str, kind: str) -> Callable[[bytes, grpc.ServicerContext], bytes]:
        ask: grpc.UnaryUnaryMultiCallable[bytes, bytes] = self._channel.unary_unary(method)

        def call(request: bytes, context: grpc.ServicerContext) -> bytes:
            try:
                response = ask(request, timeout=30)
            except grpc.RpcError as e:
                context.abort(e.code(), e.details() or "")
                raise
            self._shelf.keep(kind, "hex", request.hex().encode(), response.hex().encode())
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
                    self._shelf.keep(kind, "hex", request.hex().encode(), response.hex().encode())
                    yield response
            except grpc.RpcError as e:
                context.abort(e.code(), e.details() or "")

        return call


@contextmanager
def recording_grpc(upstream: str, shelf: Shelf) -> Iterator[str]:
    """A proxy in front of the scaler at `upstream` (host:port); yields its own address."""
    with grpc.insecure_channel(upstream) as channel:
        server = grpc.server(futures.ThreadPoolExecutor(max_workers=32), handlers=[_AnyCall(channel, shelf)])
        port = server.add_insecure_port(f"{LOOPBACK}:0")
        server.start()
        try:
            yield f"{LOOPBACK}:{port}"
        finally:
            server.stop(grace=1).wait()
