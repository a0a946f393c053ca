from typing import Any

import pytest

from extender.placement.eligible import admits, selects, unjudged

NODE = {"metadata": {"name": "n0", "labels": {"zone": "a", "gpus": "4"}}, "spec": {}}
TAINT = {"key": "gpu", "value": "yes", "effect": "NoSchedule"}
REQUIRED = "requiredDuringSchedulingIgnoredDuringExecution"


def node(**spec: object) -> dict[str, object]:
    return NODE | {"spec": spec}


def pod(**spec: object) -> dict[str, object]:
    return {"spec": spec}


def affine(*terms: object) -> dict[str, object]:
    return pod(affinity={"nodeAffinity": {REQUIRED: {"nodeSelectorTerms": list(terms)}}})


def expression(operator: str, *values: str, key: str = "zone") -> dict[str, Any]:
    return {"key": key, "operator": operator, "values": list(values)}


@pytest.mark.parametrize(
    ("where", "who", "admitted"),
    [
        pytest.param(NODE, pod(), True, id="a plain pod goes to a plain node"),
        pytest.param(NODE, pod(nodeSelector={"zone": "a"}), True, id="its selector names the node's label"),
        pytest.param(NODE, pod(nodeSelector={"zone": "b"}), False, id="its selector names another value"),
        pytest.param(node(unschedulable=True), pod(), False, id="the node is cordoned"),
        pytest.param(
            node(unschedulable=True),
            pod(tolerations=[{"key": "node.kubernetes.io/unschedulable", "operator": "Exists"}]),
            True,
            id="the pod tolerates a cordon",
        ),
        pytest.param(node(taints=[TAINT]), pod(), False, id="a taint keeps it out"),
        pytest.param(node(taints=[TAINT | {"effect": "PreferNoSchedule"}]), pod(), True, id="a soft taint does not"),
        pytest.param(
            node(taints=[TAINT]), pod(tolerations=[{"key": "gpu", "value": "yes"}]), True, id="its toleration is equal"
        ),
        pytest.param(
            node(taints=[TAINT]),
            pod(tolerations=[{"key": "gpu", "value": "no"}]),
            False,
            id="another value is tolerated",
        ),
        pytest.param(
            node(taints=[TAINT]), pod(tolerations=[{"operator": "Exists"}]), True, id="everything is tolerated"
        ),
        pytest.param(
            node(taints=[TAINT]),
            pod(tolerations=[{"operator": "Exists", "effect": "NoExecute"}]),
            False,
            id="another effect is tolerated",
        ),
        pytest.param(NODE, affine({"matchExpressions": [expression("In", "a", "b")]}), True, id="its affinity holds"),
        pytest.param(
            NODE,
            affine({"matchExpressions": [expression("In", "b")]}, {"matchExpressions": [expression("Exists")]}),
            True,
            id="one of two terms is enough",
        ),
        pytest.param(NODE, affine({}), False, id="an empty term selects nothing"),
        pytest.param(
            NODE, affine({"matchFields": [expression("In", "n0", key="metadata.name")]}), True, id="its name is meant"
        ),
        pytest.param(
            NODE,
            affine({"matchFields": [expression("In", "n1", key="metadata.name")]}),
            False,
            id="another name is meant",
        ),
    ],
)
def test_admits(where: dict[str, object], who: dict[str, object], admitted: bool) -> None:
    assert admits(where, who) is admitted


@pytest.mark.parametrize(
    ("selector", "selected"),
    [
        pytest.param(None, False, id="null selects nothing"),
        pytest.param({}, True, id="empty selects everything"),
        pytest.param({"matchLabels": {"zone": "a"}}, True, id="equal"),
        pytest.param({"matchLabels": {"zone": "b"}}, False, id="not equal"),
        pytest.param({"matchExpressions": [expression("In", "a")]}, True, id="in"),
        pytest.param({"matchExpressions": [expression("NotIn", "a")]}, False, id="not in"),
        pytest.param({"matchExpressions": [expression("NotIn", "a", key="none")]}, True, id="not in, label missing"),
        pytest.param({"matchExpressions": [expression("Exists", key="none")]}, False, id="exists"),
        pytest.param({"matchExpressions": [expression("DoesNotExist", key="none")]}, True, id="does not exist"),
        pytest.param({"matchExpressions": [expression("Gt", "3", key="gpus")]}, True, id="greater"),
        pytest.param({"matchExpressions": [expression("Lt", "3", key="gpus")]}, False, id="less"),
        pytest.param({"matchExpressions": [expression("Gt", "3")]}, False, id="greater, no number"),
        pytest.param({"matchExpressions": [expression("Gt", key="gpus")]}, False, id="greater than nothing"),
        pytest.param({"matchExpressions": [{"key": "zone", "operator": "Like"}]}, False, id="an unknown operator"),
    ],
)
def test_selects(selector: object, selected: bool) -> None:
    assert selects(selector, {"zone": "a", "gpus": "4"}) is selected


@pytest.mark.parametrize(
    ("who", "why"),
    [
        pytest.param(pod(), None, id="nothing"),
        pytest.param(
            pod(affinity={"podAntiAffinity": {REQUIRED: [{"topologyKey": "zone"}]}}),
            "its required podAntiAffinity is for kube-scheduler to judge",
            id="required anti-affinity",
        ),
        pytest.param(
            pod(topologySpreadConstraints=[{"whenUnsatisfiable": "DoNotSchedule"}]),
            "its topologySpreadConstraints are for kube-scheduler to judge",
            id="hard spread",
        ),
        pytest.param(pod(topologySpreadConstraints=[{"whenUnsatisfiable": "ScheduleAnyway"}]), None, id="soft spread"),
    ],
)
def test_unjudged(who: dict[str, object], why: str | None) -> None:
    assert unjudged(who) == why
