"""Place a sequence of pods by a potential of node states (compiled).

score(pod, node, GPU) = potential after - potential before, for FGD its published rounding; the best GPU of each node;
kept per (pod type, node) until the node or the prices change. Ties go to the lower node.
"""

from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt

from extender.placement.spr.potential import Expected, potential
from extender.placement.spr.states import (
    STATES_PER_NODE,
    States,
    forget_states,
    new_states,
    state_id,
    unpack_state,
)
from extender.placement.spr.watch import Watch, add_watched
from sim.packing.cluster import Cluster, Requests, empty_cluster, place, requests_of
from sim.packing.fragmentation import TypicalPods, fgd_score, fragmentation_milli
from sim.packing.jit import compiled
from sim.packing.model import FloatArray, IntArray, Nodes, Placement, PodClasses
from sim.packing.taking import state_of_node, take_from, take_gpus

INFEASIBLE: Final = -1e30


class Tables(NamedTuple):
    """What the potentials are computed from: FGD reads `typical`, the scarcity-priced rollout `expected`."""

    by_fragmentation: bool  # FGD, which does not look at memory
    typical: TypicalPods
    expected: Expected


class Scores(NamedTuple):
    """Scores per (type, node), and what they were computed for."""

    score: FloatArray
    gpu_free: npt.NDArray[np.int16]  # free milli of the best GPU; -1: the pod takes the first GPUs that hold it
    scored_at: IntArray  # [type]: nodes that changed from this clock on are stale
    scored_epoch: IntArray  # [type]: epoch of the prices
    node_state: IntArray  # -1: not known
    met_in: IntArray  # [state]: the last pass that met it, so that equal nodes are scored once
    met_at: IntArray  # [state]: the node
    passes: IntArray  # [1]
    scratch: IntArray  # [4, 8]


def _new_scores(type_count: int, node_count: int, states: States) -> Scores:
    capacity = states.words.shape[0]
    return Scores(
        np.full((type_count, node_count), INFEASIBLE),
        np.full((type_count, node_count), -1, dtype=np.int16),
        np.zeros(type_count, dtype=np.int64),
        np.zeros(type_count, dtype=np.int64),
        np.full(node_count, -1, dtype=np.int64),
        np.zeros(capacity, dtype=np.int64),
        np.zeros(capacity, dtype=np.int64),
        np.zeros(1, dtype=np.int64),
        np.zeros((4, 8), dtype=np.int64),
    )


@compiled
def _gain(states: States, before: int, after: int, tables: Tables, scratch: IntArray) -> float:
    """The score of a node that goes from one state to another."""
    gpus, partial = scratch[2], scratch[3]
    if tables.by_fragmentation:
        waste = fragmentation_milli(states, before, tables.typical, gpus)
        return float(fgd_score(waste, fragmentation_milli(states, after, tables.typical, gpus)))
    value = potential(states, before, tables.expected, gpus, partial)
    return potential(states, after, tables.expected, gpus, partial) - value


class Desk(NamedTuple):
    """All that decisions read and write."""

    cluster: Cluster
    requests: Requests
    states: States
    scores: Scores


def new_desk(nodes: Nodes, classes: PodClasses, *, memory: bool = True) -> Desk:
    """`memory`: whether the potential looks at it; pods that differ in memory alone share their scores otherwise."""
    requests = requests_of(classes, memory=memory)
    states = new_states(nodes.cpu_milli.size)
    scores = _new_scores(int(requests.type_id.max()) + 1, nodes.cpu_milli.size, states)
    return Desk(empty_cluster(nodes), requests, states, scores)


class Ask(NamedTuple):
    """A pod's request."""

    cpu_milli: int
    memory_mib: int
    gpu_milli: int
    gpu_count: int


@compiled
def _score_state(states: States, state: int, ask: Ask, tables: Tables, scratch: IntArray) -> tuple[float, int]:
    """(best score, free milli of its GPU) of a request on a node in this state, whose CPU suffices."""
    milli, wanted = ask.gpu_milli, ask.gpu_count
    gpus, after = scratch[0], scratch[1]
    kind, cpu_free_milli, memory_free_mib = unpack_state(states, state, gpus)
    left = cpu_free_milli - ask.cpu_milli
    memory = 0 if tables.by_fragmentation else memory_free_mib - ask.memory_mib
    if wanted != 1:
        for i in range(8):
            after[i] = gpus[i]
        if not take_gpus(after, milli, wanted):
            return INFEASIBLE, -1
        return _gain(states, state, state_id(states, kind, left, after, memory), tables, scratch), -1
    best, best_free, previous = INFEASIBLE, -1, -1
    for gpu in range(8):
        free = gpus[gpu]
        if free < milli:
            break
        if free == previous:  # equal GPUs of a node are one choice
            continue
        previous = free
        for i in range(8):
            after[i] = gpus[i]
        take_from(after, gpu, milli)
        gain = _gain(states, state, state_id(states, kind, left, after, memory), tables, scratch)
        if gain > best:
            best, best_free = gain, free
    return best, best_free


