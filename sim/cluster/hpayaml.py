"""A HorizontalPodAutoscaler as its YAML has it, unchanged; what is not modelled is refused, never ignored.

Source: kubernetes/kubernetes v1.36.3 `staging/src/k8s.io/api/autoscaling/v2/types.go`, and
`pkg/apis/autoscaling/v2/defaults.go` for what is left out.
"""

from decimal import Decimal, InvalidOperation
from typing import Annotated, Any, Final, Literal, Self

from pydantic import BeforeValidator, Field, model_validator

from sim.cluster import hpa
from sim.cluster.scaledobject import BehaviorYaml, MetadataYaml, TargetRef
from sim.strict import Strict

_SUFFIXES: Final = {
    "m": Decimal("1e-3"),
    "k": Decimal(10**3),
    "M": Decimal(10**6),
    "G": Decimal(10**9),
    "Ki": Decimal(2**10),
    "Mi": Decimal(2**20),
    "Gi": Decimal(2**30),
}


def milli(value: object) -> int:
    """A positive Kubernetes quantity in thousandths, rounded up as `MilliValue` does: `30`, `0.5`, `250m`, `2k`."""
    text = str(value)
    suffix = next((s for s in sorted(_SUFFIXES, key=len, reverse=True) if text.endswith(s)), "")
    try:
        number = Decimal(text.removesuffix(suffix)) * _SUFFIXES.get(suffix, Decimal(1)) * 1000
    except InvalidOperation as e:
        raise ValueError("want a Kubernetes quantity, such as 30, 0.5, 250m or 2k") from e
    if not (number.is_finite() and number > 0):
        raise ValueError("want a quantity above 0")
    return int(number.to_integral_value(rounding="ROUND_CEILING"))


Milli = Annotated[int, BeforeValidator(milli)]


class TargetYaml(Strict):
    type: Literal["Value", "AverageValue"]
    value: Milli | None = None
    average_value: Milli | None = None

    @model_validator(mode="after")
    def _one(self) -> Self:
        given = {"Value": self.value, "AverageValue": self.average_value}
        if given[self.type] is None or sum(v is not None for v in given.values()) != 1:
            field = "value" if self.type == "Value" else "averageValue"
            raise ValueError(f"a target of type {self.type} has {field}, and nothing else")
        return self

    @property
    def milli(self) -> int:
        return self.value or self.average_value or 0


class NameYaml(Strict):
    name: str = Field(min_length=1)
    selector: Any = None


class ExternalYaml(Strict):
    metric: NameYaml
    target: TargetYaml


class PodsYaml(Strict):
    metric: NameYaml
    target: TargetYaml

    @model_validator(mode="after")
    def _average(self) -> Self:
        if self.target.type != "AverageValue":
            raise ValueError("a metric of type Pods has a target of type AverageValue")
        return self


class DescribedYaml(Strict):
    kind: str = Field(min_length=1)
    name: str = Field(min_length=1)
    api_version: str = ""


class ObjectYaml(Strict):
    described_object: DescribedYaml
    metric: NameYaml
    target: TargetYaml


class MetricYaml(Strict):
    type: str
    external: ExternalYaml | None = None
    pods: PodsYaml | None = None
    object: ObjectYaml | None = None

    @model_validator(mode="after")
    def _modelled(self) -> Self:
        given = {"External": self.external, "Pods": self.pods, "Object": self.object}
        if self.type not in given:
            raise ValueError(f"metrics of type {self.type!r} are not modelled: want External, Pods or Object")
        if given[self.type] is None or sum(v is not None for v in given.values()) != 1:
            raise ValueError(f"a metric of type {self.type} has the field {self.type.lower()}, and no other")
        return self

    @property
    def target(self) -> hpa.Target:
        for source, found in (("external", self.external), ("pods", self.pods)):
            if found is not None:
                return hpa.Target(found.metric.name, found.target.type, found.target.milli, source)
        if self.object is None:
            raise ValueError("a metric without any of its fields is refused when it is read")
        described, target = self.object.described_object, self.object.target
        return hpa.Target(self.object.metric.name, target.type, target.milli, described.kind)


class HpaSpecYaml(Strict):
    scale_target_ref: TargetRef
    min_replicas: int = Field(default=1, ge=1)
    max_replicas: int = Field(ge=1)
    metrics: list[MetricYaml] = Field(min_length=1)
    behavior: BehaviorYaml | None = None

    @model_validator(mode="after")
    def _bounds(self) -> Self:
        if self.min_replicas > self.max_replicas:
            raise ValueError(f"minReplicas {self.min_replicas} is above maxReplicas {self.max_replicas}")
        return self


class HorizontalPodAutoscaler(Strict):
    api_version: Literal["autoscaling/v2"]
    kind: Literal["HorizontalPodAutoscaler"]
    metadata: MetadataYaml
    spec: HpaSpecYaml
    status: Any = None

    def hpa(self) -> hpa.Spec:
        """What `hpa.sync` takes. Two metrics of one name are two targets, as the controller has them."""
        spec = self.spec
        return hpa.Spec(
            min_replicas=spec.min_replicas,
            max_replicas=spec.max_replicas,
            targets=tuple(metric.target for metric in spec.metrics),
            behavior=None if spec.behavior is None else spec.behavior.rules(),
        )
