"""Free resources of all nodes, for compiled code."""

from typing import Final, NamedTuple

from extender.placement.spr.model import IntArray

CHANGES_KEPT: Final = 1 << 12  # a reader further behind than this looks at all nodes again


class Cluster(NamedTuple):
    """Free resources per node, and which node changed at each tick of the clock."""

    cpu_free_milli: IntArray
    memory_free_mib: IntArray
    gpu_free_milli: IntArray  # [node, 8]; a GPU that is not there has nothing free
    gpu_count: IntArray
    kind_id: IntArray
    changed_node: IntArray  # ring: indexed by clock modulo its length
    clock: IntArray  # [1]: placements so far
