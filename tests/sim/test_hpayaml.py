"""A HorizontalPodAutoscaler's YAML, unchanged, gives the replicas that kube-controller-manager gives."""

from collections.abc import Mapping
from typing import Any

import pytest

from sim.cluster.hpa import NO_PAST, Behavior, Scale, sync
from sim.cluster.hpayaml import HorizontalPodAutoscaler, milli
from sim.strict import ConfigError, check, parse

TEXT = """
apiVersion: autoscaling/v2
kind: HorizontalPodAutoscaler
metadata: {name: chat, labels: {app: chat}}
spec:
  scaleTargetRef: {apiVersion: apps/v1, kind: Deployment, name: chat}
  minReplicas: 2
  maxReplicas: 20
  metrics:
  - type: External
    external:
      metric: {name: waiting, selector: {matchLabels: {app: chat}}}
      target: {type: AverageValue, averageValue: 2500m}
  - type: External
    external:
      metric: {name: latency}
      target: {type: Value, value: "4"}
  behavior:
    scaleUp:
      tolerance: "0"
      stabilizationWindowSeconds: 0
      policies:
      - {type: Pods, value: 3, periodSeconds: 60}
"""


def read(text: str = TEXT) -> HorizontalPodAutoscaler:
    return check(HorizontalPodAutoscaler, parse(text, "hpa.yaml")[0])


@pytest.mark.parametrize(
    ("usage", "after"),
    [
        pytest.param({"waiting": 12_500, "latency": 4000}, 5, id="on target: nothing"),
        pytest.param({"waiting": 12_600, "latency": 4000}, 6, id="tolerance 0 up: one more, ceil(12.6 / 2.5)"),
        pytest.param({"waiting": 30_000, "latency": 1000}, 8, id="twelve wanted, three a minute allowed"),
        pytest.param({"waiting": 12_500, "latency": 6000}, 8, id="the other metric: half as many again"),
        pytest.param({"waiting": 11_400, "latency": 4000}, 5, id="ten per cent down are still the default"),
    ],
)
def test_what_the_controller_does_with_it(usage: Mapping[str, int], after: int) -> None:
    scale = Scale(spec=5, status=5, ready=5)
    assert sync(read().hpa(), scale, usage, NO_PAST, 0.0)[0].replicas == after


def test_what_is_left_out_has_the_apis_defaults() -> None:
    text = TEXT[: TEXT.index("  behavior:")].replace("  minReplicas: 2\n", "")
    spec = read(text).hpa()
    assert (spec.min_replicas, spec.behavior) == (1, None)
    assert (
        read(TEXT[: TEXT.index("    scaleUp:")].replace("  behavior:", "  behavior: {}")).hpa().behavior == Behavior()
    )


@pytest.mark.parametrize(
    ("text", "thousandths"),
    [("30", 30_000), (30, 30_000), ("0.5", 500), ("250m", 250), ("2k", 2_000_000), ("1Ki", 1_024_000), ("0.0001", 1)],
)
def test_quantities(text: object, thousandths: int) -> None:
    assert milli(text) == thousandths


@pytest.mark.parametrize(
    ("old", "new", "fault"),
    [
        pytest.param("averageValue: 2500m", "averageValue: x", "want a Kubernetes quantity", id="no quantity"),
        pytest.param("averageValue: 2500m", "averageValue: 0", "want a quantity above 0", id="zero"),
        pytest.param("averageValue: 2500m", "value: 2", "of type AverageValue has averageValue", id="the other field"),
        pytest.param("minReplicas: 2", "minReplicas: 0", "greater than or equal to 1", id="zero replicas need a gate"),
        pytest.param("maxReplicas: 20", "maxReplicas: 1", "minReplicas 2 is above maxReplicas 1", id="bounds"),
        pytest.param("type: External", "type: Resource", "'Resource' are not modelled", id="another kind of metric"),
        pytest.param("autoscaling/v2", "autoscaling/v1", "autoscaling/v2", id="an old version"),
    ],
)
def test_what_cannot_be_is_refused_with_its_line(old: str, new: str, fault: str) -> None:
    with pytest.raises(ConfigError) as caught:
        read(TEXT.replace(old, new, 1))
    assert fault in str(caught.value)
    assert str(caught.value).startswith("hpa.yaml:")


def test_metadata_may_be_anything() -> None:
    given: dict[str, Any] = read().metadata.model_dump()
    assert given["name"] == "chat"
