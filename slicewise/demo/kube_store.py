"""The objects of a small stand-in API server: versions, history, selectors and Bindings as kube-apiserver has them.

No HTTP here. What is not said here is not checked: there is no schema, no admission and no authorisation.
"""

import asyncio
import copy
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Final

from slicewise.demo.kube_objects import Json, RefusedError, merged

#: Resource name in a path -> kind of its objects. The group stands in the path and comes back as apiVersion.
KINDS: Final = {
    "deployments": "Deployment",
    "events": "Event",
    "horizontalpodautoscalers": "HorizontalPodAutoscaler",
    "leases": "Lease",
    "namespaces": "Namespace",
    "nodes": "Node",
    "poddisruptionbudgets": "PodDisruptionBudget",
    "pods": "Pod",
    "scaledobjects": "ScaledObject",
    "statefulsets": "StatefulSet",
}


@dataclass(frozen=True, slots=True)
class Collection:
    """`namespace` is empty for all namespaces and for cluster-scoped objects."""

    api_version: str
    resource: str
    namespace: str = ""

    @property
    def kind(self) -> str:
        return KINDS[self.resource]

    def holds(self, obj: Json) -> bool:
        same = obj["apiVersion"] == self.api_version and obj["kind"] == self.kind
        return same and (not self.namespace or obj["metadata"].get("namespace") == self.namespace)


@dataclass(frozen=True, slots=True)
class Change:
    version: int
    before: Json | None  #: None: created
    after: Json | None  #: None: deleted


