"""An HPA of one's own in a rehearsal, its YAML unchanged: Pods and Object metrics as the controller reckons them."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from sim.cluster.hpa import NO_PAST, Behavior, Failed, PerPod, Policy, Rules, Scale, Spec, Target, sync
from sim.cluster.hpayaml import HorizontalPodAutoscaler
from sim.report.model import Report
from sim.run import load, simulate
from sim.scenario import bundled
from sim.strict import ConfigError, check, parse
from tests.sim.commands.scenes import sim

FREE = Rules(policies=(Policy("Pods", 1000, 15),), window_s=0.0)
QPS = Target("qps", "AverageValue", 15_000, "pods")


def proposal(target: Target, usage: int | PerPod | Failed, now: int, status: int | None = None) -> tuple[int, str]:
    """Without limits, so that the calculator's own answer is seen."""
    spec = Spec(min_replicas=1, max_replicas=1000, targets=(target,), behavior=Behavior(FREE, FREE))
    scale = Scale(spec=now, status=now if status is None else status, ready=now)
    verdict, _ = sync(spec, scale, {target.key: usage}, NO_PAST, 0.0)
    return verdict.replicas, verdict.reason


def pods(*values: int | None, pending: int = 0) -> PerPod:
    """Of running pods, None where one has no value yet."""
    known = {i: value for i, value in enumerate(values) if value is not None}
    numbers = range(len(values), len(values) + pending)
    return PerPod(known, frozenset(range(len(values))), frozenset(numbers))


@pytest.mark.parametrize(
    ("now", "usage", "target", "after"),
    [
        pytest.param(3, pods(20_000, 10_000, 30_000), 15_000, 4, id="upstream's ScaleUpCM"),
        pytest.param(3, pods(50_000, 10_000, 30_000), 15_000, 6, id="upstream's ScaleUpCMUnreadyHotCpuNoLessScale"),
        pytest.param(3, pods(50_000, 15_000, 30_000), 15_000, 7, id="upstream's ...UnreadyHotCpuScaleWouldScaleDown"),
        pytest.param(5, pods(*[12_000] * 5), 20_000, 3, id="upstream's ScaleDownCM"),
        pytest.param(3, pods(20_000, 21_000, 21_000), 20_000, 3, id="upstream's ToleranceCM"),
        pytest.param(5, pods(20_000, 19_000, 21_000, None, None), 20_000, 5, id="upstream's MissingMetricsNoChangeEq"),
        pytest.param(
            4, pods(30_000, 30_000, pending=2), 15_000, 4, id="pending pods count as idle: on target with them"
        ),
        pytest.param(3, pods(60_000, 60_000, pending=1), 15_000, 8, id="and as part of the answer: 120 / 15 of three"),
        pytest.param(3, pods(9000, 9000, pending=1), 15_000, 2, id="on the way down they do not count"),
        pytest.param(3, pods(30_000, None, None), 15_000, 3, id="without a value: idle on the way up, and it turns"),
        pytest.param(3, pods(90_000, None, None), 15_000, 6, id="…or less of it"),
        pytest.param(4, pods(3000, 3000, None, None), 15_000, 3, id="without a value: on target on the way down"),
        pytest.param(9, pods(20_000, 20_000, 20_000, pending=1), 15_000, 9, id="fewer pods than asked: up is not down"),
    ],
)
def test_pods_metrics(now: int, usage: PerPod, target: int, after: int) -> None:
    found, _ = proposal(Target("qps", "AverageValue", target, "pods"), usage, now)
    assert found == after


@pytest.mark.parametrize(
    ("usage", "why"),
    [
        pytest.param(pods(), "no pods returned by selector", id="no pods"),
        pytest.param(pods(None, pending=1), "did not receive metrics for targeted pods", id="no values"),
        pytest.param(PerPod({7: 90_000}, frozenset({1})), "did not receive metrics", id="of a pod that is going"),
    ],
)
def test_pods_metrics_that_cannot_be_had_hold(usage: PerPod, why: str) -> None:
    found, reason = proposal(QPS, usage, 3)
    assert found == 3
    assert f"unable to get pods metric qps: {why}" in reason


@pytest.mark.parametrize(
    ("kind", "target", "usage", "now", "after"),
    [
        pytest.param("Value", 15_000, 20_000, 3, 4, id="upstream's ScaleUpCMObject"),
        pytest.param("AverageValue", 5000, 40_000, 3, 8, id="by pod: whatever there is now"),
        pytest.param("Value", 20_000, 12_000, 5, 3, id="upstream's ScaleDownCMObject"),
        pytest.param("Value", 20_000, 20_666, 3, 3, id="upstream's ToleranceCMObject"),
    ],
)
def test_object_metrics(kind: Any, target: int, usage: int, now: int, after: int) -> None:  # noqa: ANN401
    found, reason = proposal(Target("qps", kind, target, "Service"), usage, now)
    assert found == after
    if after > now:
        assert reason == "Service metric qps above target"


