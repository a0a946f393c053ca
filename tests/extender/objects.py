"""Pods, nodes and inventories as the API would send them, with what matters as arguments."""

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from extender.ledger import Ledger
from extender.placement.allocation import ALLOCATION, Allocation
from extender.placement.demand import PREFIX, SLICE, Demand
from extender.placement.model import INVENTORY, Gpu, Inventory

Json = dict[str, Any]
NOW_S = 1_000.0


def gpu(uuid: str = "GPU-0", *, index: int = 0, model: str = "a100-80", mode: str = "mig", **more: Any) -> Json:  # noqa: ANN401
    return {"uuid": uuid, "index": index, "model": model, "memory_mib": 81920, "mode": mode, **more}


def inventory(*gpus: Json) -> str:
    return json.dumps({"version": 1, "gpus": list(gpus)})


def parsed(*gpus: Json) -> Inventory:
    found, problems = Inventory.parse(inventory(*gpus))
    assert not problems
    return found


def one_gpu(**fields: Any) -> Gpu:  # noqa: ANN401
    return parsed(gpu(**fields)).gpus[0]


def node(name: str, *gpus: Json) -> Json:
    return {"metadata": {"name": name, "annotations": {INVENTORY: inventory(*gpus)}}}


def container(name: str = "main", count: object = 1, **fields: object) -> Json:
    return {"name": name, "resources": {"limits": {SLICE: str(count)}}, **fields}


def pod(
    uid: str = "u1",
    *,
    ask: Mapping[str, str] | None = None,
    containers: Sequence[Json] | None = None,
    init: Sequence[Json] = (),
    namespace: str = "team",
    priority: int | None = None,
    on: str | None = None,
    allocation: Allocation | str | None = None,
    phase: str = "Pending",
    leaving: bool = False,
    nominated: str | None = None,
) -> Json:
    """A pod that wants one 1g.10gb slice, unless told otherwise."""
    asked = {"profile": "1g.10gb"} if ask is None else ask
    annotations = {f"{PREFIX}{k}": v for k, v in asked.items()}
    if allocation is not None:
        annotations[ALLOCATION] = allocation if isinstance(allocation, str) else allocation.encode()
    meta: Json = {"uid": uid, "name": f"pod-{uid}", "namespace": namespace, "annotations": annotations}
    if leaving:
        meta["deletionTimestamp"] = "2026-01-01T00:00:00Z"
    spec: Json = {"containers": [container()] if containers is None else list(containers)}
    spec |= {"initContainers": list(init)} if init else {}
    spec |= {"priority": priority} if priority is not None else {}
    spec |= {"nodeName": on} if on else {}
    status: Json = {"phase": phase} | ({"nominatedNodeName": nominated} if nominated else {})
    return {"metadata": meta, "spec": spec, "status": status}


def demand(uid: str = "u1", **fields: Any) -> Demand:  # noqa: ANN401
    found = Demand.of(pod(uid, **fields))
    assert found is not None
    return found


def ledger(nodes: Iterable[Json], *, scorer: str = "fragmentation") -> Ledger:
    """All nodes alive at NOW_S."""
    made = Ledger(scorer=scorer)
    for n in nodes:
        made.put_node_object(n)
        made.heartbeat(n["metadata"]["name"], NOW_S)
    return made


def held(made: Ledger, uid: str) -> Allocation:
    holding = made.holding(uid)
    assert holding is not None
    return holding.allocation