@dataclass(slots=True)
class Store:
    """Objects by (api version, kind, namespace, name), and the history that watches read.

    `now_s`: seconds since the epoch, for creation and deletion times. `history`: changes kept at least; a watch from
    an older version is answered 410. Objects are replaced, never changed, so readers may keep what they were given.
    """

    now_s: Callable[[], float]
    history: int = 20_000
    _objects: dict[tuple[str, str, str, str], Json] = field(default_factory=dict)
    _changes: list[Change] = field(default_factory=list)
    _oldest: int = 0  #: version before the first of _changes
    _wakers: set[asyncio.Event] = field(default_factory=set)

    @property
    def version(self) -> int:
        """Of the last change. Changes are numbered without gaps."""
        return self._oldest + len(self._changes)

    def get(self, where: Collection, name: str) -> Json:
        """Raises RefusedError 404."""
        found = self._objects.get((where.api_version, where.kind, where.namespace, name))
        if found is None:
            raise RefusedError(404, "NotFound", f'{where.resource} "{name}" not found')
        return found

    def objects(self, where: Collection, selected: Callable[[Json], bool] = lambda _: True) -> list[Json]:
        """Sorted by namespace and name, as etcd's keys are."""
        found = ((key, obj) for key, obj in self._objects.items() if where.holds(obj) and selected(obj))
        return [obj for _, obj in sorted(found, key=lambda pair: pair[0])]

    def create(self, where: Collection, obj: Json) -> Json:
        name = obj.get("metadata", {}).get("name")
        if not name:
            raise RefusedError(422, "Invalid", f"{where.kind}: metadata.name: Required value: name is required")
        if (where.api_version, where.kind, where.namespace, name) in self._objects:
            raise RefusedError(409, "AlreadyExists", f'{where.resource} "{name}" already exists')
        new = copy.deepcopy(obj)
        new["apiVersion"], new["kind"] = where.api_version, where.kind
        metadata = new["metadata"]
        if where.namespace:
            metadata["namespace"] = where.namespace
        number = self.version + 1
        metadata.setdefault("uid", f"{number:08x}-0000-4000-8000-{number:012x}")
        metadata["creationTimestamp"] = self._time()
        if where.resource == "pods":
            new.setdefault("status", {}).setdefault("phase", "Pending")
        return self._store(new, None)

    def replace(self, where: Collection, name: str, obj: Json) -> Json:
        """Refuses (409) an object whose resourceVersion is not the stored one; an object without one overwrites."""
        old = self.get(where, name)
        _refuse_stale(where, old, obj)
        return self._store(_with_identity_of(old, copy.deepcopy(obj)), old)

    def merge_patch(self, where: Collection, name: str, patch: Json) -> Json:
        old = self.get(where, name)
        _refuse_stale(where, old, patch)
        return self._store(_with_identity_of(old, merged(old, patch)), old)

    def delete(self, where: Collection, name: str, *, grace_s: float = 0.0) -> Json:
        """At once, or (a bound pod, with grace) by a deletionTimestamp which its node answers by a second delete."""
        old = self.get(where, name)
        if grace_s > 0 and where.resource == "pods" and old.get("spec", {}).get("nodeName"):
            marks = {"deletionTimestamp": self._time(), "deletionGracePeriodSeconds": grace_s}
            return self._store(merged(old, {"metadata": marks}), old)
        del self._objects[where.api_version, where.kind, where.namespace, name]
        last = merged(old, {"metadata": {"resourceVersion": str(self.version + 1)}})
        self._record(last, None)
        return last

    def bind(self, where: Collection, name: str, binding: Json) -> Json:
        """Set the pod's node and merge the Binding's annotations and labels into it: one write.

        Source: kubernetes/kubernetes pkg/registry/core/pod/storage/storage.go, assignPod and setPodNodeAndMetadata.
        """
        old = self.get(where, name)
        metadata, node = binding.get("metadata", {}), binding.get("target", {}).get("name")
        if not node:
            raise RefusedError(422, "Invalid", "Binding: target.name: Required value")
        if (uid := metadata.get("uid")) and uid != old["metadata"]["uid"]:
            there = old["metadata"]["uid"]
            raise _conflict(
                where, name, f"Precondition failed: UID in precondition: {uid}, UID in object meta: {there}"
            )
        if old["metadata"].get("deletionTimestamp"):
            raise _conflict(where, name, f"pod {name} is being deleted, cannot be assigned to a host")
        if bound := old.get("spec", {}).get("nodeName"):
            raise _conflict(where, name, f'pod {name} is already assigned to node "{bound}"')
        if old.get("spec", {}).get("schedulingGates"):
            raise _conflict(where, name, f"pod {name} has non-empty .spec.schedulingGates")
        added = {key: metadata[key] for key in ("annotations", "labels") if metadata.get(key)}
        scheduled = {"type": "PodScheduled", "status": "True", "lastTransitionTime": self._time()}
        others = [c for c in old.get("status", {}).get("conditions") or [] if c["type"] != "PodScheduled"]
        patch = {"metadata": added, "spec": {"nodeName": node}, "status": {"conditions": [*others, scheduled]}}
        self._store(merged(old, patch), old)
        return {"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "code": 201}

    def compact(self) -> None:
        """Forget all history: every watch from an older version is answered 410."""
        version = self.version
        self._changes.clear()
        self._oldest = version

    def changes_after(self, version: int) -> list[Change]:
        """Raises RefusedError 410 when the history does not reach back so far."""
        if version < self._oldest:
            raise RefusedError(410, "Expired", f"too old resource version: {version} ({self._oldest})")
        return self._changes[version - self._oldest :]

    def waker(self) -> asyncio.Event:
        """An event that each change sets; give it back with `hush`."""
        event = asyncio.Event()
        self._wakers.add(event)
        return event

    def hush(self, waker: asyncio.Event) -> None:
        self._wakers.discard(waker)

    def _store(self, new: Json, old: Json | None) -> Json:
        metadata = new["metadata"]
        if old is not None and {**new, "metadata": {**metadata, **_version_of(old)}} == old:
            return old  # a write that changes nothing makes no version and wakes no watch, as in kube-apiserver
        metadata["resourceVersion"] = str(self.version + 1)
        self._objects[new["apiVersion"], new["kind"], metadata.get("namespace", ""), metadata["name"]] = new
        self._record(old, new)
        return new

    def _record(self, before: Json | None, after: Json | None) -> None:
        self._changes.append(Change(self.version + 1, before, after))
        if len(self._changes) > 2 * self.history:
            del self._changes[: self.history]
            self._oldest += self.history
        for waker in self._wakers:
            waker.set()

    def _time(self) -> str:
        return datetime.fromtimestamp(self.now_s(), UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _refuse_stale(where: Collection, old: Json, sent: Json) -> None:
    version = sent.get("metadata", {}).get("resourceVersion")
    if version and version != old["metadata"]["resourceVersion"]:
        why = "the object has been modified; please apply your changes to the latest version and try again"
        raise _conflict(where, old["metadata"]["name"], why)


def _conflict(where: Collection, name: str, why: str) -> RefusedError:
    return RefusedError(409, "Conflict", f'Operation cannot be fulfilled on {where.resource} "{name}": {why}')


def _version_of(obj: Json) -> Json:
    return {"resourceVersion": obj["metadata"]["resourceVersion"]}


def _with_identity_of(old: Json, new: Json) -> Json:
    """What no write can change."""
    kept = {k: old["metadata"][k] for k in _IDENTITY if k in old["metadata"]}
    metadata = {k: v for k, v in new.get("metadata", {}).items() if k not in _IDENTITY}
    return {**new, "apiVersion": old["apiVersion"], "kind": old["kind"], "metadata": {**metadata, **kept}}


_IDENTITY: Final = ("name", "namespace", "uid", "creationTimestamp", "deletionTimestamp", "deletionGracePeriodSeconds")
