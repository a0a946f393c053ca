"""A fleet as the rollout sees it: kinds of node, and what is free on each."""

from dataclasses import dataclass
from typing import Final

import numpy as np

from extender.placement import fleet as arrays
from extender.placement.fleet import Fleet
from extender.placement.milli import milli_of
from extender.placement.spr.cluster import Cluster
from extender.placement.spr.kinds import Kinds, kinds_of
from extender.placement.spr.model import GPU_MILLI, GPUS_PER_NODE_MAX, LIMITLESS, IntArray
from extender.placement.spr.watch import Changed, Watch, move_nodes

_NONE: Final = np.zeros(0, np.int64)


@dataclass(frozen=True, slots=True)
class Moved:
    """What has happened since the last look."""

    kinds: bool = False  # there are other kinds of node, or other nodes of them
    scarce: bool = False  # hosts of a watched type of pod have become few
    milli: int = 0  # of GPUs that were taken, less those that were given back


class Mirror:
    """`milli`: (w, n) free of each GPU that is shared or given whole. `cluster`: of a node the eight with most free."""

    def __init__(self, fleet: Fleet) -> None:
        self._fleet = fleet
        self._layout, self._clock = -1, 0
        self.kinds = Kinds((), _NONE, _NONE)
        self.milli = np.zeros((0, 0), np.int64)
        self.cluster = Cluster(_NONE, _NONE, _NONE.reshape(0, 8), _NONE, _NONE, _NONE, _NONE)

    def catch_up(self, watch: Watch) -> Moved:
        """Reads what has changed. `watch` is counted on, unless kinds have changed."""
        fleet = self._fleet
        if fleet.layout != self._layout:
            self._layout, kinds = fleet.layout, kinds_of(fleet)
            if kinds.listed != self.kinds.listed or not np.array_equal(kinds.kind_id, self.kinds.kind_id):
                self._rebuild(kinds)
                return Moved(kinds=True)
        columns = fleet.changed_since(self._clock)
        self._clock = fleet.clock
        if columns is None:
            columns = self.kinds.columns
        if not columns.size:
            return Moved()
        before = int(self.cluster.gpu_free_milli[columns].sum())
        changed = Changed(columns, *self._read(columns))
        scarce = bool(move_nodes(self.cluster, watch, changed))
        return Moved(scarce=scarce, milli=before - int(changed.gpus.sum()))

    def has_gpus(self, node: str) -> bool:
        slot = self._fleet.slots.get(node, arrays.NO_NODE)
        return bool(np.isin(self._fleet.kind[:, slot], (arrays.Kind.MPS, arrays.Kind.EXCLUSIVE)).any())

    def _rebuild(self, kinds: Kinds) -> None:
        fleet, count = self._fleet, len(kinds.kind_id)
        self.kinds, self._clock = kinds, fleet.clock
        self.milli = np.zeros(fleet.kind.shape, np.int64)
        every = np.arange(count)
        cpu, memory, gpus = self._read(every)
        listed = np.array([kind.gpus for kind in kinds.listed], np.int64)
        there = np.zeros(count, np.int64)
        there[kinds.columns] = listed[kinds.kind_id[kinds.columns]]
        self.cluster = Cluster(cpu, memory, gpus, there, kinds.kind_id, _NONE, _NONE)

    def _read(self, columns: IntArray) -> tuple[IntArray, IntArray, IntArray]:
        """Free CPU, memory, and GPUs in descending order; a node that does not tell is never short."""
        fleet = self._fleet
        kind = fleet.kind[:, columns]
        shares = milli_of(fleet.total_mib[:, columns], fleet.free_mib[:, columns], fleet.free_pct[:, columns])
        shares[(kind != arrays.Kind.MPS) | (fleet.clients_left[:, columns] <= 0)] = 0
        whole = (kind == arrays.Kind.EXCLUSIVE) & fleet.whole[:, columns]
        milli = np.where(whole, GPU_MILLI, shares)
        self.milli[:, columns] = milli
        gpus = -np.sort(-milli, axis=0)[:GPUS_PER_NODE_MAX].T
        cpu, memory = fleet.cpu_free_milli[columns], fleet.memory_free_mib[columns]
        return (
            np.where(cpu == arrays.NOT_TOLD, LIMITLESS, cpu),
            np.where(memory == arrays.NOT_TOLD, LIMITLESS, memory),
            np.ascontiguousarray(gpus),
        )
