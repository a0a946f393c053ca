"""Policies that give each node a whole number by a formula: place a sequence of pods by them.

Numba cannot keep machine code that is handed a function, so the formulas are told apart by number, in `_score`.
"""

from enum import IntEnum
from typing import Final, NamedTuple

import numpy as np

from extender.placement.ranking.dot_prod import dot_prod_score
from extender.placement.ranking.gpu_clustering import gpu_clustering_score, kind_of_pod
from extender.placement.ranking.gpu_packing import gpu_packing_score
from extender.placement.ranking.nodes import KINDS_OF_POD
from extender.placement.spr.states import sort_descending
from sim.packing.cluster import Cluster, Requests, empty_cluster, fits, place, requests_of
from sim.packing.jit import compiled
from sim.packing.model import Experiment, IntArray, Placement, nothing_placed
from sim.packing.policies.best_fit import best_fit_score
from sim.packing.policies.first_fit import first_fit_score
from sim.packing.policies.random_fit import RandomState, random_gpu, random_node, random_state

RANDOM, FIRST_FIT, BEST_FIT, DOT_PROD, GPU_PACKING, GPU_CLUSTERING = range(6)


class Ranking(IntEnum):
    """The policies, as compiled code tells them apart."""

    RANDOM = RANDOM
    FIRST_FIT = FIRST_FIT
    BEST_FIT = BEST_FIT
    DOT_PROD = DOT_PROD
    GPU_PACKING = GPU_PACKING
    GPU_CLUSTERING = GPU_CLUSTERING


_UNKNOWN: Final = -1


class Scores(NamedTuple):
    """What is known between decisions: a score holds until its node changes."""

    held: IntArray  # [node, kind of pod]: GPU pods on the node
    score: IntArray  # [class, node]; -1 where the pod does not fit
    scored_at: IntArray  # [class]: clock of the last decision
    gpus: IntArray  # [8], scratch


class Desk(NamedTuple):
    """All that decisions read and write."""

    policy: int
    cluster: Cluster
    requests: Requests
    scores: Scores
    random: RandomState


@compiled
def _score(desk: Desk, pod: int, node: int) -> int:
    cluster, requests, policy = desk.cluster, desk.requests, desk.policy
    wanted, milli = requests.gpu_count[pod], requests.gpu_milli[pod]
    left, gpus = 0, desk.scores.gpus
    for gpu in range(8):
        gpus[gpu] = cluster.gpu_free_milli[node, gpu]
        left += gpus[gpu]
    if policy == BEST_FIT:
        return best_fit_score(cluster.cpu_free_milli[node], left, requests.cpu_milli[pod], wanted * milli)
    if policy == DOT_PROD:
        return dot_prod_score(cluster.cpu_free_milli[node], left, requests.cpu_milli[pod], wanted * milli)
    if policy == GPU_CLUSTERING:
        return gpu_clustering_score(desk.scores.held[node], left, wanted, kind_of_pod(milli, wanted))
    if policy == GPU_PACKING:
        sort_descending(gpus)
        return gpu_packing_score(gpus, cluster.gpu_count[node], milli, wanted)
    return first_fit_score()


@compiled
def _rescore(desk: Desk, pod: int, node: int) -> None:
    if fits(desk.cluster, node, desk.requests, pod):
        desk.scores.score[pod, node] = _score(desk, pod, node)
    else:
        desk.scores.score[pod, node] = -1


@compiled
def _best_node(desk: Desk, pod: int) -> int:
    scores, clock, log = desk.scores, desk.cluster.clock[0], desk.cluster.changed_node
    since, row = scores.scored_at[pod], scores.score[pod]
    if since == _UNKNOWN or clock - since > log.size:
        for node in range(row.size):
            _rescore(desk, pod, node)
    else:
        for tick in range(since, clock):
            _rescore(desk, pod, log[tick % log.size])
    scores.scored_at[pod] = clock
    best, best_score = -1, -1
    for node in range(row.size):
        if row[node] > best_score:
            best, best_score = node, row[node]
    return best


