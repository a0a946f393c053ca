"""What one pod holds on its node, as reserved by us or as its own record says."""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from math import inf
from typing import Self

from extender.placement.allocation import ALLOCATION, Allocation, AllocationError, MpsShare, WholeGpu
from extender.placement.demand import PREFIX, Demand
from extender.placement.load import NO_LOAD, Load
from extender.placement.usage import Held


class ObjectError(ValueError):
    """Not a Pod or Node object that the API server could have sent."""


class Phase(StrEnum):
    """How sure it is that a pod holds its slices."""

    ASSUMED = "assumed"  # chosen, the Binding is on its way; expires
    CONFIRMED = "confirmed"  # the API took the Binding, the watch has not shown it yet
    BOUND = "bound"  # seen in the API
    TERMINATING = "terminating"  # being deleted: keeps its slices until the pod object is gone


@dataclass(frozen=True, slots=True)
class Holding:
    """A pod and what it holds on its node."""

    uid: str
    key: str  # namespace/name
    node: str
    tenant: str
    priority: int
    phase: Phase
    allocation: Allocation
    static: tuple[tuple[str, int], ...] = ()  # existing MIG instances by profile
    expires_s: float = inf
    load: Load = NO_LOAD

    @property
    def uuids(self) -> frozenset[str]:
        """The GPUs of which it holds something."""
        return frozenset(g.uuid for g in self.allocation.grants())

    @property
    def kind(self) -> int | None:
        """0: it shares GPUs; 1 to 8: it has so many whole ones, 8 for more; None: it holds neither."""
        grants = self.allocation.grants()
        whole = sum(isinstance(g, WholeGpu) for g in grants)
        if whole:
            return min(whole, 8)
        return 0 if any(isinstance(g, MpsShare) for g in grants) else None

    def held(self, uuid: str) -> tuple[Held, ...]:
        """What it holds of one GPU."""
        return tuple(Held(self.uid, self.tenant, g) for g in self.allocation.grants() if g.uuid == uuid)

    @classmethod
    def assumed(cls, demand: Demand, key: str, node: str, allocation: Allocation, expires_s: float) -> Self:
        """A place that was just chosen for a demand."""
        return cls(
            uid=demand.uid,
            key=key,
            node=node,
            tenant=demand.tenant,
            priority=demand.priority,
            phase=Phase.ASSUMED,
            allocation=allocation,
            static=demand.static,
            load=demand.load,
            expires_s=expires_s,
        )

    @classmethod
    def of(cls, pod: Mapping[str, object], uid: str, node: str) -> Self | None:
        """What a bound pod holds by its own record; None if it asks for nothing that is ours.

        Raises AllocationError or DemandError: it holds something, and what cannot be read.
        """
        meta, spec = mapping(pod.get("metadata")), mapping(pod.get("spec"))
        annotations = mapping(meta.get("annotations"))
        record = annotations.get(ALLOCATION)
        allocation = Allocation.decode(record) if isinstance(record, str) else Allocation(())
        static: tuple[tuple[str, int], ...] = ()
        if not allocation.grants():
            demand = Demand.of(pod)
            if demand is None:
                return None
            if demand.shape is not None:
                raise AllocationError(f"annotation {ALLOCATION} is missing or names no GPU")
            static = demand.static
        priority = spec.get("priority")
        return cls(
            uid=uid,
            key=pod_key(pod),
            node=node,
            tenant=str(annotations.get(f"{PREFIX}tenant") or meta.get("namespace") or "default"),
            priority=priority if isinstance(priority, int) else 0,
            phase=Phase.TERMINATING if meta.get("deletionTimestamp") else Phase.BOUND,
            allocation=allocation,
            static=static,
            load=Load.of(pod),
        )


def mapping(value: object) -> Mapping[str, object]:
    """A JSON object, or an empty one in place of anything else."""
    return value if isinstance(value, Mapping) else {}


def pod_key(pod: Mapping[str, object]) -> str:
    """namespace/name, as people and logs name a pod."""
    meta = mapping(pod.get("metadata"))
    return f"{meta.get('namespace') or 'default'}/{meta.get('name') or '?'}"


def text_of(meta: Mapping[str, object], field: str, kind: str) -> str:
    """A text of an object's metadata. Raises ObjectError if it is not there."""
    value = meta.get(field)
    if isinstance(value, str) and value:
        return value
    raise ObjectError(f"{kind} metadata.{field}: want the text that the API server gives, got {value!r}")
