"""All GPUs of the cluster as arrays: a question about 5,000 nodes is a few passes over memory.

A column is a node, a row the position of a GPU on it, in index order. One GPU changes at a time, in place; the column
of a node that left is given to the next that comes. Column 0 is no node: names that are not known point to it.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import IntEnum
from typing import Final

import numpy as np
from numpy.typing import NDArray

from extender.placement.demand import Shape
from extender.placement.fit import offered, profile_for
from extender.placement.fragment import SHARES, share_room
from extender.placement.joins import NO_JOINS, Joins, joins_of
from extender.placement.load import Allocatable
from extender.placement.masks import tables
from extender.placement.model import NO_PART, Gpu
from extender.placement.profile import GpuModel, Mode, Profile
from extender.placement.usage import Usage, mps_clients

NO_NODE: Final = 0
NO_STATE: Final = 0  # of a GPU that gives no MIG slices
NOBODY: Final = -1  # tenant of an MPS GPU that nobody uses
SEVERAL: Final = -2  # and of one that several use: nobody may join
NOT_TOLD: Final = -1  # CPU or memory of a node that does not tell what it has
_MAX_LOOKUPS: Final = 1024
_SPARE_WAYS: Final = 64  # in which GPUs were joined on nodes and are no more, kept beside twice as many as nodes
_CHANGES_KEPT: Final = 1 << 12  # a reader further behind than this looks at all nodes again

Ints = NDArray[np.int32]

# Arrays by their last axes, each with what stands where there is no GPU or no node.
_PER_GPU: Final[Sequence[tuple[str, float]]] = (
    *((name, 0) for name in ("kind", "model", "state", "base", "total_mib", "free_mib", "free_pct", "clients_left")),
    ("tenant", NOBODY),
    ("whole", False),
    ("slices", 1),
    ("all_slices", 1),
    ("clients", 0),
    ("_share_room", 0),
)
_PER_NODE: Final[Sequence[tuple[str, float]]] = (
    ("renewed_s", -np.inf),
    ("cordoned", False),
    ("joins", 0),
    ("pod_kinds", 0),
    *((name, NOT_TOLD) for name in ("cpu_milli", "memory_mib", "cpu_free_milli", "memory_free_mib")),
)


class Kind(IntEnum):
    """What a GPU gives, or that there is none at this position."""

    NO_GPU = 0
    MIG = 1
    MPS = 2
    EXCLUSIVE = 3
    UNUSABLE = 4  # unhealthy, or another manager's


_KINDS: Final = {Mode.MIG: Kind.MIG, Mode.MPS: Kind.MPS, Mode.EXCLUSIVE: Kind.EXCLUSIVE}


@dataclass(frozen=True, slots=True, eq=False)
class Capacity:
    """What nodes could give to a shape if every pod left them. Changes with the layout of the fleet only. (n,) each."""

    wanted: NDArray[np.int16]  # GPUs in a mode that can serve the shape
    places: NDArray[np.int16]  # of those, MIG GPUs that can hold at least one
    shared: NDArray[np.int16]  # and shared GPUs, whatever their size
    offered: NDArray[np.int16]  # GPUs of a model that the shape allows, whatever their mode
    unusable: NDArray[np.int16]  # of those, unhealthy ones and other managers'
    gpus: NDArray[np.int16]  # GPUs
    most: NDArray[np.int64]  # slices of the shape, in the mode that has room for most


@dataclass(frozen=True, slots=True, eq=False)
class Lookup:
    """One shape on every GPU model of the fleet."""

    shape: Shape
    profile: tuple[int | None, ...]  # (m,) the MIG profile that it means
    room: NDArray[np.int16]  # (S,) how many of it fit, by fleet-wide state
    offered: NDArray[np.bool_]  # (m,) whether the shape allows the model
    texts: dict[tuple[int, int], str] = field(default_factory=dict)  # reasons written before, by count and facts
    capacities: dict[bool, tuple[int, "Capacity"]] = field(default_factory=dict)  # by `apart`, with their layout
    sizes: list[tuple[int, Ints, Ints]] = field(default_factory=list)  # the last layout, and the share on each GPU


class Fleet:
    """w positions x n columns; fleet-wide states S: the tables of all models, one after another, from 1 on."""

    def __init__(self) -> None:
        w, n = 8, 64
        self.slots: dict[str, int] = {}  # column of each node
        self.models: list[GpuModel] = []
        self.first_state: list[int] = []  # (m,) where a model's states begin; NO_STATE: not MIG-capable
        self.census = np.zeros(1, np.int64)  # (S,) usable GPUs in each state; of NO_STATE: nothing
        self.largest = np.zeros(1, np.int16)  # (S,) place in `sizes` of the largest profile that fits
        self.sizes: list[tuple[int, int, str]] = [(0, 0, "")]  # memory, compute slices, short name; ascending
        self.layout = 0  # counts the changes of what there is, as against who has it
        self.supply = np.zeros(len(SHARES), np.int64)  # (t,) typical MPS shares that still fit
        self.renewed_s = np.full(n, -np.inf)  # (n,) last heartbeat
        self.cordoned = np.zeros(n, np.bool_)  # (n,) takes no new pods: kube-scheduler passes it over
        self.cpu_milli, self.memory_mib = np.full((2, n), NOT_TOLD, np.int64)  # (n,) for pods, as the node tells
        self.cpu_free_milli, self.memory_free_mib = np.full((2, n), NOT_TOLD, np.int64)  # (n,) less what pods ask for
        self.joins = np.zeros(n, np.intp)  # (n,) place in `ways_joined` of what joins a node's GPUs
        self.ways_joined: list[Joins] = [NO_JOINS]
        self.pod_kinds = np.zeros(n, np.int64)  # (n,) as Node.pod_kinds
        self.clock = 0  # counts the changes of nodes
        self._changed = np.zeros(_CHANGES_KEPT, np.intp)  # ring: which column changed, by clock modulo its length
        self.kind = np.zeros((w, n), np.int8)
        self.model = np.zeros((w, n), np.int16)
        self.state = np.zeros((w, n), np.intp)
        self.base = np.zeros((w, n), np.intp)  # state if every pod left
        self.total_mib = np.zeros((w, n), np.int32)
        self.free_mib = np.zeros((w, n), np.int32)  # of MPS shares, as the next two
        self.free_pct = np.zeros((w, n), np.int32)
        self.clients_left = np.zeros((w, n), np.int32)
        self.tenant = np.full((w, n), NOBODY, np.int32)
        self.whole = np.zeros((w, n), np.bool_)  # can be given whole now
        self.slices, self.all_slices = np.ones((2, w, n), np.int32)  # equal, but for a MIG instance that is shared
        self.clients = np.zeros((w, n), np.int32)  # of its MPS server
        self._share_room = np.zeros((len(SHARES), w, n), np.int64)
        self._joins_ids: dict[Joins, int] = {NO_JOINS: 0}
        self._tenants: dict[str, int] = {}
        self._model_ids: dict[GpuModel, int] = {}
        self._lookups: dict[Shape, Lookup] = {}
        self._spare: list[int] = []
        self._end = NO_NODE + 1

    # ---- nodes -------------------------------------------------------------------------------------------------

    def put(self, name: str, gpus: Sequence[tuple[Gpu, Usage, Usage]]) -> None:
        """A node with its GPUs, each with its usage and its usage without any pod. Replaces what was there."""
        if name in self.slots:
            self._clear(self.slots[name])
        else:
            self.slots[name] = self._spare.pop() if self._spare else self._next_column()
        if len(gpus) > len(self.kind):
            self._pad(len(gpus) - len(self.kind), 0)
        slot = self.slots[name]
        self.layout += 1
        self._touch(slot)
        self.joins[slot] = self._joins_id(joins_of([gpu.end for gpu, _, _ in gpus if gpu.part == NO_PART]))
        for position, (gpu, usage, base) in enumerate(gpus):
            self.kind[position, slot] = _KINDS[gpu.mode] if gpu.usable else Kind.UNUSABLE
            self.model[position, slot] = self._model_id(gpu.model)
            self.total_mib[position, slot] = gpu.memory_mib
            self.slices[position, slot], self.all_slices[position, slot] = gpu.part.slices, gpu.part.all_slices
            self.clients[position, slot] = mps_clients(gpu)
            self.update(slot, position, gpu, usage)
            if gpu.usable and gpu.mode is Mode.MIG:
                self.base[position, slot] = self.first_state[self._model_ids[gpu.model]] + base.state

    def drop(self, name: str) -> None:
        slot = self.slots.pop(name)
        self.layout += 1
        self._clear(slot)
        self._spare.append(slot)

    def update(self, slot: int, position: int, gpu: Gpu, usage: Usage) -> None:
        """One GPU changed. An unusable one gives nothing."""
        if not gpu.usable:
            return
        self._touch(slot)
        if gpu.mode is Mode.MIG:
            self.census[self.state[position, slot]] -= 1
            state = self.first_state[self._model_ids[gpu.model]] + usage.state
            self.state[position, slot] = state
            self.census[state] += 1
            return
        self.whole[position, slot] = usage.whole
        if gpu.mode is Mode.EXCLUSIVE:
            return
        self.free_mib[position, slot] = usage.free_mib
        self.free_pct[position, slot] = usage.free_pct
        self.clients_left[position, slot] = usage.clients_left
        self.tenant[position, slot] = self._tenant(usage)
        self._set_share_room(slot, position, gpu.memory_mib, usage)

    def set_room(self, slot: int, total: Allocatable, free: Allocatable) -> None:
        """CPU and memory of a node for pods: all of it, and what is left."""
        if _told(total) != (self.cpu_milli[slot], self.memory_mib[slot]):
            self.cpu_milli[slot], self.memory_mib[slot] = _told(total)
            self.layout += 1
        if _told(free) != (self.cpu_free_milli[slot], self.memory_free_mib[slot]):
            self.cpu_free_milli[slot], self.memory_free_mib[slot] = _told(free)
            self._touch(slot)

    def changed_since(self, clock: int) -> NDArray[np.intp] | None:
        """Columns that changed after that moment of the clock, each once; None: too many to tell."""
        if self.clock - clock > _CHANGES_KEPT:
            return None
        return np.unique(self._changed[np.arange(clock, self.clock) % _CHANGES_KEPT])

    @property
    def shared_gpus(self) -> int:
        return int(np.count_nonzero(self.kind == Kind.MPS))

    def tenant_id(self, tenant: str) -> int:
        """Its number; one that no GPU knows is nobody's number."""
        return self._tenants.get(tenant, NOBODY)

    def first_state_of(self, model: GpuModel) -> int:
        """Where its states begin; NO_STATE for a model that the fleet does not have."""
        known = self._model_ids.get(model)
        return NO_STATE if known is None else self.first_state[known]

    # ---- questions ---------------------------------------------------------------------------------------------

    def lookup(self, shape: Shape) -> Lookup:
        """Kept until a new GPU model appears."""
        found = self._lookups.get(shape)
        if found is None:
            if len(self._lookups) >= _MAX_LOOKUPS:
                self._lookups.clear()
            found = self._lookups[shape] = self._look_up(shape)
        return found

    def mig_room(self, lookup: Lookup) -> NDArray[np.int16]:  # (w, n)
        """How many more slices each GPU can hold."""
        return lookup.room.take(self.state)

    def share_room(self, lookup: Lookup, tenant: str) -> NDArray[np.signedinteger]:  # (w, n)
        """How many more MPS shares each GPU can hold for a tenant."""
        mib, pct = self.share_size(lookup)
        room = np.minimum(np.minimum(self.free_mib // mib, self.free_pct // pct), self.clients_left)
        return np.where(self.open_to(lookup, tenant), room, 0)

    def share_fits(self, lookup: Lookup, tenant: str) -> NDArray[np.bool_]:  # (w, n)
        """Whether each GPU can hold one more share for a tenant."""
        mib, pct = self.share_size(lookup)
        fits: NDArray[np.bool_] = self.free_mib >= mib
        fits &= self.free_pct >= pct
        fits &= self.clients_left > 0
        fits &= self.open_to(lookup, tenant)
        return fits

    def share_size(self, lookup: Lookup) -> tuple[Ints, Ints]:  # (w, n) or (1, 1) each
        """Memory and compute of a share on each GPU. Counted once for a layout."""
        if not lookup.sizes or lookup.sizes[0][0] != self.layout:
            mib, pct = share_size(lookup.shape, self.total_mib, self.slices, self.all_slices)
            lookup.sizes[:] = [(self.layout, mib, pct)]
        return lookup.sizes[0][1:]

    def open_to(self, lookup: Lookup, tenant: str) -> NDArray[np.bool_]:  # (w, n)
        """Shared GPUs of a model that the shape allows, used by nobody or by this tenant."""
        me = self.tenant_id(tenant)
        mine: NDArray[np.bool_] = self.tenant == NOBODY
        if me != NOBODY:
            mine |= self.tenant == me
        mine &= self.kind == Kind.MPS
        if lookup.shape.models:
            mine &= lookup.offered.take(self.model)
        return mine

    def whole_fits(self, lookup: Lookup) -> NDArray[np.bool_]:  # (w, n)
        """Whether each GPU can be given whole."""
        fits = self.whole.copy()
        if lookup.shape.memory_mib:
            fits &= self.total_mib >= lookup.shape.memory_mib
        if lookup.shape.models:
            fits &= lookup.offered.take(self.model)
        return fits

    # ---- inside ------------------------------------------------------------------------------------------------

    def _touch(self, slot: int) -> None:
        self._changed[self.clock % _CHANGES_KEPT] = slot
        self.clock += 1

    def _look_up(self, shape: Shape) -> Lookup:
        profiles = tuple(profile_for(m, shape) for m in self.models)
        room = np.zeros(len(self.census), np.int16)
        for model, first, k in zip(self.models, self.first_state, profiles, strict=True):
            if k is not None:
                grid = tables(model)
                room[first : first + grid.states] = grid.room[:, k]
        return Lookup(shape, profiles, room, np.array([offered(m.name, shape) for m in self.models] or [False]))

    def _model_id(self, model: GpuModel) -> int:
        known = self._model_ids.get(model)
        if known is not None:
            return known
        self._lookups.clear()
        self._model_ids[model] = len(self.models)
        self.models.append(model)
        self.first_state.append(len(self.census) if model.profiles else NO_STATE)
        if model.profiles:
            grid = tables(model)
            self.census = np.concatenate([self.census, np.zeros(grid.states, np.int64)])
            self._rank_sizes()
        return self._model_ids[model]

    def _joins_id(self, joins: Joins) -> int:
        if joins not in self._joins_ids:
            if len(self.ways_joined) > 2 * len(self.slots) + _SPARE_WAYS:
                self._forget_ways()
            self._joins_ids[joins] = len(self.ways_joined)
            self.ways_joined.append(joins)
        return self._joins_ids[joins]

    def _forget_ways(self) -> None:
        """Those that no node has any more: links may come and go for ever."""
        used, places = np.unique(np.append(0, self.joins), return_inverse=True)  # the first stays: nothing known
        self.joins = places[1:]
        self.ways_joined = [self.ways_joined[i] for i in used.tolist()]
        self._joins_ids = {joins: i for i, joins in enumerate(self.ways_joined)}

    def _rank_sizes(self) -> None:
        self.sizes = sorted({(0, 0, ""), *(_size(p) for m in self.models for p in m.profiles)})
        rank = {size: i for i, size in enumerate(self.sizes)}
        self.largest = np.zeros(len(self.census), np.int16)
        for model, first in zip(self.models, self.first_state, strict=True):
            if first != NO_STATE:
                ranks = np.array([*(rank[_size(p)] for p in model.profiles), 0])  # the last: none fits
                grid = tables(model)
                self.largest[first : first + grid.states] = ranks[grid.largest]

    def _tenant(self, usage: Usage) -> int:
        if len(usage.tenants) != 1:
            return SEVERAL if usage.tenants else NOBODY
        (tenant,) = usage.tenants
        return self._tenants.setdefault(tenant, len(self._tenants))

    def _set_share_room(self, slot: int, position: int, total_mib: int, usage: Usage) -> None:
        room = share_room(np.array(float(total_mib)), np.array(float(usage.free_mib)), np.array(float(usage.free_pct)))
        self.supply += room.astype(np.int64) - self._share_room[:, position, slot]
        self._share_room[:, position, slot] = room

    def _clear(self, slot: int) -> None:
        np.subtract.at(self.census, self.state[:, slot], 1)
        self.supply -= self._share_room[:, :, slot].sum(axis=1)
        for name, empty in _PER_GPU:
            getattr(self, name)[..., slot] = empty
        for name, empty in _PER_NODE:
            getattr(self, name)[slot] = empty

    def _next_column(self) -> int:
        if self._end == len(self.renewed_s):
            self._pad(0, self._end)
        self._end += 1
        return self._end - 1

    def _pad(self, rows: int, columns: int) -> None:
        for name, empty in _PER_GPU:
            grid = getattr(self, name)
            margins = [(0, 0)] * (grid.ndim - 2) + [(0, rows), (0, columns)]
            setattr(self, name, np.pad(grid, margins, constant_values=empty))
        for name, empty in _PER_NODE if columns else ():
            setattr(self, name, np.pad(getattr(self, name), (0, columns), constant_values=empty))


def _told(room: Allocatable) -> tuple[int, int]:
    cpu, memory = room.cpu_milli, room.memory_mib
    return NOT_TOLD if cpu is None else cpu, NOT_TOLD if memory is None else memory


def _size(profile: Profile) -> tuple[int, int, str]:
    return profile.memory_mib, profile.slices, profile.short


def share_size(shape: Shape, total_mib: Ints, slices: Ints, all_slices: Ints) -> tuple[Ints, Ints]:
    """Memory and compute of a share on each device: fit.share_mib and fit.share_pct for arrays, never 0."""
    total = total_mib.astype(np.int64)
    if not shape.compute_pct:
        pct = (-(-100 * shape.memory_mib // np.maximum(1, total))).astype(np.int32)
    elif (slices == all_slices).all():
        pct = np.full((1, 1), shape.compute_pct, np.int32)
    else:
        pct = -(-shape.compute_pct * all_slices // slices)
    if shape.memory_mib:
        return np.full((1, 1), shape.memory_mib, np.int32), pct
    return np.maximum(1, total * pct // 100).astype(np.int32), pct
