"""KEDA's stand-in: who moves the scale at 0 and at idle, what failures come to, what a ScaledObject may say."""

from dataclasses import replace
from typing import Any

import pytest

from sim.cluster.hpa import Behavior, Failed, Scale, Target
from sim.cluster.keda import Answer, Past, Record, observe, poll, push
from sim.cluster.scaledobject import Fallback, ScaledObject, milli
from sim.strict import ConfigError, check, parse

AVERAGE = Target("s0-desired_replicas", "AverageValue", 1000)
VALUE = Target("s0-desired_replicas", "Value", 1000)
ACTIVE = Record(3000, active=True)
IDLE = Record(0, active=False)
ERROR = Record(None, active=False, error="UNAVAILABLE")
FELL_BACK = Record(4000, active=False, fallback=True)


def scaled_object(**spec: object) -> ScaledObject:
    trigger = {"type": "external", "metadata": {"queuePerReplica": "4"}}
    return ScaledObject.model_validate(
        {
            "apiVersion": "keda.sh/v1alpha1",
            "kind": "ScaledObject",
            "metadata": {"name": "a"},
            "spec": {"scaleTargetRef": {"name": "a"}, "triggers": [trigger], **spec},
        }
    )


def scale(count: int, ready: int | None = None) -> Scale:
    return Scale(spec=count, status=count, ready=count if ready is None else ready)


FALLBACK = {"failureThreshold": 3, "replicas": 4}


@pytest.mark.parametrize(
    ("spec", "records", "now", "last_active_s", "after"),
    [
        pytest.param({}, [ACTIVE], 0, None, 1, id="active at 0: 1, whatever the metric says"),
        pytest.param({"minReplicaCount": 3}, [ACTIVE], 0, None, 3, id="active at 0 with a minimum: the minimum"),
        pytest.param({}, [ACTIVE], 5, None, None, id="active above 0: the HPA's business"),
        pytest.param({}, [IDLE], 5, None, 0, id="never active: down at once, no cooldown"),
        pytest.param({"initialCooldownPeriod": 2000}, [IDLE], 5, None, None, id="never active: initial cooldown"),
        pytest.param({}, [IDLE], 5, 701.0, None, id="active 299 s ago: cooling down"),
        pytest.param({}, [IDLE], 5, 700.0, None, id="active exactly 300 s ago: cooling down still"),
        pytest.param({}, [IDLE], 5, 699.0, 0, id="active 301 s ago: from any number to 0 in one step"),
        pytest.param({"minReplicaCount": 2}, [IDLE], 5, 0.0, None, id="a minimum: the HPA's business"),
        pytest.param({"minReplicaCount": 2}, [IDLE], 1, 0.0, 2, id="below the minimum: raised"),
        pytest.param({"minReplicaCount": 2, "idleReplicaCount": 0}, [IDLE], 5, 0.0, 0, id="idle: down to it"),
        pytest.param({"minReplicaCount": 2, "idleReplicaCount": 0}, [IDLE], 0, 0.0, None, id="at idle: stays"),
        pytest.param({"minReplicaCount": 4, "idleReplicaCount": 0}, [ACTIVE], 0, 0.0, 4, id="idle to min at once"),
        pytest.param({"minReplicaCount": 4, "idleReplicaCount": 1}, [ACTIVE], 1, 0.0, 4, id="from idle 1 as well"),
        pytest.param({}, [ERROR], 5, 0.0, None, id="error without fallback: held"),
        pytest.param({"fallback": FALLBACK}, [ERROR], 5, 0.0, None, id="error before fallback: held"),
        pytest.param(
            {"fallback": {**FALLBACK, "replicas": 0}}, [ERROR], 5, 0.0, 0, id="fallback to 0: an error scales to zero"
        ),
        pytest.param({"fallback": FALLBACK}, [FELL_BACK], 0, None, 1, id="fallback counts as active"),
        pytest.param({}, [ERROR, ACTIVE], 0, None, 1, id="one failed, one active: up"),
        pytest.param({}, [ERROR, ACTIVE], 5, 0.0, None, id="one failed, one active above 0: nothing"),
    ],
)
def test_poll(
    spec: dict[str, Any], records: list[Record], now: int, last_active_s: float | None, after: int | None
) -> None:
    past = Past(created_s=0.0, last_active_s=last_active_s)
    request, _ = poll(scaled_object(**spec), records, scale(now), past, 1000.0)
    assert request.replicas == after
    assert request.reason


