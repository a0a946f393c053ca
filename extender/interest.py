"""Which pods are the extender's business."""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from extender.placement.allocation import ALLOCATION
from extender.placement.demand import SLICE, STATIC_MIG

Json = Mapping[str, Any]


def matters(pod: Json) -> bool:
    """Whether a pod asks for GPUs that are ours to place, or holds some. Cheap: it is asked of every pod there is."""
    if ALLOCATION in (pod["metadata"].get("annotations") or {}):
        return True
    return any(name == SLICE or name.startswith(STATIC_MIG) for name in _resource_names(pod.get("spec") or {}))


def _resource_names(spec: Json) -> Iterator[str]:
    for group in ("containers", "initContainers"):
        for container in _listed(spec.get(group)):
            resources = container.get("resources") or {}
            yield from resources.get("limits") or ()
            yield from resources.get("requests") or ()


def _listed(found: object) -> Iterable[Json]:
    return found if isinstance(found, list) else ()
