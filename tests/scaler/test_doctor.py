"""What stands in the way of a ScaledObject: each rule, and the object that we recommend, which none of them hits."""

import copy
from collections.abc import Callable
from typing import Any

import pytest

from scaler.doctor import examine, examine_hpa
from scaler.trigger import Trigger

Json = dict[str, Any]
KEYS = {"queuePerReplica": "4", "hpaTolerance": "0", "maxReplicas": "20"}
BEHAVIOR = "spec.advanced.horizontalPodAutoscalerConfig.behavior"


def good() -> Json:
    behavior = {"scaleUp": {"tolerance": "0"}, "scaleDown": {"tolerance": "0", "stabilizationWindowSeconds": 0}}
    return {
        "metadata": {"name": "chat", "annotations": {"team": "a"}},
        "spec": {
            "minReplicaCount": 0,
            "maxReplicaCount": 20,
            "fallback": {"failureThreshold": 3, "replicas": 4, "behavior": "currentReplicasIfHigher"},
            "advanced": {"horizontalPodAutoscalerConfig": {"behavior": behavior}},
            "triggers": [{"type": "external-push", "metadata": KEYS}],
        },
    }


def found(obj: Json, keys: dict[str, str]) -> list[tuple[str, str, str]]:
    return [(f.severity, f.where, f.what) for f in examine(obj, Trigger.parse(keys), 0)]


def test_the_object_that_we_recommend_is_well() -> None:
    assert found(good(), KEYS) == []


def put(*path: str | int, value: object) -> Callable[[Json], None]:
    def change(obj: Json) -> None:
        at: Any = obj
        for step in path[:-1]:
            at = at[step]
        if value is None:
            del at[path[-1]]
        else:
            at[path[-1]] = value

    return change


ADVANCED = ("spec", "advanced", "horizontalPodAutoscalerConfig", "behavior")


@pytest.mark.parametrize(
    ("change", "keys", "want"),
    [
        pytest.param(
            put("spec", "triggers", 0, "metricType", value="Value"),
            {},
            ("error", "spec.triggers[0].metricType", "Value: the HPA would multiply"),
            id="a metric type that integrates",
        ),
        pytest.param(
            put("spec", "triggers", 0, "type", value="external"),
            {},
            ("warning", "spec.triggers[0].type", "asked every 30 s only"),
            id="no push at zero",
        ),
        pytest.param(
            put("spec", "minReplicaCount", value=30),
            {},
            ("error", "spec.minReplicaCount", "30 is above maxReplicaCount, 20"),
            id="more at least than at most",
        ),
        pytest.param(
            put("spec", "idleReplicaCount", value=1),
            {},
            ("error", "spec.idleReplicaCount", "1: only 0 works"),
            id="an idle count that KEDA does not reach",
        ),
        pytest.param(
            put("spec", "maxReplicaCount", value=10),
            {},
            ("warning", "spec.maxReplicaCount", "10 is below the trigger's maxReplicas, 20"),
            id="two different ceilings",
        ),
        pytest.param(
            put(*ADVANCED, "scaleUp", "tolerance", value=None),
            {},
            ("warning", f"{BEHAVIOR}.scaleUp.tolerance", "not set: the HPA ignores steps of up to 10 %"),
            id="the HPA's dead band",
        ),
        pytest.param(
            put(*ADVANCED, "scaleDown", "stabilizationWindowSeconds", value=None),
            {},
            (
                "warning",
                f"{BEHAVIOR}.scaleDown.stabilizationWindowSeconds",
                "300 s come on top of the trigger's stabilizationDown, 300 s",
            ),
            id="two dampers on top of each other",
        ),
        pytest.param(
            put("spec", "fallback", value=None),
            {"onMissing": "fail"},
            ("error", "spec.fallback", "there is none"),
            id="a fallback is wanted and there is none",
        ),
        pytest.param(
            put("spec", "fallback", "behavior", value=None),
            {},
            ("warning", "spec.fallback.behavior", "static: when the scaler cannot answer, 4 replicas replace"),
            id="a static fallback",
        ),
        pytest.param(
            put("metadata", "annotations", value={"autoscaling.keda.sh/paused": "maybe"}),
            {},
            ("warning", "metadata.annotations.autoscaling.keda.sh/paused", "the object is paused"),
            id="paused, by any value",
        ),
        pytest.param(
            put("metadata", "annotations", value={"autoscaling.keda.sh/paused-replicas": "false"}),
            {},
            ("warning", "metadata.annotations.autoscaling.keda.sh/paused-replicas", "the object is paused"),
            id="paused at a number",
        ),
    ],
)
def test_rule(change: Callable[[Json], None], keys: dict[str, str], want: tuple[str, str, str]) -> None:
    obj = copy.deepcopy(good())
    change(obj)
    ((severity, where, what),) = found(obj, KEYS | keys)
    assert (severity, where) == want[:2]
    assert want[2] in what


