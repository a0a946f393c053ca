"""Place a sequence of pods by a potential of node states (compiled).

score(pod, node, GPU) = potential after - potential before, for FGD its published rounding; the best GPU of each node;
kept per (pod type, node) until the node or the prices change. Ties go to the lower node. Prices are not negative, and a
pod that is placed leaves room for fewer copies; so no score is above what it would be with all prices 0, and after new
prices a node that would not be the best even then is passed over.
"""

from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt

from extender.placement.spr.potential import Expected, potential
from extender.placement.spr.states import (
    STATES_PER_NODE,
    VALUE,
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
UNKNOWN_CEILING: Final = 1e30
ROUNDING_MILLI: Final = 1e-6  # far above the error of a potential, which is a sum of some hundred terms below 1e7


class Tables(NamedTuple):
    """What the potentials are computed from: FGD reads `typical`, the scarcity-priced rollout `expected`."""

    by_fragmentation: bool  # FGD, which does not look at memory
    typical: TypicalPods
    expected: Expected


class Scores(NamedTuple):
    """Scores per (type, node), as far as they were needed, and what they were computed for."""

    score: FloatArray  # under the prices of `priced`
    ceiling: FloatArray  # no prices make the score higher
    priced: npt.NDArray[np.int32]  # epoch of the prices that the score is computed with; 0: none
    gpu_free: npt.NDArray[np.int16]  # free milli of the best GPU; -1: the pod takes the first GPUs that hold it
    scored_at: IntArray  # [type]: nodes that changed from this clock on are stale
    scored_epoch: IntArray  # [type]: epoch of the values
    node_state: IntArray  # -1: not known
    met_in: IntArray  # [state]: the last pass that met it, so that equal nodes are scored once
    met_at: IntArray  # [state]: the node
    passes: IntArray  # [1]
    scratch: IntArray  # [4, 8]


def _new_scores(type_count: int, node_count: int, states: States) -> Scores:
    capacity = states.words.shape[0]
    return Scores(
        np.full((type_count, node_count), INFEASIBLE),
        np.full((type_count, node_count), INFEASIBLE),
        np.zeros((type_count, node_count), dtype=np.int32),
        np.full((type_count, node_count), -1, dtype=np.int16),
        np.zeros(type_count, dtype=np.int64),
        np.zeros(type_count, dtype=np.int64),
        np.full(node_count, -1, dtype=np.int64),
        np.zeros(capacity, dtype=np.int64),
        np.zeros(capacity, dtype=np.int64),
        np.zeros(1, dtype=np.int64),
        np.zeros((4, 8), dtype=np.int64),
    )


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
def _gain(states: States, before: int, after: int, tables: Tables, scratch: IntArray) -> tuple[float, float]:
    """(score of a node that goes from one state to another, what it would be with all prices 0)."""
    gpus, partial = scratch[2], scratch[3]
    if tables.by_fragmentation:
        waste = fragmentation_milli(states, before, tables.typical, gpus)
        return float(fgd_score(waste, fragmentation_milli(states, after, tables.typical, gpus))), UNKNOWN_CEILING
    value = potential(states, before, tables.expected, gpus, partial)
    gain = potential(states, after, tables.expected, gpus, partial) - value
    return gain, states.reals[after, VALUE] - states.reals[before, VALUE]


@compiled
def _score_state(states: States, state: int, ask: Ask, tables: Tables, scratch: IntArray) -> tuple[float, float, int]:
    """(best score, ceiling, free milli of the GPU) of a request on a node in this state, whose CPU suffices."""
    milli, wanted = ask.gpu_milli, ask.gpu_count
    gpus, after = scratch[0], scratch[1]
    kind, cpu_free_milli, memory_free_mib = unpack_state(states, state, gpus)
    left = cpu_free_milli - ask.cpu_milli
    memory = 0 if tables.by_fragmentation else memory_free_mib - ask.memory_mib
    if wanted != 1:
        for i in range(8):
            after[i] = gpus[i]
        if not take_gpus(after, milli, wanted):
            return INFEASIBLE, INFEASIBLE, -1
        gain, most = _gain(states, state, state_id(states, kind, left, after, memory), tables, scratch)
        return gain, most, -1
    best, ceiling, best_free, previous = INFEASIBLE, INFEASIBLE, -1, -1
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
        gain, most = _gain(states, state, state_id(states, kind, left, after, memory), tables, scratch)
        ceiling = max(ceiling, most)
        if gain > best:
            best, best_free = gain, free
    return best, ceiling, best_free


@compiled
def _reset(desk: Desk, pod: int, tables: Tables, node: int) -> None:
    """The node has changed: no score is known; it has the CPU, the memory and the model, or is INFEASIBLE."""
    cluster, requests, scores = desk.cluster, desk.requests, desk.scores
    t, by_memory = requests.type_id[pod], not tables.by_fragmentation
    feasible = requests.cpu_milli[pod] <= cluster.cpu_free_milli[node]
    feasible &= (requests.kind_mask[pod] >> cluster.kind_id[node]) & 1 == 1
    feasible &= not by_memory or requests.memory_mib[pod] <= cluster.memory_free_mib[node]
    scores.ceiling[t, node] = UNKNOWN_CEILING if feasible else INFEASIBLE
    scores.score[t, node] = INFEASIBLE
    scores.priced[t, node] = 0
    if feasible and scores.node_state[node] < 0:
        scores.node_state[node] = state_of_node(desk.states, cluster, node, scores.scratch[0], by_memory)


@compiled
def _rescore(desk: Desk, pod: int, tables: Tables, node: int) -> None:
    requests, scores, epoch = desk.requests, desk.scores, desk.states.epochs[1]
    t = requests.type_id[pod]
    state = scores.node_state[node]
    scores.priced[t, node] = epoch
    if scores.met_in[state] == scores.passes[0]:
        twin = scores.met_at[state]
        scores.score[t, node] = scores.score[t, twin]
        scores.ceiling[t, node] = scores.ceiling[t, twin]
        scores.gpu_free[t, node] = scores.gpu_free[t, twin]
        return
    ask = Ask(requests.cpu_milli[pod], requests.memory_mib[pod], requests.gpu_milli[pod], requests.gpu_count[pod])
    score, ceiling, free = _score_state(desk.states, state, ask, tables, scores.scratch)
    scores.score[t, node] = score
    scores.ceiling[t, node] = ceiling + ROUNDING_MILLI
    scores.gpu_free[t, node] = free
    scores.met_in[state] = scores.passes[0]
    scores.met_at[state] = node


@compiled
def _refresh(desk: Desk, pod: int, tables: Tables) -> None:
    """Bring the ceilings of the pod's type up to date: all nodes after new streams, else those that changed."""
    cluster, scores, epoch = desk.cluster, desk.scores, desk.states.epochs[0]
    t = desk.requests.type_id[pod]
    scores.passes[0] += 1
    clock, log = cluster.clock[0], cluster.changed_node
    since = scores.scored_at[t]
    if scores.scored_epoch[t] != epoch or clock - since > log.size:
        for node in range(scores.node_state.size):
            _reset(desk, pod, tables, node)
    else:
        for tick in range(since, clock):
            _reset(desk, pod, tables, log[tick % log.size])
    scores.scored_at[t] = clock
    scores.scored_epoch[t] = epoch


@compiled
def _better(desk: Desk, pod: int, node: int, than: int) -> bool:
    """Whether the node's score, of equal ones the lower node; `than` -1: none was found yet."""
    score = desk.scores.score[desk.requests.type_id[pod]]
    if score[node] == INFEASIBLE or desk.cluster.memory_free_mib[node] < desk.requests.memory_mib[pod]:
        return False
    return than < 0 or score[node] > score[than] or (score[node] == score[than] and node < than)


@compiled
def decide(desk: Desk, pod: int, tables: Tables) -> int:
    """The first node with the highest score that also has the memory; -1 if the pod fits nowhere.

    Scores are computed only where the ceiling does not tell that another node is better.
    """
    _refresh(desk, pod, tables)
    t, epoch = desk.requests.type_id[pod], desk.states.epochs[1]
    score, ceiling, priced = desk.scores.score[t], desk.scores.ceiling[t], desk.scores.priced[t]
    best, likely = -1, -1
    for node in range(score.size):
        if priced[node] == epoch:
            if _better(desk, pod, node, best):
                best = node
        elif _better(desk, pod, node, likely):
            likely = node  # by the prices before: with it first, ceilings tell more
    if likely >= 0:
        _rescore(desk, pod, tables, likely)
        if _better(desk, pod, likely, best):
            best = likely
    for node in range(score.size):
        if priced[node] == epoch or ceiling[node] == INFEASIBLE or (best >= 0 and ceiling[node] < score[best]):
            continue
        _rescore(desk, pod, tables, node)
        if _better(desk, pod, node, best):
            best = node
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
