"""Readings from the Kubernetes API: what a ScaledObject scales, how many replicas it has and how many are ready."""

import asyncio
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, Protocol

import structlog

from scaler.signals.reading import Missing, Reading, ReadingName, reading_of
from scaler.sources.base import Asks, Found, Subject
from scaler.sources.once import Once, Patience
from slicewise.process.kube import KubeError

log: structlog.typing.FilteringBoundLogger = structlog.get_logger()

Json = Mapping[str, Any]

RESOURCES: Final = {"Deployment": "deployments", "StatefulSet": "statefulsets", "ReplicaSet": "replicasets"}
"""For a ScaledObject whose status KEDA has not written yet."""

API: Final = "Kubernetes API"
SEGMENT: Final = r"[a-z0-9]([-.a-z0-9]*[a-z0-9])?"


PROVIDES: Final = frozenset({ReadingName.REPLICAS, ReadingName.READY})


class KubeReader(Protocol):
    async def get(self, path: str, **query: str | int) -> dict[str, Any]: ...


@dataclass(frozen=True, slots=True)
class Target:
    """A workload by its path in the API."""

    path: str
    name: str


class ClusterSource:
    """Provides `replicas` (spec.replicas of the scale subresource) and `ready` (status.readyReplicas)."""

    def __init__(self, kube: KubeReader) -> None:
        self._kube = kube
        self._asked = Once[str, Json | Missing]()
        self._patience = Patience(limit=8)

    def provides(self, subject: Subject) -> frozenset[str]:
        del subject
        return PROVIDES

    async def read(self, asks: Asks, at_s: float) -> Mapping[Subject, Found]:
        found = await asyncio.gather(*(self._read(names, subject, at_s) for subject, names in asks.items()))
        return dict(zip(asks, found, strict=True))

    async def _read(self, names: frozenset[str], subject: Subject, at_s: float) -> Found:
        target = await self._target(subject, at_s)
        if isinstance(target, Missing):
            return Found(readings=dict.fromkeys(names, target))
        readings: dict[str, Reading] = {}
        if ReadingName.REPLICAS in names:
            scale = await self._get(f"{target.path}/scale", at_s)
            readings[ReadingName.REPLICAS] = _count(scale, "spec", "replicas", at_s)
        if ReadingName.READY in names:
            workload = await self._get(target.path, at_s)
            readings[ReadingName.READY] = _count(workload, "status", "readyReplicas", at_s)
        return Found(readings=readings, workload=target.name)

    async def close(self) -> None:
        await self._asked.close()

    async def _target(self, subject: Subject, at_s: float) -> Target | Missing:
        """What the ScaledObject scales; without a ScaledObject, the Deployment that the trigger names."""
        path = f"/apis/keda.sh/v1alpha1/namespaces/{subject.namespace}/scaledobjects/{subject.scaled_object}"
        scaled_object = await self._get(path, at_s)
        if isinstance(scaled_object, Missing):
            if subject.workload is None:
                return scaled_object
            return _target({"scaleTargetRef": {"name": subject.workload}}, {}, subject.namespace)
        return _target(scaled_object.get("spec"), scaled_object.get("status"), subject.namespace)

    async def _get(self, path: str, at_s: float) -> Json | Missing:
        return await self._asked.get(path, at_s, lambda: self._fetch(path, at_s))

    async def _fetch(self, path: str, at_s: float) -> Json | Missing:
        if self._patience.ended(API, at_s):
            why = f"left {self._patience.limit} other questions of this instant unanswered, so it was not asked"
            return Missing(f"{API}: {why}")
        try:
            return await self._kube.get(path)
        except KubeError as e:
            if e.unanswered:
                self._patience.silence(API, at_s)
            log.debug("cluster.not_read", path=path, why=str(e)[:500])
            return Missing(f"{API}: {e.reason} for {path}")


def _target(spec: object, status: object, namespace: str) -> Target | Missing:
    reference = spec.get("scaleTargetRef") if isinstance(spec, Mapping) else None
    if not isinstance(reference, Mapping):
        return Missing(f"{API}: the ScaledObject has no scaleTargetRef")
    name, kind = reference.get("name"), reference.get("kind") or "Deployment"
    version = reference.get("apiVersion") or "apps/v1"
    # KEDA has looked up the resource of the kind: kedacore/keda apis/keda/v1alpha1 ScaledObjectStatus.
    known = status.get("scaleTargetGVKR") if isinstance(status, Mapping) else None
    resource = known.get("resource") if isinstance(known, Mapping) and known.get("kind") == kind else None
    resource = resource or RESOURCES.get(kind)
    if resource is None:
        return Missing(f"{API}: the ScaledObject's status does not say yet what a {kind} is called in paths")
    if not all(re.fullmatch(SEGMENT, str(part)) for part in (*version.split("/", 1), resource, name)):
        return Missing(f"{API}: no path to {kind} {name!r} of {version!r}")  # a tenant wrote these
    root = "/apis" if "/" in version else "/api"
    return Target(f"{root}/{version}/namespaces/{namespace}/{resource}/{name}", str(name))


def _count(found: Json | Missing, part: str, field: str, at_s: float) -> Reading:
    """A number of pods; Kubernetes leaves zeros out of what it writes."""
    if isinstance(found, Missing):
        return found
    section = found.get(part) or {}
    value = section.get(field, 0) if isinstance(section, Mapping) else None
    if not isinstance(value, int):
        return Missing(f"{API}: {part}.{field} is not a number")
    return reading_of(value, at_s)