@compiled
def _fullest_gpu(cluster: Cluster, node: int, milli: int) -> int:
    """The GPU with the least free that still has `milli`; the lowest of equals."""
    best, best_left = -1, 1 << 40
    for gpu in range(8):
        left = cluster.gpu_free_milli[node, gpu]
        if milli <= left < best_left:
            best, best_left = gpu, left
    return best


@compiled
def _gpu_of(desk: Desk, node: int, pod: int) -> int:
    """The GPU of a pod that shares one; -1: the first GPUs that hold the pod."""
    milli = desk.requests.gpu_milli[pod]
    if desk.requests.gpu_count[pod] != 1 or milli == 1000 or desk.policy == FIRST_FIT:
        return -1
    if desk.policy == RANDOM:
        return random_gpu(desk.cluster, node, milli, desk.random)
    return _fullest_gpu(desk.cluster, node, milli)


@compiled
def _choose(desk: Desk, pod: int) -> int:
    if desk.policy == RANDOM:
        return random_node(desk.cluster, desk.requests, pod, desk.random)
    return _best_node(desk, pod)


@compiled
def _hold(desk: Desk, node: int, pod: int, count: int) -> None:
    requests = desk.requests
    if requests.gpu_count[pod] > 0:
        desk.scores.held[node, kind_of_pod(requests.gpu_milli[pod], requests.gpu_count[pod])] += count


@compiled
def _take(desk: Desk, node: int, pod: int) -> int:
    """Place the pod; on which GPU, -1: the first that hold it."""
    gpu = _gpu_of(desk, node, pod)
    place(desk.cluster, node, desk.requests, pod, gpu)
    _hold(desk, node, pod, 1)
    return gpu


@compiled
def _place_sequence(desk: Desk, arrivals: IntArray, placement: Placement) -> None:
    for i in range(arrivals.size):
        pod = arrivals[i]
        node = _choose(desk, pod)
        placement.node_of_arrival[i] = node
        placement.gpu_of_arrival[i] = -1 if node < 0 else _take(desk, node, pod)


def _new_desk(policy: Ranking, experiment: Experiment, seed: int) -> Desk:
    requests = requests_of(experiment.trace.classes)
    nodes, classes = experiment.nodes.cpu_milli.size, requests.cpu_milli.size
    scores = Scores(
        np.zeros((nodes, KINDS_OF_POD), dtype=np.int64),
        np.zeros((classes, nodes), dtype=np.int64),
        np.full(classes, _UNKNOWN, dtype=np.int64),
        np.zeros(8, dtype=np.int64),
    )
    return Desk(int(policy), empty_cluster(experiment.nodes), requests, scores, random_state(seed))


class RankingPlacer:
    """One of these policies, one pod at a time, where pods leave."""

    def __init__(self, policy: Ranking, experiment: Experiment, seed: int) -> None:
        self._desk = _new_desk(policy, experiment, seed)

    @property
    def cluster(self) -> Cluster:
        return self._desk.cluster

    @property
    def requests(self) -> Requests:
        return self._desk.requests

    def choose(self, pod: int) -> int:
        return _choose(self._desk, pod)

    def take(self, pod: int, node: int) -> None:
        _take(self._desk, node, pod)

    def left(self, pod: int, node: int) -> None:
        _hold(self._desk, node, pod, -1)


class RankingRun:
    """One experiment under one of these policies."""

    def __init__(self, policy: Ranking, experiment: Experiment, seed: int) -> None:
        self._arrivals = experiment.class_of_arrival
        self._desk = _new_desk(policy, experiment, seed)
        self.placement = nothing_placed(self._arrivals.size)

    def advance(self, begin: int, end: int) -> int:
        """Place arrivals `begin` to `end`; how many were placed or refused: all."""
        _place_sequence(self._desk, self._arrivals[begin:end], self.placement.part(begin, end))
        return end - begin
