"""A small API server over a Store: the part of the Kubernetes REST API that Slicewise's programs use, on loopback.

It is a stand-in: for the demo, and for tests that need no real control plane.
"""

import asyncio
import contextlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Self

from aiohttp import web
from aiohttp.typedefs import Handler, Middleware

from slicewise.demo.kube_objects import Json, RefusedError, merged, selector
from slicewise.demo.kube_store import KINDS, Change, Collection, Store

Selected = Callable[[Json], bool]
BOOKMARK_S: Final = 60.0  #: a silent watch is told the newest version so often, as kube-apiserver does


@dataclass(frozen=True, slots=True)
class _Target:
    where: Collection
    name: str
    sub: str

    @classmethod
    def of(cls, path: str) -> Self:
        """`/api/v1/...` or `/apis/GROUP/VERSION/...`, with or without `namespaces/NS`. Raises RefusedError 404."""
        parts = path.strip("/").split("/")
        version, rest = (parts[1:2], parts[2:]) if parts[0] == "api" else (parts[1:3], parts[3:])
        namespace = ""
        if len(rest) > 2 and rest[0] == "namespaces":
            namespace, rest = rest[1], rest[2:]
        resource, name, sub = (*rest, "", "", "")[:3]
        if parts[0] not in {"api", "apis"} or resource not in KINDS or len(rest) > 3:
            raise RefusedError(404, "NotFound", f"the server could not find the requested resource: {path}")
        return cls(Collection("/".join(version), resource, namespace), name, sub)


