"""What is wrong with a ScaledObject that uses this scaler, and how to mend it. Pure: from the object alone.

Each rule is a fact about KEDA or the HPA that has cost somebody an incident; its source stands beside it.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from scaler.trigger import Trigger

Json = Mapping[str, Any]
STOPS = frozenset({"AbleToScale", "ScalingActive"})
"""Conditions of an HPA that say, while False, that it does nothing."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """`where`: path in the object, or the name of a reading. `severity`: an error stops scaling, a warning bends it."""

    severity: Literal["error", "warning"]
    where: str
    what: str
    mend: str


def examine(scaled_object: Json, trigger: Trigger, index: int) -> Iterator[Finding]:
    """Everything that stands in the way of `trigger`, the one at `index` of the ScaledObject's triggers."""
    spec = _table(scaled_object, "spec")
    yield from _trigger(spec, index)
    yield from _bounds(spec, trigger)
    behavior = _behavior(spec)
    yield from _tolerance(behavior, trigger)
    yield from _windows(behavior, trigger)
    yield from _fallback(spec, trigger)
    yield from _lead(spec, trigger)
    yield from _paused(_table(_table(scaled_object, "metadata"), "annotations"))


def _table(of: Json, key: str) -> Json:
    value = of.get(key)
    return value if isinstance(value, Mapping) else {}


def _behavior(spec: Json) -> Json:
    return _table(_table(_table(spec, "advanced"), "horizontalPodAutoscalerConfig"), "behavior")


def _trigger(spec: Json, index: int) -> Iterator[Finding]:
    where = f"spec.triggers[{index}]"
    triggers = spec.get("triggers")
    one = triggers[index] if isinstance(triggers, list) and isinstance(triggers[index], Mapping) else {}
    # kedacore/keda pkg/scalers/external_scaler.go: AverageValue unless told otherwise; then the HPA integrates.
    if (kind := one.get("metricType", "AverageValue")) != "AverageValue":
        yield Finding(
            severity="error",
            where=f"{where}.metricType",
            what=f"{kind}: the HPA would multiply the wanted replicas by those that are ready, at every sync",
            mend="leave metricType out",
        )
    if one.get("type") == "external" and spec.get("minReplicaCount", 0) == 0:
        yield Finding(
            severity="warning",
            where=f"{where}.type",
            what=f"at zero replicas an external trigger is asked every {spec.get('pollingInterval', 30)} s only",
            mend="type: external-push wakes the workload at once",
        )


def _bounds(spec: Json, trigger: Trigger) -> Iterator[Finding]:
    low, high = spec.get("minReplicaCount", 0), spec.get("maxReplicaCount", 100)
    if isinstance(low, int) and isinstance(high, int) and low > high:
        yield Finding(
            severity="error",
            where="spec.minReplicaCount",
            what=f"{low} is above maxReplicaCount, {high}",
            mend="lower the one or raise the other",
        )
    # kedacore/keda issue 2314: any other number is not reached.
    if (idle := spec.get("idleReplicaCount")) not in (None, 0):
        yield Finding(
            severity="error",
            where="spec.idleReplicaCount",
            what=f"{idle}: only 0 works",
            mend="set it to 0, or leave it out",
        )
    if trigger.max_replicas is not None and isinstance(high, int) and trigger.max_replicas > high:
        yield Finding(
            severity="warning",
            where="spec.maxReplicaCount",
            what=f"{high} is below the trigger's maxReplicas, {trigger.max_replicas}: the HPA stops at {high}",
            mend="give both the same number",
        )


def _tolerance(behavior: Json, trigger: Trigger) -> Iterator[Finding]:
    # kubernetes/enhancements KEP-4951: behavior.scaleUp.tolerance and .scaleDown.tolerance; the default is 10 %.
    for way in ("scaleUp", "scaleDown"):
        given = _table(behavior, way).get("tolerance")
        if given is None:
            yield Finding(
                severity="warning",
                where=f"spec.advanced.horizontalPodAutoscalerConfig.behavior.{way}.tolerance",
                what="not set: the HPA ignores steps of up to 10 %, one replica from ten on",
                mend='set it to "0" (Kubernetes 1.35 and later, or the feature gate HPAConfigurableTolerance), and '
                'hpaTolerance: "0" in the trigger',
            )
        elif str(given) in {"0", "0.0"} and trigger.hpa_tolerance != 0:
            yield Finding(
                severity="warning",
                where="trigger metadata 'hpaTolerance'",
                what=f"{trigger.hpa_tolerance:g} while behavior.{way}.tolerance is {given}: decisions are told wrongly",
                mend='set hpaTolerance: "0"',
            )


