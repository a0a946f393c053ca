"""KEDA's operator for one ScaledObject: activation, cooldown, idle replicas, fallback.

Source: kedacore/keda v2.21.0 `pkg/scaling/executor/scale_scaledobjects.go` (RequestScale), `pkg/fallback/fallback.go`
(GetMetricsWithFallback), `pkg/scaling/scale_handler.go` (getScalerState, GetScaledObjectMetrics).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Final

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
    """One metric as KEDA sees it after fallback. `value_milli` None: the error that is passed on to the HPA."""

    value_milli: int | None
    active: bool
    fallback: bool = False
    error: str = ""


@dataclass(frozen=True, slots=True)
class Past:
    """The ScaledObject's status, as far as it decides."""

    created_s: float
    last_active_s: float | None = None
    failures: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Request:
    """What KEDA does to the scale subresource; `replicas` None: nothing."""

    replicas: int | None
    reason: str


_NOTHING: Final = Request(None, "no change")


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
    wanted = float(_fallback_replicas(fallback, scale.spec))
    if target.kind == "Value":
        if scale.ready == 0:
            return Record(None, active=False, error="no ready replica to fall back for a metric of type Value"), past
        wanted /= scale.ready
    value_milli = int(target.target_milli / 1000 * 1000 * wanted)
    return Record(value_milli, active=False, fallback=True), past


def _fallback_replicas(fallback: Fallback, current: int) -> int:
    match fallback.behavior:
        case "static":
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
    if active:
        return _activate(scaled_object, scale.spec, past, now_s, failed=failed)
    return _deactivate(scaled_object, scale.spec, past, now_s, failed=failed)


def push(scaled_object: ScaledObject, scale: Scale, past: Past, now_s: float) -> tuple[Request, Past]:
    """`true` on StreamIsActive; `false` is ignored by KEDA since 2.18."""
    return _activate(scaled_object, scale.spec, past, now_s, failed=False)


def _activate(
    scaled_object: ScaledObject, current: int, past: Past, now_s: float, *, failed: bool
) -> tuple[Request, Past]:
    spec = scaled_object.spec
    idle = spec.idle_replica_count is not None and current < spec.min_replica_count
    if idle or current == 0:
        to = max(1, spec.min_replica_count)
        return Request(to, "activated: a trigger is active"), replace(past, last_active_s=now_s)
    if failed:
        return Request(None, "active, but some triggers failed"), past
    return _NOTHING, replace(past, last_active_s=now_s)


def _deactivate(
    scaled_object: ScaledObject, current: int, past: Past, now_s: float, *, failed: bool
) -> tuple[Request, Past]:
    spec = scaled_object.spec
    if failed and spec.fallback is not None and spec.fallback.replicas != 0:
        return Request(None, "triggers fail: held until fallback"), past
    if failed and spec.fallback is None:
        return Request(None, "triggers fail: held"), past
    idle = spec.idle_replica_count
    if (idle is not None and current > idle) or (current > 0 and spec.min_replica_count == 0):
        if not _cooled_down(scaled_object, past, now_s):
            return Request(None, "cooling down"), past
        to = idle if idle is not None else spec.min_replica_count
        return Request(to, "deactivated: no trigger is active and the cooldown is over"), past
    if idle is None and current < spec.min_replica_count:
        return Request(spec.min_replica_count, "raised to minReplicaCount"), past
    return _NOTHING, past


def _cooled_down(scaled_object: ScaledObject, past: Past, now_s: float) -> bool:
    """Both waits must be over strictly; an object that never was active has only the initial one."""
    if past.last_active_s is None:
        return past.created_s + scaled_object.spec.initial_cooldown_period < now_s
    return past.last_active_s + scaled_object.spec.cooldown_period < now_s
