"""The "fgd" recipe: arrivals only, up to a demand of 130 % of the cluster's GPUs.

The paper's order of pods comes from Go's random stream, this one from numpy's: single seeds differ, means over seeds
agree. As in hkust-adsl/kubernetes-scheduler-simulator@8f3d641 `pkg/simulator/core.go` (`Simulate`, `TunePods`):
pods are shuffled, then cloned or deleted at random until their demand meets the target; a pod that fits nowhere is lost
and never retried; nothing departs; equal scores go to the smaller rank, and ranks are a permutation by the seed.
"""

from typing import Final

import numpy as np

from sim.packing.model import Experiment, IntArray, Nodes, Trace

ARRIVED_LOAD: Final = 1.3  # `-tune 1.3` in all published runs


def build_experiment(nodes: Nodes, trace: Trace, seed: int, arrived_load: float = ARRIVED_LOAD) -> Experiment:
    """The same seed gives the same experiment. The trace must ask for some GPU (`load_pods` sees to it)."""
    generator = np.random.default_rng(seed)
    arrivals = _tuned(trace, arrived_load * nodes.gpu_milli_total, generator)
    return Experiment(nodes.permuted(generator.permutation(nodes.cpu_milli.size)), trace, arrivals)


def _tuned(trace: Trace, target_milli: float, generator: np.random.Generator) -> IntArray:
    request = trace.classes.gpu_milli * trace.classes.gpu_count
    order = trace.class_of_pod[generator.permutation(trace.class_of_pod.size)]
    total_milli = int(request[order].sum())
    if total_milli > target_milli:
        return _thinned(order, request, total_milli - target_milli, generator)
    clones: list[int] = []
    while True:
        drawn = int(trace.class_of_pod[generator.integers(trace.class_of_pod.size)])
        # The published rule stops by the request per GPU, not times the number of GPUs.
        if total_milli + int(trace.classes.gpu_milli[drawn]) > target_milli:
            return np.concatenate([order, np.array(clones, dtype=np.int64)])
        clones.append(drawn)
        total_milli += int(request[drawn])


def _thinned(order: IntArray, request: IntArray, surplus_milli: float, generator: np.random.Generator) -> IntArray:
    keep = np.ones(order.size, dtype=np.bool_)
    for position in generator.permutation(order.size):
        keep[position] = False
        surplus_milli -= int(request[order[position]])
        if surplus_milli <= 0:
            break
    return order[keep]