class KubeApi:
    """`async with KubeApi(store) as api:` serves on 127.0.0.1; `api.url` is where."""

    def __init__(self, store: Store, *, port: int = 0, middlewares: Sequence[Middleware] = ()) -> None:
        self.store = store
        self.url = ""
        self._port = port
        self._app = web.Application(middlewares=[_refusals, *middlewares], client_max_size=8 << 20)
        self._app.router.add_route("*", "/{path:.*}", self._answer)

    async def __aenter__(self) -> Self:
        self._runner = web.AppRunner(self._app, access_log=None, shutdown_timeout=0.1)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", self._port).start()
        self.url = f"http://127.0.0.1:{self._runner.addresses[0][1]}"
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._runner.cleanup()

    def kubeconfig(self) -> str:
        """The text of a kubeconfig for this server."""
        clusters = [{"name": "stand-in", "cluster": {"server": self.url}}]
        contexts = [{"name": "stand-in", "context": {"cluster": "stand-in", "user": "anyone"}}]
        users: list[Json] = [{"name": "anyone", "user": {}}]
        config = {"clusters": clusters, "contexts": contexts, "users": users, "current-context": "stand-in"}
        return json.dumps({"apiVersion": "v1", "kind": "Config", **config})

    async def _answer(self, request: web.Request) -> web.StreamResponse:
        target = _Target.of(request.path)
        query = request.query
        selected = selector(query.get("labelSelector", ""), query.get("fieldSelector", ""))
        if request.method == "GET" and not target.name:
            if query.get("watch") in {"true", "1"}:
                return await self._watch(request, target.where, selected)
            return web.json_response(self._list(target.where, selected, query))
        if request.method == "GET" and not target.sub:
            return web.json_response(self.store.get(target.where, target.name))
        body = await _body(request)
        made = request.method == "POST"
        return web.json_response(self._write(request.method, target, body), status=201 if made else 200)

    def _write(self, method: str, target: _Target, body: Json) -> Json:
        where, name, store = target.where, target.name, self.store
        if (method, where.resource, target.sub) == ("POST", "pods", "binding"):
            return store.bind(where, name, body)
        if target.sub == "scale":
            return self._scale(method, target, body)
        if method == "POST" and not name:
            return store.create(where, body)
        if method == "PATCH":
            return store.merge_patch(where, name, body)
        if method == "PUT":
            return store.replace(where, name, body)
        if method == "DELETE":
            return store.delete(where, name, grace_s=float(body.get("gracePeriodSeconds") or 0))
        raise RefusedError(405, "MethodNotAllowed", f"{method} is not served here")

    def _scale(self, method: str, target: _Target, body: Json) -> Json:
        """The Scale of a workload: spec.replicas of it, by another door."""
        obj = self.store.get(target.where, target.name)
        if method in {"PATCH", "PUT"}:
            replicas = body.get("spec", {}).get("replicas", 0)
            obj = self.store.merge_patch(target.where, target.name, {"spec": {"replicas": replicas}})
        metadata = {
            k: obj["metadata"][k] for k in ("name", "namespace", "uid", "resourceVersion") if k in obj["metadata"]
        }
        wanted = {"replicas": obj.get("spec", {}).get("replicas", 1)}
        seen = {"replicas": obj.get("status", {}).get("replicas", 0)}
        return {"apiVersion": "autoscaling/v1", "kind": "Scale", "metadata": metadata, "spec": wanted, "status": seen}

    def _list(self, where: Collection, selected: Selected, query: Mapping[str, str]) -> Json:
        """A page. A continue token names the version of the first page and where the next one begins.

        Pages are read from the present, not from a snapshot; a token from before the history is answered 410.
        """
        version, _, skip = query.get("continue", "").partition(":")
        if version:
            self.store.changes_after(int(version))
        found = self.store.objects(where, selected)
        start, limit = int(skip or 0), int(query.get("limit", 0)) or len(found)
        metadata = {"resourceVersion": version or str(self.store.version)}
        if start + limit < len(found):
            metadata["continue"] = f"{metadata['resourceVersion']}:{start + limit}"
        page = found[start : start + limit]
        return {"kind": f"{where.kind}List", "apiVersion": where.api_version, "metadata": metadata, "items": page}

    async def _watch(self, request: web.Request, where: Collection, selected: Selected) -> web.StreamResponse:
        version = int(request.query.get("resourceVersion") or self.store.version)
        response = web.StreamResponse(headers={"Content-Type": "application/json"})
        waker = self.store.waker()
        try:
            with contextlib.suppress(ConnectionError):  # the client left
                await response.prepare(request)
                life_s = float(request.query.get("timeoutSeconds") or 1800)
                with contextlib.suppress(TimeoutError):  # the end that the client asked for
                    await asyncio.wait_for(self._tell(response, where, selected, version, waker), life_s)
        finally:
            self.store.hush(waker)
        return response

    async def _tell(
        self, to: web.StreamResponse, where: Collection, selected: Selected, version: int, waker: asyncio.Event
    ) -> None:
        """Changes as they come, a bookmark when none come, and an error when the history does not reach back."""
        while True:
            waker.clear()
            try:
                changes = self.store.changes_after(version)
            except RefusedError as e:
                await to.write(_line({"type": "ERROR", "object": e.status()}))
                return
            for change in changes:
                if event := _event(change, where, selected):
                    await to.write(_line(event))
                version = change.version
            try:
                await asyncio.wait_for(waker.wait(), BOOKMARK_S)
            except TimeoutError:
                await to.write(_line(_bookmark(where, version)))


def _line(event: Json) -> bytes:
    return json.dumps(event).encode() + b"\n"


def _event(change: Change, where: Collection, selected: Selected) -> Json | None:
    """What a watch of the selected objects hears of a change: an object may enter or leave the selection."""
    some = change.after or change.before
    if some is None or not where.holds(some):
        return None
    was = change.before is not None and selected(change.before)
    is_now = change.after is not None and selected(change.after)
    if is_now:
        return {"type": "MODIFIED" if was else "ADDED", "object": change.after}
    if was and change.before is not None:
        last = merged(change.before, {"metadata": {"resourceVersion": str(change.version)}})
        return {"type": "DELETED", "object": last}
    return None


def _bookmark(where: Collection, version: int) -> Json:
    obj = {"kind": where.kind, "apiVersion": where.api_version, "metadata": {"resourceVersion": str(version)}}
    return {"type": "BOOKMARK", "object": obj}


async def _body(request: web.Request) -> Json:
    text = await request.read()
    try:
        found = json.loads(text or b"{}")
    except ValueError as e:
        raise RefusedError(400, "BadRequest", f"the body is not JSON: {e}") from e
    if not isinstance(found, dict):
        raise RefusedError(400, "BadRequest", "the body is not a JSON object")
    return found


@web.middleware
async def _refusals(request: web.Request, handler: Handler) -> web.StreamResponse:
    try:
        return await handler(request)
    except RefusedError as e:
        return web.json_response(e.status(), status=e.code)
