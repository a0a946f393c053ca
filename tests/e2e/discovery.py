"""An HTTP service discovery for Prometheus, as a cluster's pod discovery would answer: which pod is scraped where."""

import json
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import urlsplit

from tests.e2e.parts.process import LOOPBACK


class Discovery:
    """`pods`: the URL of each pod's engine, by name; a test may exchange the mapping at any time."""

    def __init__(self, namespace: str) -> None:
        self.pods: Mapping[str, str] = {}
        self._namespace = namespace
        discovery = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                self.send_response(200)
                self.send_header("Content-Type", "application/json")
                self.end_headers()
                self.wfile.write(json.dumps(discovery.targets()).encode())

            def log_message(self, format: str, *args: object) -> None:  # noqa: A002  # the base class names it
                pass

        self._server = ThreadingHTTPServer((LOOPBACK, 0), Handler)
        self._server.daemon_threads = True
        self.url = f"http://{LOOPBACK}:{self._server.server_address[1]}/targets"

    def targets(self) -> list[dict[str, object]]:
        return [
            {"targets": [urlsplit(url).netloc], "labels": {"namespace": self._namespace, "pod": pod}}
            for pod, url in self.pods.items()
        ]

    @contextmanager
    def serving(self) -> Iterator["Discovery"]:
        thread = threading.Thread(target=self._server.serve_forever)
        thread.start()
        try:
            yield self
        finally:
            self._server.shutdown()
            thread.join()
            self._server.server_close()
