"""How a placement went, arrival by arrival: what is allocated, and what of the rest is fragmented."""

from dataclasses import dataclass
from typing import Final, NamedTuple

import numpy as np

from extender.placement.spr.states import States, forget_states, new_states, state_of_node
from sim.packing.cluster import Cluster, Requests, empty_cluster, place, requests_of
from sim.packing.fragmentation import TYPICAL_COVERAGE, TypicalPods, fragmentation_milli, typical_pods
from sim.packing.jit import compiled
from sim.packing.metrics import work_pct
from sim.packing.mix import mix_of_counts
from sim.packing.model import Experiment, FloatArray, IntArray, Placement

ARRIVED_PCT: Final = np.arange(131)  # the demand at which a curve is read


@dataclass(frozen=True, slots=True, eq=False)
class Curve:
    """At each of ARRIVED_PCT, in percent of the cluster's GPUs."""

    allocated_pct: FloatArray
    fragmented_pct: FloatArray  # F of the paper, over the types with 95 % of the trace's pods


class _Room(NamedTuple):
    """The cluster as it fills, for compiled code."""

    cluster: Cluster
    requests: Requests
    states: States
    typical: TypicalPods
    of_node: FloatArray  # fragmented milli-GPU of each node
    gpus: IntArray  # scratch


def trace_curve(experiment: Experiment, placement: Placement) -> Curve:
    """Replays the placement on empty nodes."""
    trace, nodes = experiment.trace, experiment.nodes
    mix = mix_of_counts(trace.classes, trace.counts(), TYPICAL_COVERAGE, memory=False)
    room = _Room(
        empty_cluster(nodes),
        requests_of(trace.classes),
        new_states(nodes.cpu_milli.size),
        typical_pods(mix),
        np.zeros(nodes.cpu_milli.size),
        np.zeros(8, dtype=np.int64),
    )
    fragmented_milli = np.zeros(experiment.class_of_arrival.size + 1)
    _fill(room, experiment.class_of_arrival, placement, fragmented_milli)
    arrived = np.searchsorted(work_pct(experiment), ARRIVED_PCT, side="right")
    allocated_pct = np.concatenate([[0.0], work_pct(experiment, placement.node_of_arrival >= 0)])
    return Curve(allocated_pct[arrived], 100.0 * fragmented_milli[arrived] / nodes.gpu_milli_total)


@compiled
def _fill(room: _Room, arrivals: IntArray, placement: Placement, fragmented_milli: FloatArray) -> None:
    """Fill the cluster, and `fragmented_milli` before the first arrival and after each."""
    total = 0.0
    for node in range(room.of_node.size):
        total += _look(room, node)
    fragmented_milli[0] = total
    for i in range(arrivals.size):
        node = placement.node_of_arrival[i]
        if node >= 0:
            place(room.cluster, node, room.requests, arrivals[i], placement.gpu_of_arrival[i])
            total += _look(room, node)
        fragmented_milli[i + 1] = total


@compiled
def _look(room: _Room, node: int) -> float:
    """Write down what is fragmented on the node now; by how much it rose."""
    states = room.states
    if states.made[0] == states.words.shape[0]:
        forget_states(states)
    before = room.of_node[node]
    state = state_of_node(states, room.cluster, node, room.gpus, False)  # compiled: no keywords
    room.of_node[node] = fragmentation_milli(states, state, room.typical, room.gpus)
    return float(room.of_node[node] - before)
