"""A ScaledObject as its YAML has it, unchanged; what this simulator does not model is refused, never ignored.

Source: kedacore/keda v2.21.0 `apis/keda/v1alpha1/scaledobject_types.go`, `controllers/keda/hpa.go`; behaviour is
`autoscaling/v2` and validated as `pkg/apis/autoscaling/validation` of kubernetes/kubernetes v1.36.3 does.
"""

from collections.abc import Callable, Mapping
from decimal import Decimal, InvalidOperation
from typing import Annotated, Any, Final, Literal, Self

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator
from pydantic.alias_generators import to_camel

from sim.cluster import hpa
from sim.strict import Strict

OURS: Final = frozenset({"external", "external-push"})
_KEDA_ANNOTATIONS: Final = "autoscaling.keda.sh/"
_SUFFIXES: Final = {"": Decimal(1), "m": Decimal("1e-3"), "k": Decimal(10**3), "M": Decimal(10**6)}


def _tolerance(value: object) -> float:
    """A Kubernetes quantity as far as tolerances need it: `0`, `0.05`, `50m`."""
    text = str(value)
    suffix = text[-1:] if text[-1:] in {"m", "k", "M"} else ""
    try:
        number = Decimal(text.removesuffix(suffix)) * _SUFFIXES[suffix]
    except InvalidOperation as e:
        raise ValueError("want a Kubernetes quantity, such as 0.05 or 50m") from e
    if not (number.is_finite() and number >= 0):
        raise ValueError("want a quantity that is not negative")
    return float(number)


class PolicyYaml(Strict):
    type: Literal["Pods", "Percent"]
    value: int = Field(gt=0)
    period_seconds: int = Field(gt=0, le=1800)


class RulesYaml(Strict):
    stabilization_window_seconds: int | None = Field(default=None, ge=0, le=3600)
    select_policy: Literal["Max", "Min", "Disabled"] = "Max"
    policies: list[PolicyYaml] | None = Field(default=None, min_length=1)
    tolerance: Annotated[float, BeforeValidator(_tolerance)] | None = None

    def over(self, default: hpa.Rules) -> hpa.Rules:
        policies = default.policies
        if self.policies is not None:
            policies = tuple(hpa.Policy(p.type, p.value, p.period_seconds) for p in self.policies)
        window = self.stabilization_window_seconds
        return hpa.Rules(
            policies=policies,
            window_s=default.window_s if window is None else float(window),
            select=self.select_policy,
            tolerance=self.tolerance,
        )


class BehaviorYaml(Strict):
    scale_up: RulesYaml = RulesYaml()
    scale_down: RulesYaml = RulesYaml()

    def rules(self) -> hpa.Behavior:
        return hpa.Behavior(self.scale_up.over(hpa.UP_DEFAULT), self.scale_down.over(hpa.DOWN_DEFAULT))


class HpaConfigYaml(Strict):
    name: str = ""
    behavior: BehaviorYaml | None = None


class AdvancedYaml(Strict):
    restore_to_original_replica_count: bool = False
    horizontal_pod_autoscaler_config: HpaConfigYaml = HpaConfigYaml()
    scaling_modifiers: Any = None

    @model_validator(mode="after")
    def _modelled(self) -> Self:
        if self.scaling_modifiers is not None:
            raise ValueError("scalingModifiers are not modelled by the simulator: remove them")
        return self


class Fallback(Strict):
    failure_threshold: int = Field(ge=0)
    replicas: int = Field(ge=0)
    behavior: Literal["static", "currentReplicas", "currentReplicasIfHigher", "currentReplicasIfLower"] = "static"


class TriggerYaml(Strict):
    type: str
    name: str = ""
    metadata: Mapping[str, str]
    metric_type: Literal["AverageValue", "Value"] = "AverageValue"
    use_cached_metrics: bool = False
    authentication_ref: Any = None

    @model_validator(mode="after")
    def _modelled(self) -> Self:
        if self.type not in OURS:
            raise ValueError(f"trigger type {self.type!r} is not modelled: want {' or '.join(sorted(OURS))}")
        return self


class TargetRef(Strict):
    name: str = Field(min_length=1)
    api_version: str = "apps/v1"
    kind: Literal["Deployment"] = "Deployment"
    env_source_container_name: str = ""


class SpecYaml(Strict):
    """`spec`, with KEDA's defaults."""

    scale_target_ref: TargetRef
    polling_interval: int = Field(default=30, ge=1)
    initial_cooldown_period: int = Field(default=0, ge=0)
    cooldown_period: int = Field(default=300, ge=0)
    idle_replica_count: int | None = Field(default=None, ge=0)
    min_replica_count: int = Field(default=0, ge=0)
    max_replica_count: int = Field(default=100, ge=1)
    advanced: AdvancedYaml = AdvancedYaml()
    triggers: list[TriggerYaml] = Field(min_length=1)
    fallback: Fallback | None = None

    @model_validator(mode="after")
    def _bounds(self) -> Self:
        low, high, idle = self.min_replica_count, self.max_replica_count, self.idle_replica_count
        if low > high:
            raise ValueError(f"minReplicaCount {low} is above maxReplicaCount {high}")
        if idle is not None and idle >= low:
            raise ValueError(f"idleReplicaCount {idle} must be below minReplicaCount {low}")
        return self


class MetadataYaml(BaseModel):
    """Kubernetes metadata has many more fields; none of them matters here."""

    model_config = ConfigDict(frozen=True, extra="ignore", alias_generator=to_camel)

    name: str = Field(min_length=1, max_length=63)
    namespace: str = "default"
    annotations: Mapping[str, str] = {}

    @model_validator(mode="after")
    def _modelled(self) -> Self:
        if unknown := sorted(a for a in self.annotations if a.startswith(_KEDA_ANNOTATIONS)):
            raise ValueError(f"not modelled by the simulator: remove {', '.join(unknown)}")
        return self


class ScaledObject(Strict):
    api_version: Literal["keda.sh/v1alpha1"]
    kind: Literal["ScaledObject"]
    metadata: MetadataYaml
    spec: SpecYaml
    status: Any = None

    def metric_name(self, index: int, served: str) -> str:
        """As the HPA knows it. Source: keda `pkg/scalers/scaler.go` GenerateMetricNameWithIndex."""
        return f"s{index}-{served}"

    def uses_hpa_observations(self) -> bool:
        """Whether KEDA's loop reads what the HPA's calls saw instead of asking the scaler itself (since 2.21)."""
        spec = self.spec
        cached = any(t.use_cached_metrics for t in spec.triggers)
        return spec.min_replica_count > 0 and spec.idle_replica_count is None and not cached

    def hpa(self, target: Callable[[int], tuple[str, float]]) -> hpa.Spec:
        """The HPA that KEDA creates; `target` gives the metric name and target of a trigger, by index."""
        behavior = self.spec.advanced.horizontal_pod_autoscaler_config.behavior
        targets = list[hpa.Target]()
        for index, trigger in enumerate(self.spec.triggers):
            name, value = target(index)
            targets.append(hpa.Target(self.metric_name(index, name), trigger.metric_type, milli(value)))
        return hpa.Spec(
            min_replicas=max(1, self.spec.min_replica_count),
            max_replicas=self.spec.max_replica_count,
            targets=tuple(targets),
            behavior=None if behavior is None else behavior.rules(),
        )


def milli(value: float) -> int:
    """Thousandths after KEDA's rounding to three decimals (keda `pkg/scalers/scaler.go` quantityFromFloat64)."""
    return int(Decimal(f"{value:.3f}") * 1000)
