"""States that nodes are in, and come into (compiled)."""

from extender.placement.spr.states import States, sort_descending, state_id
from sim.packing.cluster import Cluster
from sim.packing.jit import compiled
from sim.packing.model import IntArray


@compiled
def state_of_node(states: States, cluster: Cluster, node: int, gpus: IntArray, by_memory: bool) -> int:
    for gpu in range(8):
        gpus[gpu] = cluster.gpu_free_milli[node, gpu]
    sort_descending(gpus)
    memory_mib = cluster.memory_free_mib[node] if by_memory else 0
    return state_id(states, cluster.kind_id[node], cluster.cpu_free_milli[node], gpus, memory_mib)


@compiled
def take_from(gpus: IntArray, index: int, milli: int) -> None:
    """Take `milli` from gpus[index]; the array stays in descending order."""
    value = gpus[index] - milli
    while index < 7 and gpus[index + 1] > value:
        gpus[index] = gpus[index + 1]
        index += 1
    gpus[index] = value


@compiled
def take_gpus(gpus: IntArray, milli: int, wanted: int) -> bool:
    """Take `milli` from each of the `wanted` fullest GPUs that have it; False if there are too few."""
    fitting = 0
    while fitting < 8 and gpus[fitting] >= milli:
        fitting += 1
    if fitting < wanted:
        return False
    for i in range(wanted):
        take_from(gpus, fitting - 1 - i, milli)
    return True
