"""Where a pod may go besides having room: selectors, required node affinity, taints. And what a label selector selects.

Only what can be told from one pod and one node. What depends on other pods is named by `unjudged`.
Source: Kubernetes, "Assigning Pods to Nodes" and "Taints and Tolerations".
"""

from collections.abc import Iterator, Mapping
from typing import Final

from extender.placement.holding import mapping

Json = Mapping[str, object]

CORDONED: Final = {"key": "node.kubernetes.io/unschedulable", "effect": "NoSchedule"}
_KEEPS_OUT: Final = frozenset({"NoSchedule", "NoExecute"})


def admits(node: Json, pod: Json) -> bool:
    """Whether a node would take a pod for all that these two say of themselves."""
    labels, spec = mapping(mapping(node.get("metadata")).get("labels")), mapping(pod.get("spec"))
    if any(labels.get(k) != v for k, v in mapping(spec.get("nodeSelector")).items()):
        return False
    required = mapping(mapping(mapping(spec.get("affinity")).get("nodeAffinity")).get(_REQUIRED))
    if required and not any(_term_holds(term, node) for term in _listed(required.get("nodeSelectorTerms"))):
        return False
    node_spec = mapping(node.get("spec"))
    taints = [*_listed(node_spec.get("taints")), *([CORDONED] if node_spec.get("unschedulable") is True else [])]
    tolerations = list(_listed(spec.get("tolerations")))
    return all(t.get("effect") not in _KEEPS_OUT or any(_tolerates(x, t) for x in tolerations) for t in taints)


def unjudged(pod: Json) -> str | None:
    """What other pods have a say in: where such a pod may go is not told from nodes alone."""
    spec = mapping(pod.get("spec"))
    affinity = mapping(spec.get("affinity"))
    for kind in ("podAffinity", "podAntiAffinity"):
        if mapping(affinity.get(kind)).get(_REQUIRED):
            return f"its required {kind} is for kube-scheduler to judge"
    if any(c.get("whenUnsatisfiable") != "ScheduleAnyway" for c in _listed(spec.get("topologySpreadConstraints"))):
        return "its topologySpreadConstraints are for kube-scheduler to judge"
    return None


def selects(selector: object, labels: Json) -> bool:
    """Whether a LabelSelector selects an object with these labels. Null selects nothing, an empty one everything."""
    if not isinstance(selector, Mapping):
        return False
    if any(labels.get(k) != v for k, v in mapping(selector.get("matchLabels")).items()):
        return False
    return all(_holds(e, labels) for e in _listed(selector.get("matchExpressions")))


_REQUIRED: Final = "requiredDuringSchedulingIgnoredDuringExecution"


def _term_holds(term: Json, node: Json) -> bool:
    """An empty term selects no node."""
    meta = mapping(node.get("metadata"))
    expressions, fields = list(_listed(term.get("matchExpressions"))), list(_listed(term.get("matchFields")))
    named: Json = {"metadata.name": meta.get("name")}
    return bool(expressions or fields) and (
        all(_holds(e, mapping(meta.get("labels"))) for e in expressions) and all(_holds(e, named) for e in fields)
    )


def _holds(expression: Json, labels: Json) -> bool:
    """An operator that is not known holds nowhere."""
    has = labels.get(str(expression.get("key")))
    listed = expression.get("values")
    values = listed if isinstance(listed, list) else []
    operators = {
        "In": has in values,
        "NotIn": has not in values,
        "Exists": has is not None,
        "DoesNotExist": has is None,
        "Gt": _compares(has, values, 1),
        "Lt": _compares(has, values, -1),
    }
    return operators.get(str(expression.get("operator")), False)


def _compares(has: object, values: list[object], sign: int) -> bool:
    numbers = [str(x) for x in (has, *values)]
    if len(numbers) != 2 or not all(x.removeprefix("-").isdecimal() for x in numbers):
        return False
    return (int(numbers[0]) - int(numbers[1])) * sign > 0


def _tolerates(toleration: Json, taint: Json) -> bool:
    if toleration.get("effect") not in {None, "", taint.get("effect")}:
        return False
    if toleration.get("operator") == "Exists":
        return toleration.get("key") in {None, "", taint.get("key")}
    same = toleration.get("key") == taint.get("key")
    return same and (toleration.get("value") or "") == (taint.get("value") or "")


def _listed(found: object) -> Iterator[Json]:
    yield from (x for x in found if isinstance(x, Mapping)) if isinstance(found, list) else ()
