"""Readings from the Kubernetes API: what a ScaledObject scales, how many replicas it has and how many are ready.

ScaledObjects, Deployments, StatefulSets and, where pods are scraped, Pods are watched: a tick reads them from memory,
however many there are. Workloads of other kinds are asked for by their scale subresource, once a tick each.
"""

import asyncio
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Generic, TypeVar

import structlog

from scaler.clock import Clock
from scaler.signals.reading import Missing, Reading, ReadingName, reading_of
from scaler.sources.base import Asks, Found, Subject
from slicewise.process.kube import KubeError
from slicewise.process.watch import Patience, Progress, Reader, watch

log: structlog.typing.FilteringBoundLogger = structlog.get_logger()

Json = Mapping[str, Any]

API: Final = "Kubernetes API"
SEGMENT: Final = r"[a-z0-9]([-.a-z0-9]*[a-z0-9])?"
PROVIDES: Final = frozenset({ReadingName.REPLICAS, ReadingName.READY, ReadingName.PENDING, ReadingName.TERMINATING})

RESOURCES: Final = {"Deployment": "deployments", "StatefulSet": "statefulsets", "ReplicaSet": "replicasets"}
"""For a ScaledObject whose status KEDA has not written yet."""

SCALED_OBJECTS: Final = "/apis/keda.sh/v1alpha1/scaledobjects"
WORKLOADS: Final = ("/apis/apps/v1/deployments", "/apis/apps/v1/statefulsets")
PODS: Final = "/api/v1/pods"
RUNNING: Final = {"fieldSelector": "status.phase!=Succeeded,status.phase!=Failed"}

AT_ONCE: Final = 8
"""Requests at a time for workloads of other kinds."""


@dataclass(frozen=True, slots=True)
class Target:
    """A workload by its place in the API: `collection` without a namespace, such as /apis/apps/v1/deployments."""

    collection: str
    name: str

    def path(self, namespace: str) -> str:
        root, _, resource = self.collection.rpartition("/")
        return f"{root}/namespaces/{namespace}/{resource}/{self.name}"


@dataclass(frozen=True, slots=True)
class Workload:
    """Counts of pods; `terminating` is None where this Kubernetes does not say.

    Deployments say it from Kubernetes 1.35 on by default (status.terminatingReplicas, KEP-3973).
    """

    replicas: int
    ready: int
    terminating: int | None

    @classmethod
    def of(cls, obj: Json) -> "Workload | Missing":
        spec, status = obj.get("spec") or {}, obj.get("status") or {}
        counts = (spec.get("replicas", 1), status.get("readyReplicas", 0), status.get("terminatingReplicas"))
        if not all(isinstance(n, int) and n >= 0 for n in counts[:2]) or not isinstance(counts[2], int | None):
            return Missing(f"{API}: spec.replicas, status.readyReplicas or status.terminatingReplicas is not a count")
        return cls(*counts)


@dataclass(frozen=True, slots=True)
class Pod:
    """A pod that is there. `workload`: the name of the Deployment, StatefulSet, … behind its controller."""

    namespace: str
    name: str
    workload: str
    ip: str | None
    ready: bool
    terminating: bool

    @classmethod
    def of(cls, obj: Json) -> "Pod":
        metadata, status = obj["metadata"], obj.get("status") or {}
        owner: Json = next((o for o in metadata.get("ownerReferences") or [] if o.get("controller")), {})
        name = str(owner.get("name", ""))
        # A Deployment's pods belong to a ReplicaSet that is called after it and the hash of the template.
        workload = name.rpartition("-")[0] if owner.get("kind") == "ReplicaSet" else name
        ready = any(c.get("type") == "Ready" and c.get("status") == "True" for c in status.get("conditions") or [])
        return cls(
            metadata["namespace"],
            metadata["name"],
            workload,
            status.get("podIP"),
            ready,
            "deletionTimestamp" in metadata,
        )


Kept = TypeVar("Kept")
Named = tuple[str, str]


@dataclass(slots=True)
class Objects(Generic[Kept]):
    """What is kept of the objects of one watch, by namespace and name."""

    keep: Callable[[Json], Kept]
    progress: Progress = field(default_factory=Progress)
    found: dict[Named, Kept] = field(default_factory=dict)

    def replace(self, items: Sequence[Json]) -> None:
        self.found = {_named(obj): self.keep(obj) for obj in items}

    def upsert(self, obj: Json) -> None:
        self.found[_named(obj)] = self.keep(obj)

    def delete(self, obj: Json) -> None:
        self.found.pop(_named(obj), None)


