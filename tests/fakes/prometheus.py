"""Prometheus's query API on loopback, with the answers and the faults that a test scripts."""

import json
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, request: Any, client_address: Any) -> None:  # noqa: ANN401  # the base class's
        """Silent about clients that gave up waiting: some tests are about them."""
        if not isinstance(sys.exception(), ConnectionError):
            super().handle_error(request, client_address)


class FakePrometheus:
    """Answers each query by the first key of `answers` that the query contains; no key, no series.

    A value may be a number or its text (one series), a list of those (as many series), or a dict (the whole body).
    `status`, `body`: instead of any answer. `slow`: an event to wait for before answering.
    """

    def __init__(self) -> None:
        self.answers: dict[str, object] = {}
        self.status = 200
        self.body: bytes | None = None
        self.slow: threading.Event | None = None
        self.queries: list[tuple[str, str]] = []
        self.headers: list[dict[str, str]] = []
        self.url = ""

    @contextmanager
    def serving(self) -> Iterator["FakePrometheus"]:
        fake = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                asked = parse_qs(urlsplit(self.path).query)
                fake.queries.append((asked["query"][0], asked["time"][0]))
                fake.headers.append(dict(self.headers))
                if fake.slow is not None:
                    fake.slow.wait(10)
                body = fake.body if fake.body is not None else json.dumps(fake.answer(asked["query"][0])).encode()
                self.send_response(fake.status)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, format: str, *args: object) -> None:  # noqa: A002  # the base class names it
                pass

        server = _Server(("127.0.0.1", 0), Handler)
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        self.url = f"http://127.0.0.1:{server.server_address[1]}"
        try:
            yield self
        finally:
            if self.slow is not None:
                self.slow.set()
            server.shutdown()
            server.server_close()
            thread.join()

    def answer(self, query: str) -> object:
        found: object = next((value for key, value in self.answers.items() if key in query), [])
        if isinstance(found, dict):
            return found
        values = found if isinstance(found, list) else [found]
        series = [{"metric": {"n": str(i)}, "value": [0, str(value)]} for i, value in enumerate(values)]
        return {"status": "success", "data": {"resultType": "vector", "result": series}}