AHEAD = {
    "policy": "ahead",
    "coldStart": "3m",
    "promptTokensPerSecondPerReplica": "15000",
    "generationTokensPerSecondPerReplica": "5000",
    "slotsPerReplica": "128",
    "hpaTolerance": "0",
}


def test_from_zero_nothing_can_be_seen_ahead() -> None:
    ((severity, where, what),) = found(good(), AHEAD)
    assert (severity, where) == ("warning", "spec.minReplicaCount")
    assert "waits for a whole coldStart, 180 s" in what


@pytest.mark.parametrize(("window_s", "rules"), [(0, 0), (30, 1), ("30", 0)])
def test_an_hpa_that_waits_before_it_rises_takes_from_the_lead(window_s: object, rules: int) -> None:
    obj = good()
    obj["spec"]["minReplicaCount"] = 1
    obj["spec"]["advanced"]["horizontalPodAutoscalerConfig"]["behavior"]["scaleUp"]["stabilizationWindowSeconds"] = (
        window_s
    )
    told_of = found(obj, AHEAD)
    assert len(told_of) == rules
    assert all("delay every rise" in what for _, _, what in told_of)


def test_a_tolerance_that_the_trigger_does_not_know_of() -> None:
    rules = found(good(), {"queuePerReplica": "4", "maxReplicas": "20"})
    assert [where for _, where, _ in rules] == ["trigger metadata 'hpaTolerance'"] * 2


def test_a_paused_annotation_that_says_no() -> None:
    obj = good()
    obj["metadata"]["annotations"] = {"autoscaling.keda.sh/paused": "false"}
    assert found(obj, KEYS) == []


@pytest.mark.parametrize("spec", [None, {}, {"triggers": "x"}, {"triggers": ["x"]}, {"advanced": [], "triggers": [{}]}])
def test_an_odd_object_is_examined_as_far_as_it_goes(spec: object) -> None:
    assert {where for _, where, _ in found({"spec": spec}, KEYS)} >= {f"{BEHAVIOR}.scaleUp.tolerance"}


def hpa(**changed: object) -> Json:
    metrics = [{"type": "External", "external": {"metric": {"name": "s0-desired_replicas"}}}]
    usual = {"metrics": metrics, "behavior": {"scaleUp": {"tolerance": "0"}, "scaleDown": {"tolerance": "0"}}}
    active = {"type": "ScalingActive", "status": "True", "reason": "ValidMetricFound", "message": "m"}
    return {
        "metadata": {"name": "keda-hpa-chat"},
        "spec": {**usual, **changed},
        "status": {"conditions": [active, {"type": "AbleToScale", "status": "True"}, "odd"]},
    }


def told(obj: Json) -> list[tuple[str, str, str]]:
    return [(f.severity, f.where, f.what) for f in examine_hpa(obj, good(), 0)]


def test_an_hpa_that_is_as_the_object_says_is_well() -> None:
    assert told(hpa()) == []


@pytest.mark.parametrize("metrics", [[{"type": "Resource", "resource": {"name": "cpu"}}], [], None, ["odd"]])
def test_an_hpa_that_scales_by_something_else(metrics: object) -> None:
    ((severity, where, what),) = told(hpa(metrics=metrics))
    assert (severity, where) == ("error", "HPA keda-hpa-chat: spec.metrics")
    assert what.startswith("has no s0-desired_replicas")


def test_a_tolerance_that_the_api_server_dropped() -> None:
    found = told(hpa(behavior={"scaleUp": {}, "scaleDown": {"tolerance": "0"}}))
    assert [(severity, where) for severity, where, _ in found] == [
        ("warning", "HPA keda-hpa-chat: spec.behavior.scaleUp.tolerance")
    ]


@pytest.mark.parametrize(("reason", "severity"), [("ScalingDisabled", "warning"), ("FailedGetExternalMetric", "error")])
def test_an_hpa_that_does_not_act_says_why(reason: str, severity: str) -> None:
    obj = hpa()
    obj["status"]["conditions"] = [{"type": "ScalingActive", "status": "False", "reason": reason, "message": "m"}]
    assert told(obj) == [(severity, "HPA keda-hpa-chat: ScalingActive", f"{reason}: m")]
