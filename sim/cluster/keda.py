"""KEDA's operator for one ScaledObject: activation, cooldown, idle replicas, fallback, modifiers, pauses.

Source: kedacore/keda v2.21.0 `pkg/scaling/executor/scale_scaledobjects.go` (RequestScale), `pkg/fallback/fallback.go`
(GetMetricsWithFallback), `pkg/scaling/scale_handler.go` (getScalerState, GetScaledObjectMetrics),
`pkg/scaling/modifiers/formula.go` (HandleScalingModifiers), `controllers/keda/scaledobject_controller.go`
(handlePause).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from math import floor
from typing import Final

from sim.cluster.compute import int64
from sim.cluster.formula import Formula, FormulaError
from sim.cluster.hpa import Failed, Scale, Target
from sim.cluster.scaledobject import Fallback, ScaledObject


@dataclass(frozen=True, slots=True)
class Answer:
    """What the scaler answered for one metric, GetMetrics and IsActive together; thousandths."""

    value_milli: int
    active: bool


@dataclass(frozen=True, slots=True)
class Unreachable(Failed):
    """GetMetricSpec failed already. KEDA counts failures of GetMetrics only: no fallback (keda issue 8056)."""


@dataclass(frozen=True, slots=True)
class Record:
    """One metric as KEDA sees it after fallback. `value_milli` None: the error that is passed on to the HPA.

    `unknown`: failed too often, and the formula is to do without it (fallback behavior scalingModifiers).
    """

    value_milli: int | None
    active: bool
    fallback: bool = False
    error: str = ""
    unknown: bool = False


@dataclass(frozen=True, slots=True)
class Past:
    """The ScaledObject's status, as far as it decides."""

    created_s: float
    last_active_s: float | None = None  #: whole seconds, as the API keeps times
    failures: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Request:
    """What KEDA does to the scale subresource; `replicas` None: nothing."""

    replicas: int | None
    reason: str


PLACEHOLDER_MILLI: Final = -1000  # nobody reads it
NOTHING: Final = Request(None, "no change")


def observe(
    fallback: Fallback | None, target: Target, answer: Answer | Failed, scale: Scale, past: Past
) -> tuple[Record, Past]:
    """One query of one metric: failures are counted here, whoever asked, and fallback steps in past the threshold."""
    if isinstance(answer, Answer):
        if fallback is not None:
            past = replace(past, failures={**past.failures, target.name: 0})
        return Record(answer.value_milli, answer.active), past
    if fallback is None:
        return Record(None, active=False, error=answer.why), past
    failures = past.failures.get(target.name, 0) + 1
    past = replace(past, failures={**past.failures, target.name: failures})
    if failures <= fallback.failure_threshold:
        return Record(None, active=False, error=answer.why), past
    if fallback.behavior == "scalingModifiers":
        return Record(PLACEHOLDER_MILLI, active=False, unknown=True), past
    wanted = float(_fallback_replicas(fallback, scale.spec))
    if target.kind == "Value":
        if scale.ready == 0:
            return Record(None, active=False, error="no ready replica to fall back for a metric of type Value"), past
        wanted /= scale.ready
    value_milli = int(target.target_milli / 1000 * 1000 * wanted)
    return Record(value_milli, active=False, fallback=True), past


def _fallback_replicas(fallback: Fallback, current: int) -> int:
    match fallback.behavior:
        case "static" | "scalingModifiers":
            return fallback.replicas
        case "currentReplicas":
            return current
        case "currentReplicasIfHigher":
            return max(current, fallback.replicas)
        case "currentReplicasIfLower":
            return min(current, fallback.replicas)


def poll(
    scaled_object: ScaledObject, records: Sequence[Record], scale: Scale, past: Past, now_s: float
) -> tuple[Request, Past]:
    """The end of one polling interval: 0 <-> 1 and idle <-> min; everything between is the HPA's."""
    active = any(r.error == "" and (r.active or r.fallback) for r in records)
    failed = any(r.error != "" for r in records)
    modifiers = scaled_object.spec.advanced.scaling_modifiers
    if modifiers is not None:  # the composite decides, and IsActive is not heard
        value = Failed("") if failed else composite(scaled_object, records)
        active = isinstance(value, int) and value / 1000 > float(modifiers.activation_target)
    if active or scaled_object.metadata.forced:
        return _activate(scaled_object, scale.spec, past, now_s, failed=failed)
    return _deactivate(scaled_object, scale.spec, past, now_s, failed=failed)


