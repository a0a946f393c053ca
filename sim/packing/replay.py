"""The "replay" recipe: pods arrive and leave at the trace's own times, wait in a queue, retry, may push others out.

A pod that fits nowhere waits. Whenever something leaves, those that wait are tried again: the more important first,
then the earlier. A pod that finds no place when it comes evicts less important ones where that frees it a place with
the least GPU work lost; the evicted go back to the queue and start anew. openb's classes: LS (latency-sensitive),
Guaranteed and Burstable pods go before BE (best effort).
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from heapq import heappop, heappush
from time import perf_counter
from typing import Final, Protocol

import numpy as np

from sim.packing.arguments import DEFAULT_SCORER
from sim.packing.cluster import Cluster, Requests
from sim.packing.model import Experiment, IntArray, Nodes, PodClasses, Trace

#: Nodes that are looked at closely for victims: those with the least work of less important pods.
NODES_LOOKED_AT: Final = 16


class Placer(Protocol):
    """A policy that chooses one node at a time, on a cluster that pods leave again."""

    @property
    def cluster(self) -> Cluster: ...

    @property
    def requests(self) -> Requests: ...

    def choose(self, pod: int) -> int:
        """The node for a pod of this class; -1 if it fits nowhere."""

    def take(self, pod: int, node: int) -> None:
        """The pod goes to the node that was chosen."""

    def left(self, pod: int, node: int) -> None:
        """The pod left, and the cluster has its resources back."""


@dataclass(frozen=True, slots=True)
class Timeline:
    """When each pod of a trace arrives, in order of time, and for how long it runs once it is placed. (n,) each."""

    arrives_s: IntArray
    runs_s: IntArray
    important: IntArray  # 1, or 0 for best effort
    pod_class: IntArray

    def at_load(self, load: float, nodes: Nodes, classes: PodClasses) -> "Timeline":
        """The same pods, running as long, arriving so much faster or slower that they ask for this part of all GPUs."""
        work_milli = (classes.gpu_milli * classes.gpu_count)[self.pod_class]
        span_s = max(int(self.arrives_s[-1] - self.arrives_s[0]), 1)
        asked = float((work_milli * self.runs_s).sum()) / (nodes.gpu_milli_total * span_s)
        return replace(self, arrives_s=np.round(self.arrives_s * (asked / load)).astype(np.int64))

    def first(self, pods: int) -> "Timeline":
        return Timeline(self.arrives_s[:pods], self.runs_s[:pods], self.important[:pods], self.pod_class[:pods])


@dataclass(frozen=True, slots=True)
class Outcome:
    """Percent of the cluster's GPUs, weighted by time from the first arrival to the last; waits in seconds.

    Waits are of pods that were placed in the end, up to their first placement. `never_placed`: pods that still wait at
    the last arrival. `evicted`: times a pod lost its place.
    """

    allocation_mean_pct: float
    allocation_max_pct: float
    waited_pct: float
    wait_s_p50: float
    wait_s_p99: float
    never_placed: int
    evicted: int
    decision_ms_p50: float
    decision_ms_p99: float
    wall_s: float


@dataclass(frozen=True, slots=True)
class Result:
    pods: str
    scorer: str
    seed: int
    outcome: Outcome


@dataclass(slots=True)
class _Placed:
    """A pod on a node, and what it has of each GPU there."""

    node: int
    gpus: IntArray


class Replay:
    """One run. Ties in time: departures first, then arrivals in the trace's order."""

    def __init__(self, nodes: Nodes, timeline: Timeline, placer: Placer) -> None:
        self._timeline, self._placer = timeline, placer
        self._capacity_milli = float(nodes.gpu_milli_total)
        self._on: dict[int, _Placed] = {}
        self._by_node: list[set[int]] = [set() for _ in range(nodes.cpu_milli.size)]
        self._ends: list[tuple[int, int, int]] = []  # time, pod, which of its placements
        self._starts = np.zeros(timeline.arrives_s.size, dtype=np.int64)
        self._first_s = np.full(timeline.arrives_s.size, -1, dtype=np.int64)
        self._queue: list[int] = []
        self._evicted = 0
        self._used_milli = 0.0
        self._work = _TimeMean()
        self._decisions_ms: list[float] = []

    def run(self) -> Outcome:
        began_s = perf_counter()
        arrives = self._timeline.arrives_s
        for pod, now_s in enumerate(arrives.tolist()):
            self._depart(now_s)
            if not self._place(pod, now_s):
                self._enqueue(pod)
            self._work.at(now_s, self._used_milli)
        return self._outcome(perf_counter() - began_s)

    def _depart(self, until_s: int) -> None:
        """Everything that ends up to now, and the retries that it lets in."""
        while self._ends and self._ends[0][0] <= until_s:
            now_s = self._ends[0][0]
            freed = False
            while self._ends and self._ends[0][0] == now_s:
                _, pod, start = heappop(self._ends)
                if pod in self._on and self._starts[pod] == start:
                    self._remove(pod)
                    freed = True
            if freed and self._queue:
                self._retry(now_s)
            self._work.at(now_s, self._used_milli)

    def _retry(self, now_s: int) -> None:
        refused: set[int] = set()
        waiting, self._queue = self._queue, []
        for pod in waiting:
            kind = int(self._timeline.pod_class[pod])
            if kind in refused or not self._place(pod, now_s, evicting=False):
                refused.add(kind)
                self._queue.append(pod)

    def _enqueue(self, pod: int) -> None:
        self._queue.append(pod)
        self._queue.sort(key=lambda p: (-int(self._timeline.important[p]), p))

    def _place(self, pod: int, now_s: int, *, evicting: bool = True) -> bool:
        kind = int(self._timeline.pod_class[pod])
        began_s = perf_counter()
        node = self._placer.choose(kind)
        self._decisions_ms.append(1000.0 * (perf_counter() - began_s))
        if node < 0 and evicting and self._timeline.important[pod]:
            node = self._make_room(kind)
        if node < 0:
            return False
        free = self._placer.cluster.gpu_free_milli
        before = free[node].copy()
        self._placer.take(kind, node)
        self._on[pod] = _Placed(node, before - free[node])
        self._by_node[node].add(pod)
        self._used_milli += float(self._on[pod].gpus.sum())
        if self._first_s[pod] < 0:
            self._first_s[pod] = now_s
        self._starts[pod] += 1
        heappush(self._ends, (now_s + int(self._timeline.runs_s[pod]), pod, int(self._starts[pod])))
        return True

    def _remove(self, pod: int) -> None:
        placed, kind = self._on.pop(pod), int(self._timeline.pod_class[pod])
        self._by_node[placed.node].discard(pod)
        self._used_milli -= float(placed.gpus.sum())
        cluster, requests = self._placer.cluster, self._placer.requests
        cluster.cpu_free_milli[placed.node] += requests.cpu_milli[kind]
        cluster.memory_free_mib[placed.node] += requests.memory_mib[kind]
        cluster.gpu_free_milli[placed.node] += placed.gpus
        cluster.changed_node[cluster.clock[0] % cluster.changed_node.size] = placed.node
        cluster.clock[0] += 1
        self._placer.left(kind, placed.node)

    def _make_room(self, kind: int) -> int:
        """Evicts less important pods where that costs the least GPU work. Returns the node that is chosen then."""
        plans = [(*plan, node) for node in self._candidates(kind) if (plan := self._victims(kind, node)) is not None]
        if not plans:
            return -1
        _, victims, _ = min(plans, key=lambda plan: (plan[0], plan[2]))
        for pod in victims:
            self._remove(pod)
            self._evicted += 1
            self._enqueue(pod)
        return self._placer.choose(kind)

    def _candidates(self, kind: int) -> list[int]:
        """Nodes of an allowed kind with less important pods, those with the least work of such pods first."""
        cluster, mask = self._placer.cluster, int(self._placer.requests.kind_mask[kind])
        lesser: dict[int, float] = {}
        for pod, placed in self._on.items():
            if not self._timeline.important[pod]:
                lesser[placed.node] = lesser.get(placed.node, 0.0) + float(placed.gpus.sum())
        allowed = [(work, node) for node, work in lesser.items() if mask >> int(cluster.kind_id[node]) & 1]
        return [node for _, node in sorted(allowed)[:NODES_LOOKED_AT]]

    def _victims(self, kind: int, node: int) -> tuple[float, list[int]] | None:
        """(GPU milli lost, pods): the latest first until the pod fits, then without those that need not go."""
        lesser = sorted((p for p in self._by_node[node] if not self._timeline.important[p]), reverse=True)
        gone: list[int] = []
        for pod in lesser:
            gone.append(pod)
            if self._would_fit(kind, node, gone):
                break
        else:
            return None
        for pod in list(gone[:-1]):
            without = [p for p in gone if p != pod]
            if self._would_fit(kind, node, without):
                gone = without
        return float(sum(self._on[p].gpus.sum() for p in gone)), gone

    def _would_fit(self, kind: int, node: int, gone: list[int]) -> bool:
        cluster, requests = self._placer.cluster, self._placer.requests
        kinds = [int(self._timeline.pod_class[p]) for p in gone]
        cpu_milli = cluster.cpu_free_milli[node] + sum(int(requests.cpu_milli[k]) for k in kinds)
        memory_mib = cluster.memory_free_mib[node] + sum(int(requests.memory_mib[k]) for k in kinds)
        gpus = cluster.gpu_free_milli[node] + sum((self._on[p].gpus for p in gone), np.zeros(8, dtype=np.int64))
        milli, wanted = int(requests.gpu_milli[kind]), int(requests.gpu_count[kind])
        enough = cpu_milli >= requests.cpu_milli[kind] and memory_mib >= requests.memory_mib[kind]
        return bool(enough and (gpus >= max(milli, 1)).sum() >= wanted)

    def _outcome(self, wall_s: float) -> Outcome:
        placed = self._first_s >= 0
        waits_s = (self._first_s - self._timeline.arrives_s)[placed]
        wait_p50, wait_p99 = np.quantile(waits_s, [0.5, 0.99]) if waits_s.size else (0.0, 0.0)
        p50, p99 = np.quantile(self._decisions_ms, [0.5, 0.99])
        return Outcome(
            allocation_mean_pct=100.0 * self._work.mean / self._capacity_milli,
            allocation_max_pct=100.0 * self._work.most / self._capacity_milli,
            waited_pct=100.0 * float((waits_s > 0).sum() + (~placed).sum()) / placed.size,
            wait_s_p50=float(wait_p50),
            wait_s_p99=float(wait_p99),
            never_placed=int((~placed).sum()),
            evicted=self._evicted,
            decision_ms_p50=float(p50),
            decision_ms_p99=float(p99),
            wall_s=wall_s,
        )


