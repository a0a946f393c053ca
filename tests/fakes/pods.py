"""Pods of a test: who is where, and what their /metrics say."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from aiohttp import web

from scaler.signals.reading import Missing


@dataclass(frozen=True, slots=True)
class FakePod:
    name: str
    ip: str | None
    terminating: bool = False


class FakeDirectory:
    """`by_workload`: pods by (namespace, workload); a workload that is not there has none."""

    def __init__(self, by_workload: dict[tuple[str, str], Sequence[FakePod] | Missing]) -> None:
        self.by_workload = by_workload

    def pods(self, namespace: str, workload: str) -> Sequence[FakePod] | Missing:
        return self.by_workload.get((namespace, workload), ())


@dataclass(slots=True)
class Pages:
    """What each address of loopback answers. `status` by address; `hangs`: those that never answer."""

    port: int = 0
    by_ip: dict[str, str] = field(default_factory=dict)
    status: dict[str, int] = field(default_factory=dict)
    hangs: set[str] = field(default_factory=set)
    asked: list[tuple[str, str]] = field(default_factory=list)
    headers: list[dict[str, str]] = field(default_factory=list)

    async def answer(self, request: web.Request) -> web.Response:
        ip = request.url.host or ""
        self.asked.append((ip, request.path))
        self.headers.append(dict(request.headers))
        if ip in self.hangs:
            await asyncio.Event().wait()
        if ip not in self.by_ip:
            return web.Response(status=404)
        status = self.status.get(ip, 200)
        headers = {"Location": f"http://127.0.0.1:{self.port}/metrics"} if status in {301, 302} else {}
        return web.Response(text=self.by_ip[ip], status=status, headers=headers)


#: Addresses of loopback that answer, each a pod's.
IPS = ("127.0.0.1", "127.0.0.2", "127.0.0.3", "127.0.0.4")


@asynccontextmanager
async def serving_pages() -> AsyncIterator[Pages]:
    """One server, at one port of each of IPS."""
    pages = Pages()
    app = web.Application()
    app.router.add_get("/{path:.*}", pages.answer)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    for ip in IPS:
        await web.TCPSite(runner, ip, pages.port).start()
        pages.port = runner.addresses[0][1]
    try:
        yield pages
    finally:
        await runner.cleanup()
