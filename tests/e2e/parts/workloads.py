"""The example agents of manifests/, applied with quicker periods, and what becomes of them."""

import time
from collections.abc import Sequence
from functools import partial
from typing import Final

from tests.e2e.parts.client import Api, Json
from tests.e2e.parts.kustomize import MANIFESTS, build, find, overlaid
from tests.e2e.parts.nodes import TOLERATION
from tests.e2e.parts.waiting import wait_for

NAMESPACE: Final = "agents"
AGENTS: Final = build(MANIFESTS / "examples" / "agents")
DEPLOYMENTS: Final = f"/apis/apps/v1/namespaces/{NAMESPACE}/deployments"
SCALED_OBJECTS: Final = f"/apis/keda.sh/v1alpha1/namespaces/{NAMESPACE}/scaledobjects"
PODS: Final = f"/api/v1/namespaces/{NAMESPACE}/pods"

# Seconds instead of minutes, for the tests' patience; the shipped values differ in size, not in kind.
POLLING_S: Final = 5
COOLDOWN_S: Final = 10
STABILIZATION_DOWN: Final = "10s"


def deployment(name: str, *, replicas: int = 0) -> Json:
    """The shipped Deployment, tolerating fake nodes, starting at `replicas`."""
    pod = {"tolerations": [TOLERATION], "terminationGracePeriodSeconds": 1}
    return overlaid(find(AGENTS, "Deployment", name), {"spec": {"replicas": replicas, "template": {"spec": pod}}})


def scaled_object(name: str, *, scaler: str, most: int, trigger_type: str = "external") -> Json:
    """The shipped ScaledObject, asking the scaler at this address, at most `most` replicas, with quicker periods."""
    shipped = find(AGENTS, "ScaledObject", name)
    (trigger,) = shipped["spec"]["triggers"]
    metadata = {
        **trigger["metadata"],
        "scalerAddress": scaler,
        "stabilizationDown": STABILIZATION_DOWN,
        "window": "30s",
    }
    quick = {"policies": [{"type": "Pods", "value": 4, "periodSeconds": POLLING_S}]}
    return overlaid(
        shipped,
        {
            "spec": {
                "pollingInterval": POLLING_S,
                "cooldownPeriod": COOLDOWN_S,
                "maxReplicaCount": most,
                "triggers": [{**trigger, "type": trigger_type, "metadata": metadata}],
                "advanced": {"horizontalPodAutoscalerConfig": {"behavior": {"scaleUp": quick, "scaleDown": quick}}},
            }
        },
    )


def replicas(api: Api, name: str) -> int:
    """How many replicas the Deployment is told to have."""
    wanted: int = api.get(f"{DEPLOYMENTS}/{name}")["spec"]["replicas"]
    return wanted


def pods(api: Api, name: str) -> list[Json]:
    return api.items(PODS, labelSelector=f"app={name}")


def running(api: Api, name: str) -> list[Json]:
    """Pods that are bound, run, and are not on their way out."""
    return [
        pod
        for pod in pods(api, name)
        if pod["status"].get("phase") == "Running" and "deletionTimestamp" not in pod["metadata"]
    ]


def runs(api: Api, name: str, count: int) -> bool:
    return len(running(api, name)) == count


def runs_at_least(api: Api, name: str, count: int) -> bool:
    return len(running(api, name)) >= count


def at_zero(api: Api, name: str) -> bool:
    """No replicas wanted and no pods left."""
    return replicas(api, name) == 0 and not pods(api, name)


def watched(api: Api, name: str) -> bool:
    """KEDA has taken the ScaledObject on."""
    status = api.get(f"{SCALED_OBJECTS}/{name}").get("status", {})
    return any(c["type"] == "Ready" and c["status"] == "True" for c in status.get("conditions", []))


def remove(api: Api, names: Sequence[str]) -> None:
    """Deletes workloads and waits until their pods are gone."""
    for name in names:
        api.delete(f"{SCALED_OBJECTS}/{name}")
    for name in names:
        wait_for(f"ScaledObject {name} gone", partial(_gone, api, f"{SCALED_OBJECTS}/{name}"), within_s=60)
        api.delete(f"{DEPLOYMENTS}/{name}")
    for name in names:
        wait_for(f"pods of {name} gone", partial(_no_pods, api, name), within_s=90)


def _gone(api: Api, path: str) -> bool:
    return not api.exists(path)


def _no_pods(api: Api, name: str) -> bool:
    return not pods(api, name)


class ReplicaHistory:
    """Each number of replicas that a Deployment was told to have, with the time since the first look."""

    def __init__(self, api: Api, name: str) -> None:
        self._api = api
        self._name = name
        self._begun_s = time.monotonic()
        self.changes: list[tuple[float, int]] = []

    def look(self) -> None:
        now = replicas(self._api, self._name)
        if not self.changes or self.changes[-1][1] != now:
            self.changes.append((round(time.monotonic() - self._begun_s, 1), now))

    @property
    def seen(self) -> list[int]:
        return [count for _, count in self.changes]