class Pods(Objects[Pod]):
    """Pods, also by their workload: a scrape asks for those of thousands of workloads in a row."""

    def __init__(self) -> None:
        super().__init__(Pod.of)
        self.by_workload: dict[Named, dict[str, Pod]] = {}

    def replace(self, items: Sequence[Json]) -> None:
        super().replace(items)
        self.by_workload = {}
        for pod in self.found.values():
            self._enter(pod)

    def upsert(self, obj: Json) -> None:
        self.delete(obj)
        super().upsert(obj)
        self._enter(self.found[_named(obj)])

    def delete(self, obj: Json) -> None:
        before = self.found.get(_named(obj))
        super().delete(obj)
        if before is not None:
            self.by_workload[before.namespace, before.workload].pop(before.name, None)

    def _enter(self, pod: Pod) -> None:
        self.by_workload.setdefault((pod.namespace, pod.workload), {})[pod.name] = pod


def _named(obj: Json) -> Named:
    return obj["metadata"]["namespace"], obj["metadata"]["name"]


class ClusterSource:
    """Provides replicas (spec), ready, pending and terminating pods; `run` keeps the watches.

    `watches_pods`: pods are needed by name and address, for direct scrapes. `first_answer_s`: how long a read waits for
    the first lists.
    """

    def __init__(
        self,
        kube: Reader,
        *,
        clock: Clock,
        watches_pods: bool = False,
        first_answer_s: float = 4.0,
        patience: Patience | None = None,
    ) -> None:
        self._kube = kube
        self._clock = clock
        self._first_answer_s = first_answer_s
        self._patience = patience
        self._scaled = Objects[Target | Missing](_target)
        self._workloads = {path: Objects[Workload | Missing](Workload.of) for path in WORKLOADS}
        self._pods = Pods() if watches_pods else None
        self._free = asyncio.Semaphore(AT_ONCE)

    async def run(self, stop: asyncio.Event) -> None:
        """Watches until `stop` is set."""

        async def one(path: str, sink: "Objects[Any]", selectors: Mapping[str, str]) -> None:
            await watch(
                self._kube,
                path,
                sink,
                stop=stop,
                progress=sink.progress,
                selectors=selectors,
                patience=self._patience,
                clock=self._clock,
            )

        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(one(SCALED_OBJECTS, self._scaled, {}))
            for path, workloads in self._workloads.items():
                tasks.create_task(one(path, workloads, {}))
            if self._pods is not None:
                tasks.create_task(one(PODS, self._pods, RUNNING))

    def provides(self, subject: Subject) -> frozenset[str]:
        del subject
        return PROVIDES

    async def read(self, asks: Asks, at_s: float) -> Mapping[Subject, Found]:
        await self._first_lists()
        found = await asyncio.gather(*(self._read(names, subject, at_s) for subject, names in asks.items()))
        return dict(zip(asks, found, strict=True))

    async def close(self) -> None:
        """Nothing is open: `run` ends by its event."""

    def pods(self, namespace: str, workload: str) -> Sequence[Pod] | Missing:
        """The pods of a workload that are there now; Missing where pods are not watched, or not known."""
        if self._pods is None:
            return Missing("pods are not watched, since no backend of kind scrape is configured")
        if (why := _unknown(self._pods.progress, PODS)) is not None:
            return why
        return list(self._pods.by_workload.get((namespace, workload), {}).values())

    async def _first_lists(self) -> None:
        waits = [self._scaled.progress.synced, *(objects.progress.synced for objects in self._workloads.values())]
        if not all(event.is_set() for event in waits):
            tasks = [asyncio.ensure_future(event.wait()) for event in waits]
            _, late = await asyncio.wait(tasks, timeout=self._first_answer_s)
            for task in late:
                task.cancel()

    async def _read(self, names: frozenset[str], subject: Subject, at_s: float) -> Found:
        target = self._target_of(subject)
        if isinstance(target, Missing):
            return Found(readings=dict.fromkeys(names, target))
        objects = self._workloads.get(target.collection)
        if objects is None:
            workload, seen_s = await self._asked(target, subject.namespace), at_s
        else:
            workload, seen_s = _kept(objects, target, subject.namespace), _seen_s(objects.progress, at_s)
        path = target.path(subject.namespace)
        if isinstance(workload, Missing):
            readings: dict[str, Reading] = dict.fromkeys(names, workload)
        else:
            readings = {name: _count(name, workload, seen_s) for name in names}
        return Found(readings=readings, workload=target.name, asked=dict.fromkeys(names, f"GET {path}"))

    def _target_of(self, subject: Subject) -> Target | Missing:
        """What the ScaledObject scales; without a ScaledObject, the Deployment that the trigger names."""
        found = self._scaled.found.get((subject.namespace, subject.scaled_object))
        if found is None:
            if subject.workload is not None:
                return Target(WORKLOADS[0], subject.workload)
            named = f"ScaledObject {subject.namespace}/{subject.scaled_object}"
            return _unknown(self._scaled.progress, SCALED_OBJECTS) or Missing(f"{API}: there is no {named}")
        return found

    async def _asked(self, target: Target, namespace: str) -> Workload | Missing:
        """Of a kind that is not watched: by GET, of its scale subresource and of itself."""
        path = target.path(namespace)
        async with self._free:
            try:
                scale = await self._kube.get(f"{path}/scale")
                obj = await self._kube.get(path)
            except KubeError as e:
                log.debug("cluster.not_read", path=path, why=str(e)[:500])
                return Missing(f"{API}: {e.reason} for {path}")
        return Workload.of({"spec": {"replicas": 0} | (scale.get("spec") or {}), "status": obj.get("status")})