class _TimeMean:
    """Mean over time of a quantity that keeps its value until it is told again."""

    def __init__(self) -> None:
        self._since_s, self._now_s, self._value, self._sum = -1, 0, 0.0, 0.0
        self.most = 0.0

    def at(self, now_s: int, value: float) -> None:
        if self._since_s < 0:
            self._since_s = now_s
        else:
            self._sum += self._value * (now_s - self._now_s)
        self._now_s, self._value, self.most = now_s, value, max(self.most, value)

    @property
    def mean(self) -> float:
        return self._sum / (self._now_s - self._since_s) if self._now_s > self._since_s else self._value


PlacerOf = Callable[[Experiment, int], Placer]


def replay(nodes: Nodes, trace: Trace, timeline: Timeline, scorer: str, seed: int) -> Result:
    """`seed`: of the order of the nodes, which decides ties."""
    from sim.packing.placers import PLACERS  # noqa: PLC0415  # they are made of policies, which know nothing of replays

    order = np.random.default_rng(seed).permutation(nodes.cpu_milli.size)
    experiment = Experiment(nodes.permuted(order), trace, timeline.pod_class)
    name = next(iter(PLACERS)) if scorer == DEFAULT_SCORER else scorer
    return Result(trace.name, scorer, seed, Replay(experiment.nodes, timeline, PLACERS[name](experiment, seed)).run())
