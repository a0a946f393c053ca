"""Prometheus's query API on loopback, with the answers and the faults that a test scripts."""

import json
import re
import sys
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs

Labels = dict[str, str]
CHAT: Labels = {"namespace": "agents", "workload": "chat"}


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, request: Any, client_address: Any) -> None:  # noqa: ANN401  # the base class's
        """Silent about clients that gave up waiting: some tests are about them."""
        if not isinstance(sys.exception(), ConnectionError):
            super().handle_error(request, client_address)


class FakePrometheus:
    """Answers a query with those of `answers` whose tag it asks for, labelled as PromQL would label them.

    A value may be a number or its text (of the workload `chat` in `agents`), or a list of (labels, value); a value may
    also be a native histogram (a dict). `refuses`: status of queries that ask for a tag. `warnings`: stand in every
    answer. `status`, `body`, `location`: instead of any answer. `slow`: an event to wait for before answering.
    """

    def __init__(self) -> None:
        self.answers: dict[str, object] = {}
        self.refuses: dict[str, int] = {}
        self.refused_namespace = ""
        self.warnings: list[str] = []
        self.status = 200
        self.location = ""
        self.body: bytes | None = None
        self.slow: threading.Event | None = None
        self.queries: list[Mapping[str, str]] = []
        self.headers: list[dict[str, str]] = []
        self.url = ""

    @contextmanager
    def serving(self) -> Iterator["FakePrometheus"]:
        fake = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                form = parse_qs(self.rfile.read(int(self.headers["Content-Length"])).decode())
                asked = {name: values[0] for name, values in form.items()}
                fake.queries.append(asked)
                fake.headers.append(dict(self.headers))
                if fake.slow is not None:
                    fake.slow.wait(10)
                status, body = fake.respond(asked)
                self.send_response(status)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(body)))
                if fake.location:
                    self.send_header("Location", fake.location)
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

    def respond(self, asked: Mapping[str, str]) -> tuple[int, bytes]:
        if self.body is not None:
            return self.status, self.body
        tags = set(re.findall(r'"part", "([^"]+)"', asked["query"]))
        refused = [status for tag, status in self.refuses.items() if tag in tags]
        if self.refused_namespace and re.search(rf"\b{self.refused_namespace}\b", asked["query"]):
            refused.append(503)
        if refused or self.status != 200:
            return (refused or [self.status])[0], b'{"status":"error","errorType":"x","error":"secret details"}'
        found = [(labels | {"part": tag}, value) for tag in sorted(tags) for labels, value in self._series(tag)]
        body = {"status": "success", "data": self._data(found, asked), "warnings": self.warnings}
        return 200, json.dumps(body).encode()

    def _series(self, tag: str) -> list[tuple[Labels, Any]]:
        found: Any = self.answers.get(tag, [])
        return [(CHAT | labels, value) for labels, value in found] if isinstance(found, list) else [(CHAT, found)]

    def _data(self, found: list[tuple[Labels, Any]], asked: Mapping[str, str]) -> dict[str, Any]:
        if "time" in asked:
            at_s = float(asked["time"])
            vector = [{"metric": labels, **_said(at_s, value)} for labels, value in found]
            return {"resultType": "vector", "result": vector}
        start_s, end_s, step_s = (float(asked[name]) for name in ("start", "end", "step"))
        instants = [start_s + n * step_s for n in range(int((end_s - start_s) / step_s) + 1)]
        matrix = [{"metric": labels, "values": [[at_s, str(value)] for at_s in instants]} for labels, value in found]
        return {"resultType": "matrix", "result": matrix}


def _said(at_s: float, value: object) -> dict[str, Any]:
    return {"histogram": [at_s, value]} if isinstance(value, dict) else {"value": [at_s, str(value)]}
