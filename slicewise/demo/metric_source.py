"""A stand-in for Prometheus: its HTTP query API over what it has scraped from the simulated engines.

It knows the queries that the scaler's preset writes and no others: anything else is answered as Prometheus answers a
query that it can't parse, so that a changed preset shows at once.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Self

from aiohttp import web

Labels = Mapping[str, str]
Vector = Sequence[tuple[Labels, float]]
Answer = Callable[[], Vector]


@dataclass(frozen=True, slots=True)
class UnknownQueryError(Exception):
    query: str


class MetricSource:
    """`async with MetricSource(now_s, answer) as source:` serves on 127.0.0.1, at `source.url`.

    `answer`: what the text of a query yields now; raises UnknownQueryError. `now_s`: seconds since the epoch.
    """

    def __init__(self, now_s: Callable[[], float], answer: Callable[[str], Vector]) -> None:
        self._now_s = now_s
        self._answer = answer
        self.url = ""
        self.queries = 0
        app = web.Application()
        app.router.add_route("*", "/api/v1/query", self._query)
        app.router.add_get("/-/ready", _ready)
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)

    async def __aenter__(self) -> Self:
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", 0).start()
        self.url = f"http://127.0.0.1:{self._runner.addresses[0][1]}"
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._runner.cleanup()

    async def _query(self, request: web.Request) -> web.Response:
        asked = request.query if request.method == "GET" else await request.post()
        query = str(asked.get("query", ""))
        self.queries += 1
        try:
            vector = self._answer(query)
        except UnknownQueryError:
            error = f"the stand-in for Prometheus knows no such query: {query}"
            return web.json_response({"status": "error", "errorType": "bad_data", "error": error}, status=400)
        at_s = float(str(asked.get("time") or self._now_s()))
        result = [{"metric": dict(labels), "value": [at_s, f"{value:.17g}"]} for labels, value in vector]
        return web.json_response({"status": "success", "data": {"resultType": "vector", "result": result}})


async def _ready(_: web.Request) -> web.Response:
    return web.Response(text="Prometheus Server is Ready.\n")
