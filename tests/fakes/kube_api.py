"""The stand-in API server with faults that a test scripts."""

import asyncio
import re
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

from aiohttp import web
from aiohttp.typedefs import Handler

from slicewise.demo.kube_api import KubeApi
from slicewise.demo.kube_objects import Json, RefusedError
from slicewise.demo.kube_store import Collection, Store

#: What happens to a request instead of, or around, its answer.
Fault = Callable[[web.Request, Handler], Awaitable[web.StreamResponse]]


def refuses(status: int, message: str = "scripted") -> Fault:
    async def fault(request: web.Request, handle: Handler) -> web.StreamResponse:
        raise RefusedError(status, "Scripted", message)

    return fault


def says(text: str, status: int = 200) -> Fault:
    """An answer that is no JSON, as a proxy in the way would give it."""

    async def fault(request: web.Request, handle: Handler) -> web.StreamResponse:
        return web.Response(text=text, status=status)

    return fault


async def drops_the_request(request: web.Request, handle: Handler) -> web.StreamResponse:
    """Nothing happens and the connection breaks."""
    return _cut(request)


async def drops_the_answer(request: web.Request, handle: Handler) -> web.StreamResponse:
    """It happens, but nobody hears of it."""
    await handle(request)
    return _cut(request)


def waits_for(event: asyncio.Event, *, first: bool = True) -> Fault:
    """The request takes effect after (`first=False`: before) `event`; its answer comes after it."""

    async def fault(request: web.Request, handle: Handler) -> web.StreamResponse:
        if first:
            await event.wait()
            return await handle(request)
        answer = await handle(request)
        await event.wait()
        return answer

    return fault


def _cut(request: web.Request) -> web.StreamResponse:
    if request.transport is not None:
        request.transport.abort()
    return web.Response()


@dataclass(slots=True)
class _Rule:
    method: str
    path: re.Pattern[str]
    watches: bool
    fault: Fault
    times: int


@dataclass(slots=True)
class Faults:
    """Rules are tried in order; each serves `times` requests. `seen`: every request, as `METHOD path`."""

    rules: list[_Rule] = field(default_factory=list)
    seen: list[str] = field(default_factory=list)
    watching: set[asyncio.BaseTransport] = field(default_factory=set)

    def add(self, method: str, path: str, fault: Fault, *, times: int = 1, watches: bool = False) -> None:
        """`path`: regular expression, searched; `watches`: whether the rule is for watches or for everything else."""
        self.rules.append(_Rule(method, re.compile(path), watches, fault, times))

    def cut_watches(self) -> None:
        for connection in list(self.watching):
            assert isinstance(connection, asyncio.Transport)
            connection.abort()

    @web.middleware
    async def middleware(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        self.seen.append(f"{request.method} {request.path}")
        is_watch = "watch" in request.query
        for rule in self.rules:
            same = rule.method == request.method and rule.watches == is_watch and rule.path.search(request.path)
            if same and rule.times > 0:
                rule.times -= 1
                return await rule.fault(request, handler)
        connection = request.transport
        if not is_watch or connection is None:
            return await handler(request)
        self.watching.add(connection)
        try:
            return await handler(request)
        finally:
            self.watching.discard(connection)


@dataclass(slots=True)
class Cluster:
    """A server with its store, its faults, and the kubeconfig of it."""

    store: Store
    api: KubeApi
    faults: Faults
    kubeconfig: Path


@asynccontextmanager
async def cluster(folder: Path, now_s: Callable[[], float] = lambda: 0.0) -> AsyncIterator[Cluster]:
    store, faults = Store(now_s), Faults()
    async with KubeApi(store, middlewares=[faults.middleware]) as api:
        kubeconfig = folder / "kubeconfig"
        kubeconfig.write_text(api.kubeconfig())
        yield Cluster(store, api, faults, kubeconfig)


NODES = Collection("v1", "nodes")
LEASES = Collection("coordination.k8s.io/v1", "leases", "slicewise")
PODS = Collection("v1", "pods", "default")


def pod(name: str, *, annotations: dict[str, str] | None = None, resources: dict[str, str] | None = None) -> Json:
    main = {"name": "main", "image": "none", "resources": {"limits": resources or {}, "requests": resources or {}}}
    metadata = {"name": name, "namespace": "default", "annotations": annotations or {}}
    return {"metadata": metadata, "spec": {"containers": [main]}}


def node(name: str, annotations: dict[str, str] | None = None) -> Json:
    return {"metadata": {"name": name, "annotations": annotations or {}}, "spec": {}}


async def eventually(true: Callable[[], bool], within_s: float = 5.0) -> None:
    """Wait for what other tasks bring about. A time limit, not a timing: it is only reached by a failure."""
    async with asyncio.timeout(within_s):
        while not true():  # noqa: ASYNC110  # what is waited for are plain values, many of them without an event
            await asyncio.sleep(0.005)
