"""A real extender on loopback over the stand-in API server, and a kube-scheduler's way of talking to it."""

import asyncio
import io
import json
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from itertools import combinations
from pathlib import Path
from typing import Any, Self

import aiohttp

from extender.__main__ import Urls, running
from extender.agent.fake import FakeNvml
from extender.agent.inventory import Chosen, document, encoded
from extender.placement.allocation import ALLOCATION, Allocation, MigSlice, MpsShare, WholeGpu
from extender.placement.demand import SLICE
from extender.placement.model import INVENTORY
from extender.settings import Settings
from slicewise.demo.kube_objects import Json
from slicewise.process.lease import micro_time
from tests.fakes.kube_api import LEASES, NODES, PODS, Cluster, cluster, node, pod

NOW_S = 1_800_000_000.0
PODS_PATH = "/api/v1/namespaces/default/pods"


@dataclass
class World:
    """`now_s`: the time by everybody's clock."""

    there: Cluster
    now_s: float = NOW_S
    settings: dict[str, Any] = field(default_factory=dict)

    def gpus(self, name: str, fake: str, mps: str = "") -> None:
        """A node with GPUs and a heartbeat."""
        text = encoded(document(FakeNvml.parse(fake, name).gpus(), shared=Chosen.parse(mps, "")))
        self.there.store.create(NODES, node(name, {INVENTORY: text}))
        self.there.store.create(LEASES, {"metadata": {"name": name}, "spec": {"renewTime": micro_time(self.now_s)}})

    def beat(self, name: str) -> None:
        self.there.store.merge_patch(LEASES, name, {"spec": {"renewTime": micro_time(self.now_s)}})

    def pod(self, name: str, count: int = 1, **annotations: str) -> Json:
        ours = {f"slicewise.dev/{k.replace('_', '-')}": v for k, v in annotations.items()}
        return self.there.store.create(
            PODS, pod(name, annotations=ours, resources={SLICE: str(count)} if count else {})
        )

    def seen(self, name: str) -> Json:
        return self.there.store.get(PODS, name)

    def allocation(self, name: str) -> Allocation:
        return Allocation.decode(self.seen(name)["metadata"]["annotations"][ALLOCATION])

    @asynccontextmanager
    async def extender(self, *, ready: bool = True) -> AsyncIterator["Scheduler"]:
        given = {"port": 0, "metrics_port": 0, "kubeconfig": self.there.kubeconfig, **self.settings}
        async with AsyncExitStack() as stack:
            urls = await stack.enter_async_context(running(Settings(**given), asyncio.Event(), wall=lambda: self.now_s))
            scheduler = await stack.enter_async_context(Scheduler(urls))
            if ready:
                await scheduler.until_ready()
            yield scheduler


@asynccontextmanager
async def world(folder: Path) -> AsyncIterator[World]:
    async with cluster(folder, lambda: NOW_S) as there:
        yield World(there)


@dataclass(frozen=True)
class Answer:
    status: int
    content_type: str
    content: bytes

    @property
    def text(self) -> str:
        return self.content.decode()

    def json(self) -> Any:  # noqa: ANN401  # JSON
        return json.loads(self.content)


class Scheduler:
    """Speaks extender/v1 as kube-scheduler does, and retries nothing."""

    def __init__(self, urls: Urls) -> None:
        self.urls = urls

    async def __aenter__(self) -> Self:
        connector = aiohttp.TCPConnector(limit=50)
        self._http = aiohttp.ClientSession(connector=connector, timeout=aiohttp.ClientTimeout(total=30))
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._http.close()

    async def send(self, method: str, url: str, content: Any = None) -> Answer:  # noqa: ANN401  # as aiohttp's
        body = io.BytesIO(content) if isinstance(content, bytes) else content
        async with self._http.request(method, url, data=body) as answer:
            return Answer(answer.status, answer.content_type, await answer.read())

    async def get(self, path: str) -> Answer:
        """From where health and metrics are."""
        return await self.send("GET", f"{self.urls.metrics}{path}")

    async def until_ready(self) -> None:
        async def ready() -> bool:
            return (await self.get("/readyz")).status == 200

        await until(ready)

    async def until_fits(self, of: Json, node: str) -> None:
        async def fits() -> bool:
            return bool((await self.filter(of, node))["NodeNames"] == [node])

        await until(fits)

    async def until_said(self, words: str) -> None:
        """By the metrics."""

        async def said() -> bool:
            return words in await self.metrics()

        await until(said)

    async def post(self, verb: str, body: object) -> Answer:
        return await self.send("POST", f"{self.urls.verbs}/{verb}", json.dumps(body).encode())

    async def ask(self, verb: str, body: object) -> Any:  # noqa: ANN401  # JSON
        response = await self.post(verb, body)
        assert (response.status, response.content_type) == (200, "application/json"), response.text
        return response.json()

    async def filter(self, of: Json, *names: str) -> Json:
        found: Json = await self.ask("filter", {"Pod": of, "Nodes": None, "NodeNames": list(names)})
        return found

    async def prioritize(self, of: Json, *names: str) -> dict[str, int]:
        found = await self.ask("prioritize", {"Pod": of, "Nodes": None, "NodeNames": list(names)})
        return {one["Host"]: one["Score"] for one in found}

    async def bind(self, of: Json, node: str) -> str:
        """The error; empty when the pod is bound."""
        meta = of["metadata"]
        args = {"PodName": meta["name"], "PodNamespace": "default", "PodUID": meta["uid"], "Node": node}
        found = await self.ask("bind", args)
        assert list(found) == ["Error"]
        return str(found["Error"])

    async def metrics(self) -> str:
        return (await self.get("/metrics")).text

    async def state(self, query: str = "") -> Json:
        found: Json = (await self.send("GET", f"{self.urls.verbs}/debug/state{query}")).json()
        return found


async def until(true: Callable[[], Awaitable[bool]], within_s: float = 10.0) -> None:
    """Wait for what can only be asked for. A time limit, not a timing: it is only reached by a failure."""
    async with asyncio.timeout(within_s):
        while not await true():  # noqa: ASYNC110  # the extender is asked over HTTP
            await asyncio.sleep(0.01)


def breaches(pods: Iterable[Json]) -> list[str]:
    """What is given twice, judged from the API's objects alone, by arithmetic that the extender does not share."""
    found: list[str] = []
    slices: dict[tuple[str, str], list[tuple[str, int, int]]] = {}
    shares: dict[tuple[str, str], Counter[str]] = {}
    whole: Counter[tuple[str, str]] = Counter()
    for one in pods:
        text, where = one["metadata"]["annotations"].get(ALLOCATION), one["spec"].get("nodeName")
        if text is None or where is None:
            found += [f"{one['metadata']['name']} is bound without a place"] if where else []
            continue
        for grant in Allocation.decode(text).grants():
            key = (where, grant.uuid)
            match grant:
                case MigSlice(_, _, start, size):
                    slices.setdefault(key, []).append((one["metadata"]["name"], start, start + size))
                case MpsShare(_, mib, pct, _):
                    shares.setdefault(key, Counter()).update(mib=mib, pct=pct)
                case WholeGpu():
                    whole[key] += 1
    for key, taken in slices.items():
        found += [
            f"{a[0]} and {b[0]} overlap on {key}" for a, b in combinations(taken, 2) if a[1] < b[2] and b[1] < a[2]
        ]
    found += [f"{key} gives {sums['pct']} %" for key, sums in shares.items() if sums["pct"] > 100]
    found += [f"{key} is given whole {n} times" for key, n in whole.items() if n > 1]
    return found
