"""Pods as a scenario has them: templates, their priority, and those of others on the same nodes."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, Final, Literal, Self

from pydantic import BaseModel, Field, model_validator

from extender.placement.model import Demand
from sim.cluster.hpayaml import milli
from sim.strict import Seconds, Strict


class PodTemplate(BaseModel):
    """A pod's metadata and spec: the extender's own parser says whether it makes sense."""

    metadata: Mapping[str, Any] = {}
    spec: Mapping[str, Any]

    @model_validator(mode="after")
    def _counts_cpus(self) -> Self:
        _ = cpu_milli(self)
        return self


PRIORITIES: Final = MappingProxyType({"slicewise-batch": (1000, True), "slicewise-interactive": (10_000, False)})
"""PriorityClasses that the manifests bring: value, and whether its pods never preempt."""


class PriorityClassYaml(Strict):
    value: int = Field(le=1_000_000_000)
    preemption_policy: Literal["Never", "PreemptLowerPriority"] = "PreemptLowerPriority"


class Neighbour(Strict):
    """Pods of somebody else on the same nodes: `count` of them from `at` on, replaced when they are evicted."""

    name: str = Field(pattern=r"^[a-z0-9][a-z0-9-]*$")
    count: int = Field(ge=1, le=10_000)
    pod: PodTemplate
    at: Seconds = Field(default=0.0, ge=0)
    lasts: Seconds | None = Field(default=None, gt=0)  #: None: to the end
    termination_grace_period: Seconds = Field(default=30.0, ge=0)  #: all of which they take


def admitted(template: PodTemplate, classes: Mapping[str, PriorityClassYaml]) -> PodTemplate:
    """With the priority of its class, as the API server writes it into a pod."""
    name = str(template.spec.get("priorityClassName"))
    given = classes.get(name)
    value, never = PRIORITIES.get(name, (0, False))
    if given is not None:
        value, never = given.value, given.preemption_policy == "Never"
    filled = {"priority": value, "preemptionPolicy": "Never" if never else "PreemptLowerPriority"}
    return PodTemplate(metadata=template.metadata, spec=filled | dict(template.spec))


def demand_of(template: PodTemplate, name: str, uid: str) -> Demand | None:
    metadata = {**template.metadata, "name": name, "uid": uid}
    return Demand.of({"metadata": metadata, "spec": template.spec})


def cpu_milli(template: PodTemplate) -> int:
    """That its containers request together. Raises ValueError."""
    requests = [c.get("resources", {}).get("requests", {}).get("cpu") for c in template.spec.get("containers", ())]
    return sum(milli(cpu) for cpu in requests if cpu is not None)