def _kept(objects: Objects[Workload | Missing], target: Target, namespace: str) -> Workload | Missing:
    found = objects.found.get((namespace, target.name))
    if found is None:
        return _unknown(objects.progress, target.collection) or Missing(f"{API}: no {target.path(namespace)}")
    return found


def _count(name: str, workload: Workload, at_s: float) -> Reading:
    match name:
        case ReadingName.REPLICAS:
            return reading_of(workload.replicas, at_s)
        case ReadingName.READY:
            return reading_of(workload.ready, at_s)
        case ReadingName.PENDING:
            return reading_of(max(0, workload.replicas - workload.ready), at_s)
        case _:
            if workload.terminating is None:
                return Missing(f"{API}: status.terminatingReplicas is not there, or not of this kind")
            return reading_of(workload.terminating, at_s)


def _unknown(progress: Progress, path: str) -> Missing | None:
    if progress.synced.is_set():
        return None
    return Missing(f"{API}: {path} is not listed yet{f' ({progress.why})' if progress.why else ''}")


def _seen_s(progress: Progress, at_s: float) -> float:
    """What a watch has told is as old as its silence."""
    return at_s if progress.lost_since_s is None else min(at_s, progress.lost_since_s)


def _target(scaled_object: Json) -> Target | Missing:
    """What a ScaledObject scales. KEDA has looked up the resource of the kind.

    Source: kedacore/keda apis/keda/v1alpha1/scaledobject_types.go, ScaleTarget and ScaledObjectStatus.
    """
    spec, status = scaled_object.get("spec"), scaled_object.get("status")
    reference = spec.get("scaleTargetRef") if isinstance(spec, Mapping) else None
    if not isinstance(reference, Mapping):
        return Missing(f"{API}: the ScaledObject has no scaleTargetRef")
    name, kind = reference.get("name"), reference.get("kind") or "Deployment"
    version = reference.get("apiVersion") or "apps/v1"
    known = status.get("scaleTargetGVKR") if isinstance(status, Mapping) else None
    resource = known.get("resource") if isinstance(known, Mapping) and known.get("kind") == kind else None
    resource = resource or RESOURCES.get(kind)
    if resource is None:
        return Missing(f"{API}: the ScaledObject's status does not say yet what a {kind} is called in paths")
    if not all(re.fullmatch(SEGMENT, str(part)) for part in (*version.split("/", 1), resource, name)):
        return Missing(f"{API}: no path to {kind} {name!r} of {version!r}")  # a tenant wrote these
    root = "/apis" if "/" in version else "/api"
    return Target(f"{root}/{version}/{resource}", str(name))
