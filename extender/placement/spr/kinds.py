"""Kinds of node in a fleet, and what a demand comes to on each of them as a class of pods."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final, Self

import numpy as np

from extender.placement import fleet as arrays
from extender.placement.demand import Demand, Shape
from extender.placement.fit import offered, share_mib, share_pct
from extender.placement.fleet import Fleet
from extender.placement.load import Load
from extender.placement.profile import Mode
from extender.placement.spr.model import (
    ANY_KIND_MASK,
    GPU_MILLI,
    GPUS_PER_NODE_MAX,
    KINDS_MAX,
    LIMITLESS,
    IntArray,
    Nodes,
)

# Nodes of one make differ by what their system keeps for itself: they are of one kind in whole CPUs and whole GiB.
CPU_STEP_MILLI: Final = 1000
MEMORY_STEP_MIB: Final = 1024

Row = tuple[int, int, int, int, int]  #: of a class of pods: CPU, memory, milli of a GPU, GPUs, kinds of node


@dataclass(frozen=True, slots=True)
class Kind:
    """What is looked at here are GPUs that are shared through MPS or given whole: MIG has its own prices."""

    models: tuple[str, ...]
    shared: bool  # some of its GPUs can be shared
    gpus: int  # 8 at most
    cpu_milli: int
    memory_mib: int  # the most that a node of the kind has, as the next
    gpu_mib: int
    nodes: int

    def joined(self, other: Self) -> "Kind":
        """Both as one, where there are too many kinds."""
        return Kind(
            tuple(sorted({*self.models, *other.models})),
            self.shared or other.shared,
            max(self.gpus, other.gpus),
            max(self.cpu_milli, other.cpu_milli),
            max(self.memory_mib, other.memory_mib),
            max(self.gpu_mib, other.gpu_mib),
            self.nodes + other.nodes,
        )


@dataclass(frozen=True, slots=True, eq=False)
class Kinds:
    """`kind_id`: of each column of the fleet, 0 too where there is no GPU to look at. `columns`: where there is one."""

    listed: tuple[Kind, ...]
    kind_id: IntArray
    columns: IntArray

    def nodes(self) -> Nodes:
        """Nodes of one kind as equal ones."""
        ids = self.kind_id[self.columns]
        each = [[getattr(k, name) for k in self.listed] for name in ("cpu_milli", "memory_mib", "gpus")]
        cpu, memory, gpus = np.array(each, np.int64).reshape(3, -1)
        return Nodes(cpu[ids], memory[ids], gpus[ids], ids)


def kinds_of(fleet: Fleet) -> Kinds:
    """Numbered in sorted order: by GPU models, GPUs and CPU. Beyond KINDS_MAX the rarest are one."""
    ours = (fleet.kind == arrays.Kind.MPS) | (fleet.kind == arrays.Kind.EXCLUSIVE)
    columns = np.flatnonzero(ours.any(axis=0))
    kind_id = np.zeros(len(fleet.renewed_s), np.int64)
    if not columns.size:
        return Kinds((), kind_id, columns)
    names = sorted({m.name for m in fleet.models})
    number = np.array([min(names.index(m.name), KINDS_MAX) for m in fleet.models], np.int64)
    here = ours[:, columns]
    models = np.bitwise_or.reduce(np.where(here, 1 << number[fleet.model[:, columns]], 0), axis=0)
    table = np.stack(
        [
            models,
            (fleet.kind[:, columns] == arrays.Kind.MPS).any(axis=0),
            np.minimum(here.sum(axis=0), GPUS_PER_NODE_MAX),
            _rounded(fleet.cpu_milli[columns], CPU_STEP_MILLI),
        ],
        axis=1,
    ).astype(np.int64)
    found, inverse, count = np.unique(table, axis=0, return_inverse=True, return_counts=True)
    memory, gpu_mib = np.zeros((2, len(found)), np.int64)
    np.maximum.at(memory, inverse.ravel(), _rounded(fleet.memory_mib[columns], MEMORY_STEP_MIB))
    np.maximum.at(gpu_mib, inverse.ravel(), np.where(here, fleet.total_mib[:, columns], 0).max(axis=0))
    kinds = [
        Kind(
            tuple(n for i, n in enumerate(names) if row[0] >> min(i, KINDS_MAX) & 1),
            bool(row[1]),
            row[2],
            row[3],
            *more,
        )
        for row, *more in zip(found.tolist(), memory.tolist(), gpu_mib.tolist(), count.tolist(), strict=True)
    ]
    listed, place = _listed(kinds)
    kind_id[columns] = np.array(place)[inverse.ravel()]
    return Kinds(listed, kind_id, columns)


@dataclass(frozen=True, slots=True)
class Wish:
    """What one pod asks for, as far as the mix is concerned. Without a shape: CPU and memory only."""

    shape: Shape | None
    whole: bool
    count: int  # whole GPUs
    load: Load

    @classmethod
    def of(cls, demand: Demand) -> tuple[Self, int] | None:
        """And how often it counts: a pod of several shares as so many pods. None: it asks for MIG alone."""
        shape = demand.shape
        if shape is None or shape.modes <= {Mode.MIG}:
            return None
        if Mode.MPS not in shape.modes:
            return cls(shape, whole=True, count=demand.count, load=demand.load), 1
        part = Load(demand.load.cpu_milli // demand.count, demand.load.memory_mib // demand.count)
        return cls(shape, whole=False, count=1, load=part), demand.count

    def rows(self, kinds: Sequence[Kind]) -> Iterator[tuple[Row, float]]:
        """Classes of pods, each with its part of the wish: one, or one for each part of a GPU that it comes to.

        A share that is asked for in memory is a smaller part of a larger GPU; the parts of the wish are those of the
        GPUs there are.
        """
        if self.shape is None:
            yield (self.load.cpu_milli, self.load.memory_mib, 0, 0, ANY_KIND_MASK), 1.0
            return
        masks, gpus = dict[int, int](), dict[int, int]()
        for i, kind in enumerate(kinds):
            milli = self._milli(self.shape, kind)
            if milli <= GPU_MILLI:
                masks[milli] = masks.get(milli, 0) | 1 << i
                gpus[milli] = gpus.get(milli, 0) + kind.nodes * kind.gpus
        if not masks:  # no node has such a GPU; its size is known only where it is told in parts of one
            milli = GPU_MILLI if self.whole else 10 * self.shape.compute_pct or GPU_MILLI
            masks, gpus = {milli: 0}, {milli: 1}
        for milli, mask in masks.items():
            everywhere = not self.shape.models and mask == (1 << len(kinds)) - 1
            row = (
                self.load.cpu_milli,
                self.load.memory_mib,
                milli,
                self.count,
                ANY_KIND_MASK if everywhere else mask,
            )
            yield row, gpus[milli] / sum(gpus.values())

    def _milli(self, shape: Shape, kind: Kind) -> int:
        """Of a GPU of a kind of node; more than there is where it gives none."""
        if not any(offered(name, shape) for name in kind.models):
            return GPU_MILLI + 1
        if self.whole:
            return GPU_MILLI if kind.gpu_mib >= shape.memory_mib else GPU_MILLI + 1
        if not kind.shared:
            return GPU_MILLI + 1
        mib = share_mib(shape, kind.gpu_mib)
        return max(10 * share_pct(shape, kind.gpu_mib), -(-GPU_MILLI * mib // kind.gpu_mib))


# ---- inside ----------------------------------------------------------------------------------------------------


def _rounded(amount: IntArray, step: int) -> IntArray:
    return np.where(amount == arrays.NOT_TOLD, LIMITLESS, amount // step * step)


def _listed(kinds: Sequence[Kind]) -> tuple[tuple[Kind, ...], list[int]]:
    """Kinds in order, and where each of those given is among them."""
    order = sorted(
        range(len(kinds)), key=lambda i: (kinds[i].models, kinds[i].shared, kinds[i].gpus, kinds[i].cpu_milli)
    )
    if len(kinds) > KINDS_MAX:
        common = sorted(sorted(order, key=lambda i: -kinds[i].nodes)[: KINDS_MAX - 1], key=order.index)
        order = [*common, *(i for i in order if i not in common)]
    place, listed = [0] * len(kinds), list[Kind]()
    for i in order:
        if len(listed) < KINDS_MAX:
            listed.append(kinds[i])
        else:
            listed[-1] = listed[-1].joined(kinds[i])
        place[i] = len(listed) - 1
    return tuple(listed), place
