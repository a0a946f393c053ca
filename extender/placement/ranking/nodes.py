"""What these policies see of the nodes of a fleet, and a NodeScorer around one of them."""

from typing import Final, NamedTuple, Self

import numpy as np
from numpy.typing import NDArray

from extender.placement.demand import Demand
from extender.placement.fleet import Fleet, Kind, Lookup
from extender.placement.load import Load
from extender.placement.milli import milli_of
from extender.placement.scorers.base import Bools, Floats

GPU_MILLI: Final = 1000
KINDS_OF_POD: Final = 9  #: 0: shares a GPU; k: takes k whole GPUs, 8 of them or more

IntArray = NDArray[np.int64]


class Seen(NamedTuple):
    """Nodes that could take a pod, one row each, and the pod."""

    cpu_free_milli: IntArray  # (m,); 0 where the node does not tell
    gpus: IntArray  # (m, w): free milli of its GPUs that are shared or given whole, descending, 0 to the end
    gpu_count: IntArray  # (m,)
    held: IntArray  # (m, KINDS_OF_POD): whether the node has GPU pods of each kind
    cpu_milli: int
    milli: IntArray  # (m,): of one GPU that is asked for; it differs with the GPU's memory
    wanted: int  # GPUs
    kind: int  # of pod


class NodeRanking:
    """A NodeScorer by a formula: the higher its score, the lower the price. It learns nothing.

    Prices are a part of a GPU's memory, in GiB, so that a pod that takes shares or MIG slices compares the two.
    """

    def __init__(self, fleet: Fleet) -> None:
        self._fleet = fleet

    def score(self, seen: Seen) -> Floats:
        """(m,): of each node, 100 for the best that there can be."""
        raise NotImplementedError

    def hear(self, demand: Demand, *, new: bool, at_once: bool) -> None:
        """Nothing is learnt, as in the next three."""

    def hear_other(self, node: str, load: Load, *, at_once: bool) -> None: ...

    def freeze(self) -> None: ...

    def learn_from(self, other: Self) -> None: ...

    def shares(self, demand: Demand, lookup: Lookup, fits: Bools) -> Floats:
        """(n,): price of the demand as MPS shares."""
        mib, pct = (size.astype(np.int64) for size in self._fleet.share_size(lookup))
        total = np.maximum(1, self._fleet.total_mib).astype(np.int64)
        return self._prices(demand, fits, np.maximum(-(-mib * GPU_MILLI // total), pct * 10), 0)

    def whole(self, demand: Demand, fits: Bools) -> Floats:
        """(n,): price of the demand as whole GPUs."""
        asked = np.full(fits.shape, GPU_MILLI, np.int64)
        return self._prices(demand, fits, asked, min(demand.count, KINDS_OF_POD - 1))

    def share_on(self, node: str, demand: Demand, free_milli: IntArray, left_milli: IntArray) -> Floats:  # noqa: ARG002  # NodeScorer's
        """(g,): the fullest GPU that holds the share goes first."""
        return np.where(left_milli >= 0, free_milli, np.inf)

    def _prices(self, demand: Demand, fits: Bools, asked: IntArray, kind: int) -> Floats:
        """`asked`: (w, n) milli of one GPU."""
        price = np.full(fits.shape[1], np.inf)
        columns = np.flatnonzero(fits.any(axis=0))
        if columns.size:
            score = self.score(self._seen(demand, fits[:, columns], asked[:, columns], columns, kind))
            gib = float(self._fleet.total_mib[fits].mean()) / 1024
            price[columns] = (100 - score) / 100 * gib
        return price

    def _seen(self, demand: Demand, fits: Bools, asked: IntArray, columns: IntArray, kind: int) -> Seen:
        fleet = self._fleet
        free = milli_of(fleet.total_mib[:, columns], fleet.free_mib[:, columns], fleet.free_pct[:, columns])
        kinds = fleet.kind[:, columns]
        free[(kinds != Kind.MPS) | (fleet.clients_left[:, columns] <= 0)] = 0
        free[(kinds == Kind.EXCLUSIVE) & fleet.whole[:, columns]] = GPU_MILLI
        # Memory is rounded to milli, and another tenant's GPU takes nothing: what fits, and that alone, has enough.
        offered = np.where(fits, np.maximum(free, asked), np.minimum(free, asked - 1))
        return Seen(
            cpu_free_milli=np.maximum(fleet.cpu_free_milli[columns], 0),
            gpus=np.ascontiguousarray(-np.sort(-offered, axis=0).T),
            gpu_count=((kinds == Kind.MPS) | (kinds == Kind.EXCLUSIVE)).sum(axis=0, dtype=np.int64),
            held=fleet.pod_kinds[columns, None] >> np.arange(KINDS_OF_POD) & 1,
            cpu_milli=demand.load.cpu_milli,
            milli=np.where(fits, asked, 0).max(axis=0),
            wanted=demand.count,
            kind=kind,
        )