def _windows(behavior: Json, trigger: Trigger) -> Iterator[Finding]:
    # kubernetes/kubernetes pkg/apis/autoscaling/v2/defaults.go: 300 s, where nothing is said.
    window_s = _table(behavior, "scaleDown").get("stabilizationWindowSeconds", 300)
    if isinstance(window_s, int) and window_s > 0 and trigger.stabilization_down_s > 0:
        yield Finding(
            severity="warning",
            where="spec.advanced.horizontalPodAutoscalerConfig.behavior.scaleDown.stabilizationWindowSeconds",
            what=f"{window_s} s come on top of the trigger's stabilizationDown, {trigger.stabilization_down_s:g} s",
            mend="set it to 0: one of the two is enough, and the trigger's says why",
        )


def _fallback(spec: Json, trigger: Trigger) -> Iterator[Finding]:
    fallback = spec.get("fallback")
    if trigger.on_missing == "fail" and not isinstance(fallback, Mapping):
        yield Finding(
            severity="error",
            where="spec.fallback",
            what="onMissing: fail leaves the decision to KEDA's fallback, and there is none",
            mend="add fallback with behavior: currentReplicasIfHigher, or say onMissing: hold",
        )
    # kedacore/keda pkg/fallback/fallback.go: static is the default, and replaces what runs.
    if isinstance(fallback, Mapping) and fallback.get("behavior", "static") == "static":
        yield Finding(
            severity="warning",
            where="spec.fallback.behavior",
            what=f"static: when the scaler cannot answer, {fallback.get('replicas')} replicas replace whatever runs",
            mend="behavior: currentReplicasIfHigher",
        )


def _lead(spec: Json, trigger: Trigger) -> Iterator[Finding]:
    """What takes away the time that a policy with `coldStart` plans ahead."""
    if trigger.cold_start_s is None:
        return
    if spec.get("minReplicaCount", 0) == 0:
        yield Finding(
            severity="warning",
            where="spec.minReplicaCount",
            what=f"0: nothing is seen ahead of the first request, which waits for a whole coldStart, "
            f"{trigger.cold_start_s:g} s",
            mend="minReplicaCount: 1, where that is too long; at zero only a gateway's agent_requests_waiting wakes it",
        )
    up = _table(_behavior(spec), "scaleUp")
    window_s = up.get("stabilizationWindowSeconds", 0)
    if isinstance(window_s, int) and window_s > 0:
        yield Finding(
            severity="warning",
            where="spec.advanced.horizontalPodAutoscalerConfig.behavior.scaleUp.stabilizationWindowSeconds",
            what=f"{window_s} s delay every rise beyond the coldStart that is planned for",
            mend="leave it out",
        )


def _paused(annotations: Json) -> Iterator[Finding]:
    # KEDA's documentation, Pausing autoscaling; of the first, any value but false pauses.
    for key in ("autoscaling.keda.sh/paused", "autoscaling.keda.sh/paused-replicas"):
        if key in annotations and (key.endswith("replicas") or str(annotations[key]) != "false"):
            yield Finding(
                severity="warning",
                where=f"metadata.annotations.{key}",
                what="the object is paused: KEDA deletes its HPA and asks nobody",
                mend="remove the annotation",
            )


def examine_hpa(hpa: Json, scaled_object: Json, index: int) -> Iterator[Finding]:
    """What the HPA that KEDA made of `scaled_object` says otherwise than the object does, and why it does not act."""
    spec, where = _table(hpa, "spec"), f"HPA {_table(hpa, 'metadata').get('name')}"
    names = [
        _table(_table(metric, "external"), "metric").get("name")
        for metric in spec.get("metrics") or []
        if isinstance(metric, Mapping)
    ]
    # kedacore/keda issue 7729: an HPA made while the scaler was away scales by the CPU.
    if f"s{index}-desired_replicas" not in names:
        yield Finding(
            severity="error",
            where=f"{where}: spec.metrics",
            what=f"has no s{index}-desired_replicas (has {', '.join(map(str, names)) or 'none'})",
            mend="is the scaler reachable from KEDA? Then touch the ScaledObject, so that KEDA makes the HPA anew",
        )
    asked, made = _behavior(_table(scaled_object, "spec")), _table(spec, "behavior")
    for way in ("scaleUp", "scaleDown"):
        given, kept = (_table(behavior, way).get("tolerance") for behavior in (asked, made))
        # Older API servers drop a field that they do not know (KEP-4951), and say nothing.
        if given is not None and kept is None:
            yield Finding(
                severity="warning",
                where=f"{where}: spec.behavior.{way}.tolerance",
                what=f"the ScaledObject asks for {given}, and the API server dropped it: 10 % are ignored",
                mend="Kubernetes 1.35 and later keep it; before, enable the feature gate HPAConfigurableTolerance",
            )
    for condition in _table(hpa, "status").get("conditions") or []:
        if isinstance(condition, Mapping) and condition.get("type") in STOPS and condition.get("status") == "False":
            yield Finding(
                severity="warning" if condition.get("reason") == "ScalingDisabled" else "error",
                where=f"{where}: {condition['type']}",
                what=f"{condition.get('reason')}: {condition.get('message')}",
                mend="at zero replicas this is as it should be; else see KEDA's operator and metrics adapter",
            )