HPA = """
apiVersion: autoscaling/v2
kind: HorizontalPodAutoscaler
metadata: {name: engine, namespace: agents}
spec:
  scaleTargetRef: {apiVersion: apps/v1, kind: Deployment, name: engine}
  minReplicas: 1
  maxReplicas: 12
  metrics:
  - type: METRIC
"""
WAITING = "External\n    external: {metric: {name: waiting}, target: {type: AverageValue, averageValue: 2}}"
RUNNING = "Pods\n    pods: {metric: {name: running}, target: {type: AverageValue, averageValue: 3}}"
TOKENS = "Pods\n    pods: {metric: {name: 'vllm:tokens'}, target: {type: AverageValue, averageValue: 100}}"
QUEUE = (
    "Object\n    object: {describedObject: {apiVersion: v1, kind: Service, name: engine}, metric: {name: queue}, "
    "target: {type: AverageValue, averageValue: 2}}"
)
NAMES = {"metrics": {"waiting": "queue", "vllm:tokens": "generation_tokens_per_s"}}


def scenario(tmp_path: Path, metric: str = WAITING, **top: object) -> Path:
    value = yaml.safe_load(bundled()["agents"].read_text()) | {"duration": "20m", "hpa": NAMES} | top
    del value["scaledObject"]
    value["workload"]["sessions"] = [{"at": "0m", "perMinute": 1}, {"at": "3m", "perMinute": 12}]
    value["horizontalPodAutoscaler"] = "hpa.yaml"
    (tmp_path / "hpa.yaml").write_text(HPA.replace("METRIC", metric))
    path = tmp_path / "scenario.yaml"
    path.write_text(yaml.safe_dump(value))
    return path


def run(tmp_path: Path, metric: str) -> Report:
    return simulate(load(scenario(tmp_path, metric)), 1)


@pytest.mark.parametrize(
    ("metric", "named"),
    [
        pytest.param(WAITING, "external metric waiting", id="External"),
        pytest.param(RUNNING, "pods metric running", id="Pods: a gauge of each"),
        pytest.param(TOKENS, "pods metric vllm:tokens", id="Pods: a rate of each"),
        pytest.param(QUEUE, "Service metric queue", id="Object"),
    ],
)
def test_it_scales_by_itself_from_its_yaml(tmp_path: Path, metric: str, named: str) -> None:
    report = run(tmp_path, metric)
    changes = report.changes[1:]
    assert {change.by for change in changes} == {"hpa"}
    assert any(change.why == f"{named} above target" for change in changes)
    assert report.replicas.most > 2
    assert set(report.time_line.desired) == {None}


def test_without_prometheus_it_holds(tmp_path: Path) -> None:
    path = scenario(tmp_path, RUNNING, metrics={"outages": [{"at": "0s", "lasts": "20m"}]}, startReplicas=3)
    assert {change.after for change in simulate(load(path), 1).changes} == {3}


def test_the_commands_know_it(tmp_path: Path) -> None:
    path = scenario(tmp_path, RUNNING)
    told = sim("explain", path, "--at", "10m")
    assert told.exit_code == 0, told.output
    assert "the HPA's sync" in told.stdout
    assert "pods/running = " in told.stdout
    assert "KEDA" not in told.stdout
    for command in (("run", path, "--record", tmp_path / "x"), ("recommend", path)):
        refused = sim(*command)
        assert refused.exit_code == 2, refused.output
        assert "a HorizontalPodAutoscaler of its own, and no ScaledObject" in refused.stderr


@pytest.mark.parametrize(
    ("old", "new", "fault"),
    [
        pytest.param(
            "name: waiting", "name: other", "external metric other: say in hpa.metrics what", id="no such name"
        ),
        pytest.param(
            WAITING,
            RUNNING.replace("running", "sessions"),
            "pods metric sessions: say in hpa.metrics",
            id="not of each",
        ),
    ],
)
def test_names_must_stand_for_something(tmp_path: Path, old: str, new: str, fault: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load(scenario(tmp_path, WAITING.replace(old, new)))
    assert "horizontalPodAutoscaler.spec.metrics[0]: " in str(caught.value)
    assert fault in str(caught.value)


def test_one_autoscaler_and_no_more(tmp_path: Path) -> None:
    path = scenario(tmp_path)
    value = yaml.safe_load(path.read_text()) | {
        "scaledObject": yaml.safe_load(bundled()["agents"].read_text())["scaledObject"]
    }
    path.write_text(yaml.safe_dump(value))
    with pytest.raises(ConfigError, match="want either scaledObject or horizontalPodAutoscaler"):
        load(path)


@pytest.mark.parametrize(
    ("old", "new", "fault"),
    [
        pytest.param(
            "type: AverageValue, averageValue: 3", "type: Value, value: 3", "of type Pods has a target", id="Pods"
        ),
        pytest.param("Pods\n", "Object\n", "a metric of type Object has the field object, and no other", id="field"),
        pytest.param("Pods\n", "Resource\n", "metrics of type 'Resource' are not modelled", id="another kind"),
    ],
)
def test_metrics_that_cannot_be(old: str, new: str, fault: str) -> None:
    with pytest.raises(ConfigError) as caught:
        check(HorizontalPodAutoscaler, parse(HPA.replace("METRIC", RUNNING.replace(old, new)), "hpa.yaml")[0])
    assert fault in str(caught.value)