def composite(scaled_object: ScaledObject, records: Sequence[Record]) -> int | Failed:
    """The one metric of scalingModifiers, in thousandths; a fallback's value takes its place."""
    spec = scaled_object.spec
    modifiers = spec.advanced.scaling_modifiers
    if modifiers is None:
        raise ValueError("there is no composite metric without scalingModifiers")
    for record in records:
        if record.fallback and record.value_milli is not None:
            return record.value_milli
    if error := next((r.error for r in records if r.error), ""):
        return Failed(error)
    names = [trigger.name for trigger in spec.triggers]
    seen = {n: None if r.unknown else (r.value_milli or 0) / 1000 for n, r in zip(names, records, strict=True)}
    try:
        value = Formula.parse(modifiers.formula, names).value(seen)
    except FormulaError as e:
        return Failed(f"no metrics returned: formula: {e}")
    if value is None:
        if spec.fallback is None:
            return Failed("no metrics returned: the formula gives nil, and there is no fallback")
        value = spec.fallback.replicas * float(modifiers.target)
    return int64(value * 1000)


def fallback_of(scaled_object: ScaledObject) -> Fallback | None:
    """As far as it is valid: with scalingModifiers KEDA wants `target` to be a whole number, or does not fall back."""
    modifiers = scaled_object.spec.advanced.scaling_modifiers
    if modifiers is not None and not (modifiers.target.removeprefix("+").isdecimal() and int(modifiers.target) > 0):
        return None
    return scaled_object.spec.fallback


def pause(scaled_object: ScaledObject, scale: Scale) -> Request:
    """What a reconcile does with an object that is paused: its count is set once, and nobody turns any more."""
    count = scaled_object.metadata.paused_replicas
    if count is None or count == scale.spec:
        return Request(None, "paused")
    return Request(count, "paused: autoscaling.keda.sh/paused-replicas")


def push(scaled_object: ScaledObject, scale: Scale, past: Past, now_s: float) -> tuple[Request, Past]:
    """`true` on StreamIsActive; `false` is ignored by KEDA since 2.18."""
    return _activate(scaled_object, scale.spec, past, now_s, failed=False)


def _activate(
    scaled_object: ScaledObject, current: int, past: Past, now_s: float, *, failed: bool
) -> tuple[Request, Past]:
    spec = scaled_object.spec
    idle = spec.idle_replica_count is not None and current < spec.min_replica_count
    if idle or current == 0:
        if scaled_object.metadata.paused_out:
            return Request(None, "active, but scaling out is paused"), past
        to = max(1, spec.min_replica_count)
        return Request(to, "activated: a trigger is active"), replace(past, last_active_s=float(floor(now_s)))
    if failed:
        return Request(None, "active, but some triggers failed"), past
    return NOTHING, replace(past, last_active_s=float(floor(now_s)))


def _deactivate(
    scaled_object: ScaledObject, current: int, past: Past, now_s: float, *, failed: bool
) -> tuple[Request, Past]:
    spec = scaled_object.spec
    if failed and (spec.fallback is None or spec.fallback.replicas != 0):
        until = "" if spec.fallback is None else " until fallback"
        return Request(None, f"triggers fail: held{until}"), past
    idle = spec.idle_replica_count
    if (idle is not None and current > idle) or (current > 0 and spec.min_replica_count == 0):
        if scaled_object.metadata.paused_in:
            return Request(None, "not active, but scaling in is paused"), past
        if not _cooled_down(scaled_object, past, now_s):
            return Request(None, "cooling down"), past
        to = idle if idle is not None else spec.min_replica_count
        return Request(to, "deactivated: no trigger is active and the cooldown is over"), past
    if idle is None and current < spec.min_replica_count:
        return Request(spec.min_replica_count, "raised to minReplicaCount"), past
    return NOTHING, past


def _cooled_down(scaled_object: ScaledObject, past: Past, now_s: float) -> bool:
    """Both waits must be over strictly; an object that never was active has only the initial one."""
    if past.last_active_s is None:
        return past.created_s + scaled_object.spec.initial_cooldown_period < now_s
    return past.last_active_s + scaled_object.spec.cooldown_period < now_s
