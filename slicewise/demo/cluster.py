"""The cluster as API objects: three GPU nodes, a Deployment of agents, and guests that take what room is left."""

import json
from dataclasses import dataclass
from typing import Final

from slicewise.demo.controllers import DEPLOYMENTS, GRACE_S, NAMESPACE, PODS, RUNS_FOR
from slicewise.demo.kube_scheduler import NODES
from slicewise.demo.kube_store import Collection, Store
from slicewise.demo.promises import INVENTORY, Json, Part, parts
from slicewise.process.lease import micro_time

WORKLOAD: Final = "coder"
LEASES: Final = Collection("coordination.k8s.io/v1", "leases", "slicewise")
SCALED_OBJECTS: Final = Collection("keda.sh/v1alpha1", "scaledobjects", NAMESPACE)
SLICE: Final = "slicewise.dev/gpu-slice"
FIRST_REPLICAS: Final = 2


@dataclass(frozen=True, slots=True)
class GpuNode:
    """`modes`: one a GPU."""

    name: str
    model: str
    memory_mib: int
    modes: tuple[str, ...]

    def uuid(self, index: int) -> str:
        return f"GPU-{self.name}-{index}"


GPU_NODES: Final = (
    GpuNode("gpu-a", "a100-80", 81920, ("mig", "mig", "mig", "mig")),
    GpuNode("gpu-b", "h100-80", 81559, ("mig", "mig")),
    GpuNode("gpu-c", "a100-80", 81920, ("mps", "mps", "exclusive")),
)


@dataclass(frozen=True, slots=True)
class Guest:
    """A pod of somebody else: when it comes, how long it runs (None: for ever), what it demands."""

    name: str
    at_s: float
    runs_for_s: float | None
    demand: dict[str, str]
    priority: int = 0


def _mps(memory: str, compute_pct: int) -> dict[str, str]:
    return {"slicewise.dev/memory": memory, "slicewise.dev/compute": str(compute_pct), "slicewise.dev/mode": "mps"}


def _mig(profile: str) -> dict[str, str]:
    return {"slicewise.dev/profile": profile}


def _evals(at_s: float, letters: str) -> list[Guest]:
    """Small and short ones, with letters for names: a slice of one unit is two characters wide on the map."""
    return [Guest(f"eval-{c}", at_s + 20 * i, 240 + 60 * i, _mig("1g.10gb")) for i, c in enumerate(letters)]


WHOLE: Final = {"slicewise.dev/mode": "exclusive"}
#: Times of one round of the story, in cluster seconds.
_GUESTS: Final = (
    Guest("notebook-1", 0, None, _mps("10Gi", 10)),
    Guest("notebook-2", 90, None, _mps("16Gi", 20)),
    *_evals(60, "abc"),
    Guest("index-1", 200, 700, _mig("3g.40gb")),
    Guest("train-1", 260, 420, WHOLE),
    *_evals(330, "defg"),
    Guest("index-2", 380, 600, _mig("3g.40gb")),
    Guest("batch-1", 400, 700, _mig("7g.80gb")),
    Guest("index-3", 440, 600, _mig("3g.40gb")),
    *_evals(470, "hijk"),
    Guest("index-4", 500, 500, _mig("3g.40gb")),
    Guest("fit-1", 540, 600, _mig("2g.20gb")),
    Guest("fit-2", 545, 600, _mig("2g.20gb")),
    *_evals(560, "lmno"),
    Guest("train-2", 640, 400, WHOLE),
    *_evals(1300, "pqrs"),
)
#: In the order in which they come.
GUESTS: Final = tuple(sorted(_GUESTS, key=lambda guest: guest.at_s))


def populate(store: Store, scaled_object: Json, now_s: float) -> None:
    for node in GPU_NODES:
        gpus = [_gpu(node, index, mode) for index, mode in enumerate(node.modes)]
        annotations = {INVENTORY: json.dumps({"version": 1, "gpus": gpus})}
        capacity = {SLICE: "64", "cpu": "128", "memory": "1Ti"}
        status = {"capacity": capacity, "allocatable": capacity, "conditions": [{"type": "Ready", "status": "True"}]}
        store.create(NODES, {"metadata": {"name": node.name, "annotations": annotations}, "status": status})
        store.create(LEASES, {"metadata": {"name": node.name}, "spec": {"holderIdentity": node.name}})
    heartbeat(store, now_s)
    store.create(DEPLOYMENTS, deployment())
    store.create(SCALED_OBJECTS, scaled_object)


def heartbeat(store: Store, now_s: float) -> None:
    """The node agents' sign of life; `now_s`: seconds since the epoch, as the extender's clock has it."""
    for node in GPU_NODES:
        store.merge_patch(LEASES, node.name, {"spec": {"renewTime": micro_time(now_s), "leaseDurationSeconds": 30}})


def deployment() -> Json:
    demand = {"slicewise.dev/memory": "18Gi", "slicewise.dev/compute": "25"}
    labels = {"app": WORKLOAD}
    spec = {**pod_spec(priority=100), "terminationGracePeriodSeconds": GRACE_S}
    template = {"metadata": {"labels": labels, "annotations": demand}, "spec": spec}
    status: dict[str, int] = {"replicas": 0, "readyReplicas": 0}
    wanted = {"replicas": FIRST_REPLICAS, "selector": {"matchLabels": labels}, "template": template}
    return {"metadata": {"name": WORKLOAD}, "spec": wanted, "status": status}


def admit(store: Store, guest: Guest, name: str) -> None:
    annotations = dict(guest.demand)
    if guest.runs_for_s is not None:
        annotations[RUNS_FOR] = f"{guest.runs_for_s:g}"
    store.create(PODS, {"metadata": {"name": name, "annotations": annotations}, "spec": pod_spec(guest.priority)})


def pod_spec(priority: int) -> Json:
    container = {"name": "main", "image": "agent", "resources": {"limits": {SLICE: "1"}, "requests": {SLICE: "1"}}}
    return {"schedulerName": "slicewise", "priority": priority, "containers": [container]}


def publish_instances(store: Store) -> None:
    """What the node agents do when an allocation appears or goes: MIG instances follow it, and are reported."""
    held = {(part.uuid, part.start): part for part in parts(store.objects(PODS)) if part.mode == "mig"}
    for node in store.objects(NODES):
        inventory = json.loads(node["metadata"]["annotations"][INVENTORY])
        for gpu in inventory["gpus"]:
            gpu["instances"] = [
                _instance(uuid, held[uuid, start]) for uuid, start in sorted(held) if uuid == gpu["uuid"]
            ]
        text = json.dumps(inventory)
        store.merge_patch(NODES, node["metadata"]["name"], {"metadata": {"annotations": {INVENTORY: text}}})


def _instance(uuid: str, part: Part) -> Json:
    place = {"profile": part.profile, "start": part.start, "size": part.size}
    return {**place, "uuid": f"MIG-{uuid}-{part.start}", "managed": True}


def _gpu(node: GpuNode, index: int, mode: str) -> Json:
    gpu = {"uuid": node.uuid(index), "index": index, "model": node.model, "memory_mib": node.memory_mib, "mode": mode}
    return {**gpu, "healthy": True, "numa": index // 2}
