"""A ScaledObject as its YAML has it, unchanged; what this simulator does not model is refused, never ignored.

Source: kedacore/keda v2.21.0 `apis/keda/v1alpha1/scaledobject_types.go`, `controllers/keda/hpa.go`; behaviour is
`autoscaling/v2` and validated as `pkg/apis/autoscaling/validation` of kubernetes/kubernetes v1.36.3 does.
"""

from collections.abc import Callable, Mapping
from dataclasses import replace
from decimal import Decimal, InvalidOperation
from math import isfinite
from typing import Annotated, Any, Final, Literal, Self

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationInfo,
    field_validator,
    model_validator,
)
from pydantic.alias_generators import to_camel

from sim.cluster import hpa
from sim.cluster.formula import Formula, FormulaError
from sim.strict import Strict

OURS: Final = frozenset({"external", "external-push"})
COMPOSITE: Final = "composite-metric"
_KEDA_ANNOTATIONS: Final = "autoscaling.keda.sh/"
_SWITCHES: Final = frozenset({"paused", "paused-scale-in", "paused-scale-out", "force-activation"})
_FALSE: Final = frozenset({"0", "f", "F", "false", "FALSE", "False"})  # Go's strconv.ParseBool; all else counts as true
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


def _positive(text: str) -> str:
    if not float(text) > 0:
        raise ValueError("want a number above 0, as text")
    return text


def _some_number(text: str) -> str:
    if not isfinite(float(text)):
        raise ValueError("want a number, as text")
    return text


class ScalingModifiers(Strict):
    """One metric in place of the triggers' own: `formula` over their values by name, held against `target`."""

    formula: str = Field(min_length=1)
    target: Annotated[str, AfterValidator(_positive)]
    activation_target: Annotated[str, AfterValidator(_some_number)] = "0"
    metric_type: Literal["AverageValue", "Value"] = "AverageValue"

    @property
    def target_milli(self) -> int:
        return int(float(self.target) * 1000)


class AdvancedYaml(Strict):
    restore_to_original_replica_count: bool = False
    horizontal_pod_autoscaler_config: HpaConfigYaml = HpaConfigYaml()
    scaling_modifiers: ScalingModifiers | None = None

    @field_validator("scaling_modifiers", mode="before")
    @classmethod
    def _none_in_an_empty_one(cls, given: object) -> object:
        """KEDA itself writes `scalingModifiers: {}` into objects that have none."""
        return None if given == {} else given


class Fallback(Strict):
    failure_threshold: int = Field(ge=0)
    replicas: int = Field(ge=0)
    behavior: Literal[
        "static", "currentReplicas", "currentReplicasIfHigher", "currentReplicasIfLower", "scalingModifiers"
    ] = "static"


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
    triggers: list[TriggerYaml] = Field(min_length=1)
    advanced: AdvancedYaml = AdvancedYaml()
    fallback: Fallback | None = None

    @field_validator("advanced")
    @classmethod
    def _formula(cls, advanced: AdvancedYaml, info: ValidationInfo) -> AdvancedYaml:
        modifiers, triggers = advanced.scaling_modifiers, info.data.get("triggers")
        if modifiers is None or triggers is None:
            return advanced
        names = [trigger.name for trigger in triggers]
        if not all(names) or len(set(names)) < len(names):
            raise ValueError("scalingModifiers.formula: every trigger needs a name of its own, which the formula uses")
        try:
            Formula.parse(modifiers.formula, names)
        except FormulaError as e:
            raise ValueError(f"scalingModifiers.formula: {e}") from e
        return advanced

    @field_validator("fallback")
    @classmethod
    def _of_modifiers(cls, fallback: Fallback | None, info: ValidationInfo) -> Fallback | None:
        advanced = info.data.get("advanced")
        modifiers = advanced is not None and advanced.scaling_modifiers is not None
        if fallback is not None and fallback.behavior == "scalingModifiers" and not modifiers:
            raise ValueError("behavior scalingModifiers needs advanced.scalingModifiers with a formula")
        return fallback

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
        known = {_KEDA_ANNOTATIONS + name for name in (*_SWITCHES, "paused-replicas")}
        if unknown := sorted(a for a in self.annotations if a.startswith(_KEDA_ANNOTATIONS) and a not in known):
            raise ValueError(f"not modelled by the simulator: remove {', '.join(unknown)}")
        count = self.annotations.get(f"{_KEDA_ANNOTATIONS}paused-replicas")
        if count is not None and not (count.isascii() and count.isdecimal()):
            raise ValueError(f"{_KEDA_ANNOTATIONS}paused-replicas: want a whole number, as text (got {count!r})")
        return self

    def _on(self, switch: str) -> bool:
        """KEDA takes whatever is no boolean as true."""
        return self.annotations.get(_KEDA_ANNOTATIONS + switch, "false") not in _FALSE

    @property
    def paused(self) -> bool:
        """No loop and no HPA."""
        return self.paused_replicas is not None or self._on("paused")

    @property
    def paused_replicas(self) -> int | None:
        """That it is scaled to when it is paused; None: it stays as it is."""
        count = self.annotations.get(f"{_KEDA_ANNOTATIONS}paused-replicas")
        return None if count is None else int(count)

    @property
    def paused_in(self) -> bool:
        return self._on("paused-scale-in")

    @property
    def paused_out(self) -> bool:
        return self._on("paused-scale-out")

    @property
    def forced(self) -> bool:
        """Taken as active, whatever the triggers say."""
        return self._on("force-activation")


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
        own = spec.min_replica_count > 0 and spec.idle_replica_count is None and not cached
        return own and spec.advanced.scaling_modifiers is None

    def queries(self, target: Callable[[int], tuple[str, float]]) -> tuple[hpa.Target, ...]:
        """What KEDA asks each trigger for, and what a fallback's replicas are reckoned by.

        `target` gives the metric name and target of a trigger, by index.
        """
        modifiers, found = self.spec.advanced.scaling_modifiers, list[hpa.Target]()
        for index, trigger in enumerate(self.spec.triggers):
            served, value = target(index)
            name = self.metric_name(index, served)
            if modifiers is None:
                found.append(hpa.Target(name, trigger.metric_type, milli(value)))
            else:
                found.append(hpa.Target(name, modifiers.metric_type, modifiers.target_milli))
        return tuple(found)

    def _behavior(self) -> hpa.Behavior | None:
        """A direction that an annotation pauses is disabled there, whatever its policies say."""
        given, paused = self.spec.advanced.horizontal_pod_autoscaler_config.behavior, self.metadata
        if given is None and not (paused.paused_in or paused.paused_out):
            return None
        rules = (BehaviorYaml() if given is None else given).rules()
        if paused.paused_in:
            rules = replace(rules, down=replace(rules.down, select="Disabled"))
        return replace(rules, up=replace(rules.up, select="Disabled")) if paused.paused_out else rules

    def hpa(self, target: Callable[[int], tuple[str, float]]) -> hpa.Spec:
        """The HPA that KEDA creates; `target` as above."""
        modifiers, targets = self.spec.advanced.scaling_modifiers, self.queries(target)
        if modifiers is not None:
            targets = (hpa.Target(COMPOSITE, modifiers.metric_type, modifiers.target_milli),)
        return hpa.Spec(
            min_replicas=max(1, self.spec.min_replica_count),
            max_replicas=self.spec.max_replica_count,
            targets=targets,
            behavior=self._behavior(),
        )


def milli(value: float) -> int:
    """Thousandths after KEDA's rounding to three decimals (keda `pkg/scalers/scaler.go` quantityFromFloat64)."""
    return int(Decimal(f"{value:.3f}") * 1000)