@pytest.mark.parametrize(
    ("records", "now", "remembered"),
    [
        pytest.param([ACTIVE], 5, 1000.0, id="active: the cooldown starts anew"),
        pytest.param([ACTIVE], 0, 1000.0, id="activated: it starts"),
        pytest.param([IDLE], 5, 900.0, id="not active: it goes on"),
        pytest.param([ERROR, ACTIVE], 5, 900.0, id="active beside a failure: it goes on"),
    ],
)
def test_last_active_time(records: list[Record], now: int, remembered: float) -> None:
    past = Past(created_s=0.0, last_active_s=900.0)
    assert poll(scaled_object(), records, scale(now), past, 1000.0)[1].last_active_s == remembered


def test_the_api_keeps_whole_seconds() -> None:
    """So a cooldown of just as many polls is over at the last of them, and not one poll later."""
    made = scaled_object(cooldownPeriod=10)
    _, past = poll(made, [ACTIVE], scale(1), Past(created_s=0.0), 100.25)
    assert past.last_active_s == 100.0
    assert [poll(made, [IDLE], scale(1), past, at_s)[0].replicas for at_s in (105.25, 110.25)] == [None, 0]


def test_push_moves_only_from_zero() -> None:
    past = Past(created_s=0.0)
    assert push(scaled_object(), scale(0), past, 5.0)[0].replicas == 1
    assert push(scaled_object(), scale(2), past, 5.0)[0].replicas is None


@pytest.mark.parametrize(
    ("behavior", "target", "counts", "served"),
    [
        pytest.param("static", AVERAGE, scale(9), 4000, id="static: the number given"),
        pytest.param("currentReplicas", AVERAGE, scale(9), 9000, id="current: as many as there are"),
        pytest.param("currentReplicasIfHigher", AVERAGE, scale(9), 9000, id="if higher: they are"),
        pytest.param("currentReplicasIfHigher", AVERAGE, scale(2), 4000, id="if higher: they are not"),
        pytest.param("currentReplicasIfLower", AVERAGE, scale(9), 4000, id="if lower: they are not"),
        pytest.param("currentReplicasIfLower", AVERAGE, scale(2), 2000, id="if lower: they are"),
        pytest.param("static", VALUE, scale(9, ready=2), 2000, id="Value: divided by the ready"),
        pytest.param("static", VALUE, scale(9, ready=0), None, id="Value and nothing ready: no fallback"),
    ],
)
def test_fallback_starts_after_the_threshold(behavior: str, target: Target, counts: Scale, served: int | None) -> None:
    fallback = Fallback.model_validate({**FALLBACK, "behavior": behavior})
    past, seen = Past(created_s=0.0), []
    for _ in range(5):
        record, past = observe(fallback, target, Failed("UNAVAILABLE"), counts, past)
        seen.append(record.value_milli)
    assert seen == [None, None, None, served, served]
    record, past = observe(fallback, target, Answer(1000, active=True), counts, past)
    assert (record.value_milli, record.fallback) == (1000, False)
    record, past = observe(fallback, target, Failed("UNAVAILABLE"), counts, past)
    assert record.error == "UNAVAILABLE", "one good answer, and the count begins anew"


def test_without_fallback_failures_are_not_counted() -> None:
    past = Past(created_s=0.0)
    for _ in range(10):
        record, past = observe(None, AVERAGE, Failed("UNAVAILABLE"), scale(1), past)
        assert record == ERROR
    assert past.failures == {}


@pytest.mark.parametrize(
    ("spec", "borrows"),
    [
        pytest.param({"minReplicaCount": 1}, True, id="the HPA asks anyway: KEDA's loop need not"),
        pytest.param({}, False, id="from zero KEDA must look itself"),
        pytest.param({"minReplicaCount": 2, "idleReplicaCount": 1}, False, id="so with an idle count"),
    ],
)
def test_whose_observations_the_loop_uses(spec: dict[str, Any], borrows: bool) -> None:
    assert scaled_object(**spec).uses_hpa_observations() is borrows


def test_defaults_and_the_hpa_that_follows() -> None:
    plain = scaled_object()
    assert (plain.spec.polling_interval, plain.spec.cooldown_period, plain.spec.max_replica_count) == (30, 300, 100)
    hpa = plain.hpa(lambda _: ("desired_replicas", 1.0))
    assert (hpa.min_replicas, hpa.max_replicas, hpa.behavior) == (1, 100, None)
    assert hpa.targets == (AVERAGE,)


