"""Stand-ins for what a cluster does around a bound pod: the ReplicaSet makes it, the kubelet starts and ends it."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np

from slicewise.demo.kube_store import Collection, Store
from slicewise.demo.promises import IN_FLIGHT, Json

NAMESPACE: Final = "agents"
PODS: Final = Collection("v1", "pods", NAMESPACE)
DEPLOYMENTS: Final = Collection("apps/v1", "deployments", NAMESPACE)
#: What names of pods are made of (k8s.io/apimachinery/pkg/util/rand: no vowels, no 0 1 3).
SUFFIX_LETTERS: Final = "bcdfghjklmnpqrstvwxz2456789"
#: A cold start: pull the image, load the weights into the slice, warm up.
COLD_START_S: Final = 45.0
COLD_START_SPREAD_S: Final = 20.0
#: terminationGracePeriodSeconds of an agent pod: enough for the turns in flight, too little for a whole session.
GRACE_S: Final = 90
RUNS_FOR: Final = "demo.slicewise.dev/runs-for-s"


def is_ready(pod: Json) -> bool:
    return any(c["type"] == "Ready" and c["status"] == "True" for c in pod.get("status", {}).get("conditions", []))


def is_leaving(pod: Json) -> bool:
    return "deletionTimestamp" in pod["metadata"]


def owned(store: Store, workload: str) -> list[Json]:
    return store.objects(PODS, lambda pod: pod["metadata"].get("labels", {}).get("app") == workload)


class ReplicaSet:
    """Makes and deletes the pods of one Deployment, and keeps its status."""

    def __init__(self, store: Store, workload: str, seed: int) -> None:
        self._store = store
        self._workload = workload
        self._rng = np.random.default_rng(seed)

    def step(self) -> None:
        deployment = self._store.get(DEPLOYMENTS, self._workload)
        pods = owned(self._store, self._workload)
        kept = [pod for pod in pods if not is_leaving(pod)]
        wanted = deployment["spec"]["replicas"]
        for _ in range(wanted - len(kept)):
            self._store.create(PODS, self._new(deployment["spec"]["template"]))
        for pod in sorted(kept, key=deletion_rank)[: max(0, len(kept) - wanted)]:
            self._store.delete(PODS, pod["metadata"]["name"], grace_s=GRACE_S)
        kept = [pod for pod in owned(self._store, self._workload) if not is_leaving(pod)]
        status = {"replicas": len(kept), "readyReplicas": sum(map(is_ready, kept))}
        self._store.merge_patch(DEPLOYMENTS, self._workload, {"status": status})

    def _new(self, template: Json) -> Json:
        suffix = "".join(self._rng.choice(list(SUFFIX_LETTERS), 5))
        name = f"{self._workload}-6d4b75cb6d-{suffix}"
        return {"metadata": {**template["metadata"], "name": name}, "spec": template["spec"]}


def deletion_rank(pod: Json) -> tuple[Any, ...]:
    """Lowest goes first: unbound, pending, unready, cheap to delete, newest.

    Source: kubernetes/kubernetes pkg/controller/controller_utils.go, ActivePodsWithRanks (ranks of nodes left out).
    """
    metadata, running = pod["metadata"], pod.get("status", {}).get("phase") == "Running"
    cost = int(metadata.get("annotations", {}).get("controller.kubernetes.io/pod-deletion-cost", "0"))
    return ("nodeName" in pod["spec"], running, is_ready(pod), cost, -int(metadata["uid"][:8], 16))


@dataclass(slots=True)
class _Life:
    ready_s: float
    ends_s: float | None
    leaving_s: float | None = None


@dataclass(slots=True)
class Kubelet:
    """Starts the pods that are bound to a node and ends those that are to go.

    `drain`: tells a pod to take nothing new, answers how many requests it still has. `started`, `gone`: told of each
    pod that has become ready, or has ended.
    """

    store: Store
    drain: Callable[[str], int]
    started: Callable[[Json], None]
    gone: Callable[[Json], None]
    seed: int
    _lives: dict[str, _Life] = field(default_factory=dict)
    _rng: np.random.Generator = field(init=False)

    def __post_init__(self) -> None:
        self._rng = np.random.default_rng(self.seed)

    def step(self, now_s: float) -> None:
        for pod in self.store.objects(PODS):
            if "nodeName" not in pod["spec"]:
                continue
            name = pod["metadata"]["name"]
            if name not in self._lives:
                self._lives[name] = self._start(pod, now_s)
            life = self._lives[name]
            if is_leaving(pod):
                self._drain(pod, life, now_s)
            elif life.ends_s is not None and now_s >= life.ends_s:
                self._end(pod)
            elif now_s >= life.ready_s and not is_ready(pod):
                self.started(self.store.merge_patch(PODS, name, {"status": _running(pod["status"], "True")}))

    def _start(self, pod: Json, now_s: float) -> _Life:
        ready_s = now_s + COLD_START_S + float(self._rng.uniform(0, COLD_START_SPREAD_S))
        self.store.merge_patch(PODS, pod["metadata"]["name"], {"status": _running(pod["status"], "False")})
        runs_for = pod["metadata"].get("annotations", {}).get(RUNS_FOR)
        return _Life(ready_s, None if runs_for is None else ready_s + float(runs_for))

    def _drain(self, pod: Json, life: _Life, now_s: float) -> None:
        """A leaving pod takes nothing new. It ends when its turns are answered, or when its grace is over."""
        name = pod["metadata"]["name"]
        left = self.drain(name)
        pod = self.store.merge_patch(PODS, name, {"metadata": {"annotations": {IN_FLIGHT: str(left)}}})
        life.leaving_s = now_s if life.leaving_s is None else life.leaving_s
        if left == 0 or now_s - life.leaving_s >= GRACE_S:
            self._end(pod)

    def _end(self, pod: Json) -> None:
        name = pod["metadata"]["name"]
        del self._lives[name]
        self.gone(self.store.delete(PODS, name))


def _running(status: Mapping[str, Any], ready: str) -> Json:
    others = [condition for condition in status.get("conditions", []) if condition["type"] != "Ready"]
    return {"phase": "Running", "conditions": [*others, {"type": "Ready", "status": ready}]}
