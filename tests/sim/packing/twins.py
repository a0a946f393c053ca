"""The published policies in plain Python, written from their formulas, one pod after another over all nodes."""

import math
from collections.abc import Callable
from dataclasses import dataclass, field

from sim.packing.mix import Mix
from sim.packing.model import Experiment, Placement


@dataclass
class Node:
    cpu: int
    memory: int
    gpus: list[int]
    kind: int
    held: list[str] = field(default_factory=list)  # kind of each GPU pod on it

    def untouched(self) -> bool:
        return all(left == 1000 for left in self.gpus)


@dataclass(frozen=True)
class Pod:
    cpu: int
    memory: int
    milli: int
    gpus: int
    mask: int

    @property
    def shares(self) -> bool:
        return self.gpus == 1 and self.milli < 1000

    @property
    def kind(self) -> str:
        return "share" if self.shares else f"{self.gpus}-gpu"


def fits(node: Node, pod: Pod) -> bool:
    if node.cpu < pod.cpu or node.memory < pod.memory:
        return False
    if pod.gpus == 0:
        return True
    return bool(pod.mask >> node.kind & 1) and sum(left >= pod.milli for left in node.gpus) >= pod.gpus


def fullest(node: Node, pod: Pod) -> int:
    return min((left, i) for i, left in enumerate(node.gpus) if left >= pod.milli)[1]


def take(node: Node, pod: Pod, gpu: int | None) -> None:
    node.cpu -= pod.cpu
    node.memory -= pod.memory
    chosen = [gpu] if gpu is not None else [i for i, left in enumerate(node.gpus) if left >= pod.milli][: pod.gpus]
    for i in chosen:
        node.gpus[i] -= pod.milli
    if pod.gpus:
        node.held.append(pod.kind)


def first_fit(node: Node, pod: Pod) -> tuple[int, int | None]:
    return 0, None


def best_fit(node: Node, pod: Pod) -> tuple[int, int | None]:
    x = 0.5 * (node.cpu - pod.cpu) / 128000 + 0.5 * (sum(node.gpus) - pod.gpus * pod.milli) / 8000
    return int(100 * (1 - x)), fullest(node, pod) if pod.shares else None


def dot_prod(node: Node, pod: Pod) -> tuple[int, int | None]:
    d = node.cpu / 128000 * pod.cpu / 128000 + sum(node.gpus) / 8000 * (pod.gpus * pod.milli) / 8000
    return int(100 * (1 - d / 2)), fullest(node, pod) if pod.shares else None


def gpu_packing(node: Node, pod: Pod) -> tuple[int, int | None]:
    if pod.gpus == 0:
        return 0, None
    gpu = fullest(node, pod) if pod.shares else None
    if node.untouched():
        return max(33 - len(node.gpus), len(node.gpus)), gpu
    picked = sorted(left for left in node.gpus if left >= pod.milli)[: pod.gpus]
    if whole := picked.count(1000):
        return max(50 - whole, 33), gpu
    return max(100 - sum(left * 100 // 1000 for left in picked) // 10, 50), gpu


def gpu_clustering(node: Node, pod: Pod) -> tuple[int, int | None]:
    if pod.gpus == 0:
        return 0, None
    base = 25 * (8000 - sum(node.gpus)) // 8000
    kinds = set(node.held)
    bonus = 25 if not kinds else 75 if kinds == {pod.kind} else 50 if pod.kind in kinds else 0
    return base + bonus, fullest(node, pod) if pod.shares else None


def fragmentation(node: Node, mix: Mix) -> float:
    """F of the paper, type by type in the order of the mix."""
    total = sum(node.gpus)
    expected = 0.0
    for cpu, milli, gpus, mask, share in zip(
        mix.cpu_milli, mix.gpu_milli, mix.gpu_count, mix.kind_mask, mix.share, strict=True
    ):
        usable = gpus and int(mask) >> node.kind & 1 and node.cpu >= cpu and sum(g >= milli for g in node.gpus) >= gpus
        expected += share * (sum(left for left in node.gpus if left < milli) if usable else total)
    return expected


def fgd(mix: Mix) -> "Score":
    def score(node: Node, pod: Pod) -> tuple[int, int | None]:
        before = fragmentation(node, mix)
        choices = [i for i, left in enumerate(node.gpus) if left >= pod.milli] if pod.gpus == 1 else [None]
        best: tuple[int, int | None] | None = None
        for gpu in choices:
            after = Node(node.cpu, node.memory, list(node.gpus), node.kind)
            take(after, pod, gpu)
            value = int(100 / (1 + math.exp(-(before - fragmentation(after, mix)) / 1000)))
            # Equal GPUs are one choice, and of unequal ones with equal scores the emptiest is meant.
            if best is None or (value, _left(node, gpu)) > (best[0], _left(node, best[1])):
                best = value, gpu
        assert best is not None
        return best

    return score


def _left(node: Node, gpu: int | None) -> int:
    return 0 if gpu is None else node.gpus[gpu]


Score = Callable[[Node, Pod], tuple[int, int | None]]


def nodes_of(experiment: Experiment) -> list[Node]:
    n = experiment.nodes
    return [
        Node(int(cpu), int(memory), [1000] * int(gpus), int(kind))
        for cpu, memory, gpus, kind in zip(n.cpu_milli, n.memory_mib, n.gpu_count, n.kind_id, strict=True)
    ]


def pods_of(experiment: Experiment) -> list[Pod]:
    rows = experiment.trace.classes.rows()
    return [Pod(*(int(value) for value in rows[i])) for i in experiment.class_of_arrival]


def place_all(experiment: Experiment, score: Score) -> list[int]:
    """Node of each arrival, -1 for none; the first of equals."""
    nodes = nodes_of(experiment)
    chosen: list[int] = []
    for pod in pods_of(experiment):
        scored = [(score(node, pod), i) for i, node in enumerate(nodes) if fits(node, pod)]
        if not scored:
            chosen.append(-1)
            continue
        (_, gpu), i = max(scored, key=lambda entry: (entry[0][0], -entry[1]))
        take(nodes[i], pod, gpu)
        chosen.append(i)
    return chosen


def first_broken_law(experiment: Experiment, placement: Placement) -> int | None:
    """The first arrival that was put where it does not fit, or refused though it fits."""
    nodes = nodes_of(experiment)
    for i, pod in enumerate(pods_of(experiment)):
        node, gpu = int(placement.node_of_arrival[i]), int(placement.gpu_of_arrival[i])
        if node < 0:
            if any(fits(other, pod) for other in nodes):
                return i
            continue
        if not fits(nodes[node], pod) or (gpu >= 0 and nodes[node].gpus[gpu] < pod.milli):
            return i
        take(nodes[node], pod, gpu if gpu >= 0 else None)
    return None