@compiled
def _rescore(desk: Desk, pod: int, tables: Tables, node: int) -> None:
    cluster, requests, scores = desk.cluster, desk.requests, desk.scores
    t = requests.type_id[pod]
    cpu_milli = requests.cpu_milli[pod]
    if cpu_milli > cluster.cpu_free_milli[node] or (requests.kind_mask[pod] >> cluster.kind_id[node]) & 1 == 0:
        scores.score[t, node] = INFEASIBLE
        return
    if not tables.by_fragmentation and requests.memory_mib[pod] > cluster.memory_free_mib[node]:
        scores.score[t, node] = INFEASIBLE
        return
    state = scores.node_state[node]
    if state < 0:
        state = state_of_node(desk.states, cluster, node, scores.scratch[0], not tables.by_fragmentation)
        scores.node_state[node] = state
    if scores.met_in[state] == scores.passes[0]:
        twin = scores.met_at[state]
        scores.score[t, node] = scores.score[t, twin]
        scores.gpu_free[t, node] = scores.gpu_free[t, twin]
        return
    ask = Ask(cpu_milli, requests.memory_mib[pod], requests.gpu_milli[pod], requests.gpu_count[pod])
    score, free = _score_state(desk.states, state, ask, tables, scores.scratch)
    scores.score[t, node] = score
    scores.gpu_free[t, node] = free
    scores.met_in[state] = scores.passes[0]
    scores.met_at[state] = node


@compiled
def _refresh(desk: Desk, pod: int, tables: Tables) -> None:
    """Bring the scores of the pod's type up to date: all nodes after new prices, else those that changed."""
    cluster, scores, epoch = desk.cluster, desk.scores, desk.states.epochs[1]
    t = desk.requests.type_id[pod]
    scores.passes[0] += 1
    clock, log = cluster.clock[0], cluster.changed_node
    since = scores.scored_at[t]
    if scores.scored_epoch[t] != epoch or clock - since > log.size:
        for node in range(scores.node_state.size):
            _rescore(desk, pod, tables, node)
    else:
        for tick in range(since, clock):
            _rescore(desk, pod, tables, log[tick % log.size])
    scores.scored_at[t] = clock
    scores.scored_epoch[t] = epoch


@compiled
def decide(desk: Desk, pod: int, tables: Tables) -> int:
    """The first node with the highest score that also has the memory; -1 if the pod fits nowhere."""
    _refresh(desk, pod, tables)
    row = desk.scores.score[desk.requests.type_id[pod]]
    memory_mib, free_mib = desk.requests.memory_mib[pod], desk.cluster.memory_free_mib
    best, best_score = -1, INFEASIBLE
    for node in range(row.size):
        if row[node] > best_score and free_mib[node] >= memory_mib:
            best, best_score = node, row[node]
    return best


@compiled
def forget(desk: Desk) -> None:
    """Drop every state and score."""
    forget_states(desk.states)
    desk.scores.node_state[:] = -1
    desk.scores.met_in[:] = 0
    desk.scores.scored_epoch[:] = 0


@compiled
def bind(desk: Desk, node: int, pod: int) -> int:
    """Place the pod, on the GPU that its score was computed for; which GPU (-1: the first that hold it)."""
    cluster, states, scores = desk.cluster, desk.states, desk.scores
    chosen = -1
    free = scores.gpu_free[desk.requests.type_id[pod], node]
    if free >= 0:
        for gpu in range(8):
            if cluster.gpu_free_milli[node, gpu] == free:
                chosen = gpu
                break
    place(cluster, node, desk.requests, pod, chosen)
    scores.node_state[node] = -1
    if states.made[0] > states.words.shape[0] - STATES_PER_NODE * (scores.node_state.size + 1):
        forget(desk)  # the next decision might not find room
    return chosen


@compiled
def place_sequence(
    desk: Desk, tables: Tables, watch: Watch, arrivals: IntArray, placement: Placement
) -> tuple[int, bool]:
    """Place arrivals in order until they end or the prices are stale: (arrivals handled, whether they are stale)."""
    cluster, requests = desk.cluster, desk.requests
    for i in range(arrivals.size):
        pod = arrivals[i]
        node = decide(desk, pod, tables)
        placement.node_of_arrival[i] = node
        placement.gpu_of_arrival[i] = -1
        if node < 0:
            continue
        add_watched(cluster, node, watch, -1.0)
        placement.gpu_of_arrival[i] = bind(desk, node, pod)
        stale = add_watched(cluster, node, watch, 1.0)
        watch.work_left_milli[0] -= requests.gpu_milli[pod] * requests.gpu_count[pod]
        if stale or watch.work_left_milli[0] <= 0:
            return i + 1, True
    return arrivals.size, False