def test_behavior_is_completed_with_kubernetes_defaults() -> None:
    given = {"scaleDown": {"tolerance": "50m", "policies": [{"type": "Pods", "value": 1, "periodSeconds": 60}]}}
    hpa = scaled_object(advanced={"horizontalPodAutoscalerConfig": {"behavior": given}}).hpa(lambda _: ("m", 1.0))
    assert hpa.behavior is not None
    assert hpa.behavior.up == Behavior().up
    assert (hpa.behavior.down.window_s, hpa.behavior.down.tolerance) == (300.0, 0.05)
    assert [(p.kind, p.value, p.period_s) for p in hpa.behavior.down.policies] == [("Pods", 1, 60)]


@pytest.mark.parametrize(
    ("value", "thousandths"),
    [
        pytest.param(3.0, 3000, id="whole"),
        pytest.param(0.0004, 0, id="below half a thousandth: nothing"),
        pytest.param(0.0005, 1, id="half a thousandth: up"),
        pytest.param(2.3456, 2346, id="three decimals"),
    ],
)
def test_quantities_have_three_decimals(value: float, thousandths: int) -> None:
    assert milli(value) == thousandths


YAML = """\
apiVersion: keda.sh/v1alpha1
kind: ScaledObject
metadata:
  name: a
spec:
  scaleTargetRef:
    name: a
  triggers:
  - type: external
    metadata:
      queuePerReplica: "4"
"""


@pytest.mark.parametrize(
    ("before", "after", "fault"),
    [
        pytest.param("kind: ScaledObject", "kind: ScaledJob", "so.yaml:2: kind: input should be", id="another kind"),
        pytest.param("spec:\n", "spec:\n  pollInterval: 5\n", "so.yaml:6: spec.pollInterval: unknown field", id="typo"),
        pytest.param(
            "spec:\n", "spec:\n  pollingInterval: 0\n", "so.yaml:6: spec.pollingInterval: input should be", id="range"
        ),
        pytest.param(
            "spec:\n",
            "spec:\n  minReplicaCount: 9\n  maxReplicaCount: 3\n",
            "so.yaml:5: spec: minReplicaCount 9 is above maxReplicaCount 3",
            id="contradiction",
        ),
        pytest.param(
            "spec:\n", "spec:\n  idleReplicaCount: 1\n", "so.yaml:5: spec: idleReplicaCount 1 must be", id="idle"
        ),
        pytest.param(
            "type: external", "type: cron", "so.yaml:9: spec.triggers[0]: trigger type 'cron' is not", id="trigger"
        ),
        pytest.param(
            "name: a\nspec",
            "name: a\n  annotations:\n    autoscaling.keda.sh/other: 'true'\nspec",
            "so.yaml:3: metadata: not modelled by the simulator: remove autoscaling.keda.sh/other",
            id="an annotation that would change what happens",
        ),
        pytest.param(
            "name: a\nspec",
            "name: a\n  annotations:\n    autoscaling.keda.sh/paused-replicas: few\nspec",
            "so.yaml:3: metadata: autoscaling.keda.sh/paused-replicas: want a whole number, as text (got 'few')",
            id="paused at no number",
        ),
        pytest.param(
            "  triggers:",
            "  advanced:\n    scalingModifiers: {formula: x, target: '1'}\n  triggers:",
            "so.yaml:8: spec.advanced: scalingModifiers.formula: every trigger needs a name",
            id="a formula over triggers without names",
        ),
        pytest.param(
            "  triggers:",
            "  advanced: {horizontalPodAutoscalerConfig: {behavior: {scaleUp: {tolerance: lots}}}}\n  triggers:",
            "so.yaml:8: spec.advanced.horizontalPodAutoscalerConfig.behavior.scaleUp.tolerance: want a Kubernetes",
            id="a tolerance that is no quantity",
        ),
    ],
)
def test_faults_name_file_line_field_and_rule(before: str, after: str, fault: str) -> None:
    (document,) = parse(YAML.replace(before, after), "so.yaml")
    with pytest.raises(ConfigError) as caught:
        check(ScaledObject, document)
    assert str(caught.value).startswith(fault)


def test_a_record_knows_no_value_where_there_is_an_error() -> None:
    assert replace(ERROR, error="").value_milli is None
