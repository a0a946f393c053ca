"""Fake nodes: API objects that KWOK keeps alive. Their GPUs are what their agent publishes."""

from functools import partial
from typing import Final

from tests.e2e.parts.client import Api, Json
from tests.e2e.parts.kwok import FAKE_NODE
from tests.e2e.parts.waiting import wait_for

#: Keeps everybody else's pods away from nodes that are not there, in a given cluster too.
TAINT: Final = {"key": "slicewise.dev/e2e", "value": "fake", "effect": "NoSchedule"}
TOLERATION: Final = {"key": TAINT["key"], "operator": "Exists"}


def fake_node(name: str, *, cpus: int) -> Json:
    capacity = {"cpu": str(cpus), "memory": "512Gi", "pods": "110"}
    return {
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {"name": name, "labels": {**FAKE_NODE, "kubernetes.io/hostname": name}},
        "spec": {"taints": [TAINT]},
        "status": {"capacity": capacity, "allocatable": capacity},
    }


def add_nodes(api: Api, *names: str, cpus: int = 64) -> None:
    """Creates nodes and waits until they are ready."""
    for name in names:
        api.create("/api/v1/nodes", fake_node(name, cpus=cpus))
    for name in names:
        wait_for(f"node {name} ready", partial(_ready, api, name), within_s=60)


def remove_nodes(api: Api, *names: str) -> None:
    """Deletes nodes and what their agents left, and waits until they are gone."""
    for name in names:
        api.delete(f"/api/v1/nodes/{name}")
        api.delete(f"/apis/coordination.k8s.io/v1/namespaces/slicewise/leases/{name}")
    for name in names:
        path = f"/api/v1/nodes/{name}"
        wait_for(f"node {name} gone", partial(_gone, api, path), within_s=60)


def _gone(api: Api, path: str) -> bool:
    return not api.exists(path)


def _ready(api: Api, name: str) -> bool:
    node = api.get(f"/api/v1/nodes/{name}")
    conditions = node["status"].get("conditions", [])
    ready = any(c["type"] == "Ready" and c["status"] == "True" for c in conditions)
    return ready and all(taint["key"] == TAINT["key"] for taint in node["spec"].get("taints", []))
