"""What must hold of every placement, whatever the policy."""

from sim.packing.cluster import Cluster, Requests, empty_cluster, fits, place, requests_of
from sim.packing.jit import compiled
from sim.packing.model import Experiment, IntArray, Placement


class BrokenLawError(RuntimeError):
    """A policy placed a pod where it does not fit, or refused one that fits."""


def check(experiment: Experiment, placement: Placement) -> None:
    """Replays the placement on empty nodes. Raises `BrokenLawError` with the first arrival that is wrong."""
    wrong = _first_wrong(
        empty_cluster(experiment.nodes),
        requests_of(experiment.trace.classes),
        experiment.class_of_arrival,
        placement.node_of_arrival,
        placement.gpu_of_arrival,
    )
    if wrong >= 0:
        node = int(placement.node_of_arrival[wrong])
        told = "was refused, but fits on a node" if node < 0 else f"was placed on node {node}, where it does not fit"
        raise BrokenLawError(f"arrival {wrong} {told}")


@compiled
def _holds(cluster: Cluster, node: int, requests: Requests, pod: int, gpu: int) -> bool:
    if not fits(cluster, node, requests, pod):
        return False
    return bool(gpu < 0 or cluster.gpu_free_milli[node, gpu] >= requests.gpu_milli[pod])


@compiled
def _first_wrong(
    cluster: Cluster, requests: Requests, arrivals: IntArray, node_of_arrival: IntArray, gpu_of_arrival: IntArray
) -> int:
    for i in range(arrivals.size):
        pod, node = arrivals[i], node_of_arrival[i]
        if node >= 0:
            if not _holds(cluster, node, requests, pod, gpu_of_arrival[i]):
                return i
            place(cluster, node, requests, pod, gpu_of_arrival[i])
            continue
        for other in range(cluster.cpu_free_milli.size):
            if fits(cluster, other, requests, pod):
                return i
    return -1
