"""Clusters for advice: pods that were placed by the ledger itself, with owners, budgets and sessions."""

from collections.abc import Mapping, Sequence
from typing import Any

from hypothesis import strategies as st

from extender.ledger import Ledger
from extender.placement.allocation import Allocation
from extender.placement.demand import Demand
from extender.survey import Objects, Survey, survey
from tests.extender.clusters import demand_of
from tests.extender.objects import NOW_S, Json, gpu, node, pod

OWNED = {"ownerReferences": [{"kind": "ReplicaSet", "name": "web", "controller": True}]}


def placed(uid: str, on: str, allocation: Allocation | None = None, **fields: Any) -> Json:  # noqa: ANN401
    """A bound pod with a controller. `labels`, `annotations`, `owners` go into its metadata, `spec` into its spec."""
    labels, annotations = fields.pop("labels", {}), fields.pop("annotations", {})
    owners, spec = fields.pop("owners", OWNED["ownerReferences"]), fields.pop("spec", {})
    made = pod(uid, on=on, allocation=allocation, phase="Running", **fields)
    made["metadata"] |= {"labels": labels, "ownerReferences": owners}
    made["metadata"]["annotations"] |= annotations
    made["spec"] |= spec
    return made


def budget(name: str, allowed: object, selector: object, **status: object) -> Json:
    return {
        "metadata": {"name": name, "namespace": "team", "generation": 1},
        "spec": {"selector": selector},
        "status": {"disruptionsAllowed": allowed, "observedGeneration": 1, **status},
    }


def surveyed(nodes: Sequence[Json], pods: Sequence[Json], budgets: Sequence[Json] = ()) -> Survey:
    """All nodes alive."""
    objects = Objects(nodes, pods, budgets, {n["metadata"]["name"]: NOW_S for n in nodes})
    return survey(objects, NOW_S, Ledger(stale_after_s=60.0))


def ledger_of(nodes: Sequence[Json], pods: Sequence[Json]) -> Ledger:
    made = Ledger()
    for n in nodes:
        made.put_node_object(n)
        made.heartbeat(n["metadata"]["name"], NOW_S)
    for p in pods:
        made.put_pod(p)
    return made


def fits(made: Ledger, demand: Demand, nodes: Sequence[str]) -> list[str]:
    """Nodes where a demand fits, tried one by one by reserving and giving back."""
    found = []
    for name in nodes:
        if isinstance(made.assume(demand.uid, demand.key, demand, name, NOW_S), Allocation):
            found.append(name)
            made.forget(demand.uid)
    return found


@st.composite
def fleets(draw: st.DrawFn) -> tuple[list[Json], list[Json], list[Json]]:
    """Up to three nodes of one or two MIG GPUs, pods on them where a draw put them, and two budgets."""
    names = [f"n{i}" for i in range(draw(st.integers(1, 3)))]
    counts = {name: draw(st.integers(1, 2)) for name in names}
    nodes = [node(name, *(gpu(f"GPU-{name}-{i}", index=i) for i in range(counts[name]))) for name in names]
    empty = ledger_of(nodes, [])
    pods = []
    for i in range(draw(st.integers(0, 9))):
        asked: Mapping[str, str] = {"profile": draw(st.sampled_from(["1g.10gb", "2g.20gb", "3g.40gb", "1g.20gb"]))}
        fields: dict[str, Any] = {"ask": asked, "priority": draw(st.integers(0, 2))}
        labels = {"app": draw(st.sampled_from(["a", "b", "c"]))}
        notes = {"slicewise.dev/sessions": str(draw(st.sampled_from([0, 0, 0, 2])))}
        wanted = demand_of(pod(f"p{i}", **fields))
        on = draw(st.sampled_from(names))
        found = empty.assume(wanted.uid, wanted.key, wanted, on, NOW_S)
        if isinstance(found, Allocation):
            pods.append(placed(f"p{i}", on, found, labels=labels, annotations=notes, **fields))
    budgets = [budget(app, draw(st.integers(0, 2)), {"matchLabels": {"app": app}}) for app in ("a", "b")]
    return nodes, pods, budgets
