"""Clusters and pods of the packing lab, told to the extender as the API would: both must decide alike."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from extender.placement.allocation import Allocation
from extender.placement.demand import PREFIX, SLICE
from extender.placement.model import INVENTORY
from sim.packing.model import ANY_KIND_MASK, Experiment, Nodes, PodClasses, Trace
from tests.extender.objects import Json, gpu, inventory

#: Model, GPUs, CPU milli, memory MiB; in the order in which kinds of node are numbered.
KINDS: Final = (
    ("a10", 8, 128_000, 262_144),
    ("a40", 8, 96_000, 393_216),
    ("l4", 1, 16_000, 32_768),
    ("t4", 2, 32_000, 65_536),
)
MEMORY_MIB: Final = {"a10": 24_576, "a40": 49_152, "l4": 24_576, "t4": 16_384}


@dataclass(frozen=True)
class Pod:
    """`models`: none are any. `milli`: of one GPU, in whole percent; 0 without a GPU."""

    cpu_milli: int
    memory_mib: int
    milli: int
    gpus: int
    models: tuple[str, ...] = ()


def experiment(kinds: Sequence[int], pods: Sequence[Pod]) -> Experiment:
    """The lab's. Kinds that no node has are left out of the numbering, as they are in a fleet."""
    there = sorted(set(kinds))
    rows = np.array([(*KINDS[k][2:], KINDS[k][1], there.index(k)) for k in kinds], np.int64).T
    names = [KINDS[k][0] for k in there]
    listed = list(dict.fromkeys(pods))
    classes = [
        (
            p.cpu_milli,
            p.memory_mib,
            p.milli,
            p.gpus,
            sum(1 << i for i, n in enumerate(names) if n in p.models) if p.models else ANY_KIND_MASK,
        )
        for p in listed
    ]
    order = np.array([listed.index(p) for p in pods], np.int64)
    trace = Trace("pods", PodClasses.of_rows(np.array(classes, np.int64)), order)
    return Experiment(Nodes(*(np.ascontiguousarray(row) for row in rows)), trace, order)


def name_of(node: int) -> str:
    return f"node-{node:03}"


def node_object(node: int, kind: int) -> Json:
    model, gpus, cpu, memory = KINDS[kind]
    listed = [
        gpu(f"GPU-{node}-{i}", index=i, model=model, mode="mps", memory_mib=MEMORY_MIB[model]) for i in range(gpus)
    ]
    return {
        "metadata": {"name": name_of(node), "annotations": {INVENTORY: inventory(*listed)}},
        "status": {"allocatable": {"cpu": f"{cpu}m", "memory": f"{memory}Mi"}},
    }


def asked(pod: Pod) -> tuple[dict[str, str], dict[str, Any]]:
    """Annotations and resources."""
    requests = {"cpu": f"{pod.cpu_milli}m", "memory": f"{pod.memory_mib}Mi"}
    if not pod.gpus:
        return {}, {"requests": requests}
    ask = {"mode": "exclusive"} if pod.milli == 1000 else {"mode": "mps", "compute": str(pod.milli // 10)}
    ask |= {"gpu-model": ",".join(pod.models)} if pod.models else {}
    return {f"{PREFIX}{k}": v for k, v in ask.items()}, {"requests": requests, "limits": {SLICE: str(pod.gpus)}}


def pod_object(uid: str, pod: Pod, on: str | None = None) -> Json:
    annotations, resources = asked(pod)
    meta = {"uid": uid, "name": uid, "namespace": "team", "annotations": annotations}
    spec: Json = {"containers": [{"name": "main", "resources": resources}]} | ({"nodeName": on} if on else {})
    return {"metadata": meta, "spec": spec, "status": {"phase": "Pending"}}


def gpus_of(allocation: Allocation) -> list[int]:
    return sorted(int(g.uuid.rsplit("-", 1)[1]) for g in allocation.grants())


class Room:
    """CPU and memory as kube-scheduler sees them when it asks the extender about the nodes that have enough."""

    def __init__(self, nodes: Nodes) -> None:
        self._cpu, self._memory = nodes.cpu_milli.copy(), nodes.memory_mib.copy()

    def names(self, pod: Pod) -> list[str]:
        enough = (self._cpu >= pod.cpu_milli) & (self._memory >= pod.memory_mib)
        return [name_of(n) for n in np.flatnonzero(enough).tolist()]

    def take(self, node: int, pod: Pod) -> tuple[int, int]:
        """What is left."""
        self._cpu[node] -= pod.cpu_milli
        self._memory[node] -= pod.memory_mib
        return int(self._cpu[node]), int(self._memory[node])


class Lab:
    """The lab's own run, one arrival after the other."""

    def __init__(self, of: Experiment, scorer: str) -> None:
        from sim.packing.table import SCORERS  # noqa: PLC0415  # compiled code, only where it is compared with

        self._run = SCORERS[scorer.replace("-", "_")](of, 0)
        self._of = of

    def place(self, arrival: int) -> int:
        """The node; -1: nowhere."""
        assert self._run.advance(arrival, arrival + 1) == 1
        return int(self._run.placement.node_of_arrival[arrival])

    def gpu(self, arrival: int) -> int:
        """-1: the first that hold it."""
        return int(self._run.placement.gpu_of_arrival[arrival])
