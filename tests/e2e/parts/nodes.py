"""Fake nodes: API objects that KWOK keeps alive. Their GPUs are what their agent publishes."""

from typing import Final

from tests.e2e.parts.client import Api, Json
from tests.e2e.parts.kwok import FAKE_NODE
from tests.e2e.parts.waiting import wait_for

#: Keeps everybody else's pods away from nodes that are not there, in a given cluster too.
TAINT: Final = {"key": "slicewise.dev/e2e", "value": "fake", "effect": "NoSchedule"}
TOLERATION: Final = {"key": TAINT["key"], "operator": "Exists"}


def fake_node(name: str) -> Json:
    capacity = {"cpu": "64", "memory": "512Gi", "pods": "110"}
    return {
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {"name": name, "labels": {**FAKE_NODE, "kubernetes.io/hostname": name}},
        "spec": {"taints": [TAINT]},
        "status": {"capacity": capacity, "allocatable": capacity},
    }


def add_nodes(api: Api, *names: str) -> None:
    """Creates nodes and waits until they are ready."""
    for name in names:
        api.create("/api/v1/nodes", fake_node(name))
    for name in names:
        wait_for(f"node {name} ready", lambda name=name: _ready(api, name), within_s=60)  # type: ignore[misc]


def _ready(api: Api, name: str) -> bool:
    node = api.get(f"/api/v1/nodes/{name}")
    conditions = node["status"].get("conditions", [])
    ready = any(c["type"] == "Ready" and c["status"] == "True" for c in conditions)
    return ready and all(taint["key"] == TAINT["key"] for taint in node["spec"].get("taints", []))
