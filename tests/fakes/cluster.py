"""The part of the Kubernetes API that the scaler watches, in memory: objects by collection, and faults."""

import asyncio
import json
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any

from slicewise.process.kube import KubeError

Json = dict[str, Any]


def scaled_object(name: str, reference: object, status: object = None, namespace: str = "agents") -> Json:
    return {
        "metadata": {"namespace": namespace, "name": name},
        "spec": {"scaleTargetRef": reference},
        "status": status,
    }


def workload(name: str, spec: object, status: object, namespace: str = "agents") -> Json:
    return {"metadata": {"namespace": namespace, "name": name}, "spec": spec, "status": status}


def chat(replicas: int) -> Json:
    return workload("chat", {"replicas": replicas}, {"readyReplicas": replicas})


class FakeCluster:
    """One Deployment `chat` behind the ScaledObjects `chat-so`, `another`, `chat` and `planner` of namespace `agents`.

    `down`: nothing is answered. `objects`: by path of their collection. `others`: answers by path, of what is not
    watched; 404 for the rest. `asked`: those paths.
    """

    def __init__(self, replicas: int = 3) -> None:
        self.objects: dict[str, list[Json]] = {
            "/apis/keda.sh/v1alpha1/scaledobjects": [
                scaled_object(name, {"name": "chat"}) for name in ("chat-so", "another", "chat", "planner")
            ],
            "/apis/apps/v1/deployments": [chat(replicas)],
            "/apis/apps/v1/statefulsets": [],
            "/api/v1/pods": [],
        }
        self.others: Mapping[str, Json] = {}
        self.asked: list[str] = []
        self.down = False
        self._told: dict[str, asyncio.Queue[Json]] = {path: asyncio.Queue() for path in self.objects}

    def scale(self, replicas: int) -> None:
        self.objects["/apis/apps/v1/deployments"] = [chat(replicas)]
        self.tell("/apis/apps/v1/deployments", "MODIFIED", chat(replicas))

    def tell(self, path: str, kind: str, obj: Json) -> None:
        """Those who watch `path` hear of a change."""
        meta = obj["metadata"] | {"resourceVersion": "2"}
        self._told[path].put_nowait({"type": kind, "object": obj | {"metadata": meta}})

    async def get(self, path: str, **query: str | int) -> Json:
        if self.down:
            raise KubeError(0, "Unreachable", "down")
        if path in self.objects:
            return {"metadata": {"resourceVersion": "1"}, "items": self.objects[path]}
        self.asked.append(path)
        if path not in self.others:
            raise KubeError(404, "NotFound", f"{path} not found")
        return self.others[path]

    @asynccontextmanager
    async def lines(
        self, path: str, *, quiet_s: float, query: Mapping[str, str | int]
    ) -> AsyncIterator[AsyncIterator[bytes]]:
        if self.down:
            raise KubeError(0, "Unreachable", "down")

        async def heard() -> AsyncIterator[bytes]:
            while True:
                event = await self._told[path].get()
                if event["type"] == "LOST":
                    raise KubeError(0, "Unreachable", "down")
                yield json.dumps(event).encode() + b"\n"

        yield heard()

    def lose(self, path: str) -> None:
        """The watch of `path` breaks, and cannot be opened again as long as `down`."""
        self._told[path].put_nowait({"type": "LOST", "object": {}})
