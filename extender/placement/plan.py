"""Choosing the slices of a demand on one node: the cheapest by the scorer's prices, complete or not at all."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

import numpy as np
from numpy.typing import ArrayLike

from extender.placement.allocation import Allocation, ContainerGrants, Grant, MigSlice, MpsShare, WholeGpu
from extender.placement.demand import Demand, Shape
from extender.placement.fit import offered, profile_for, share_mib, share_pct
from extender.placement.fleet import Fleet
from extender.placement.joins import choose
from extender.placement.links import Link, Tier
from extender.placement.masks import Tables, tables
from extender.placement.milli import milli_of
from extender.placement.model import Gpu
from extender.placement.profile import GpuModel, Mode
from extender.placement.scorers.base import CLOSED, Bools, Floats, Ints, NodeScorer, Scorer, Shares
from extender.placement.traffic import NO_TRAFFIC, Traffic
from extender.placement.usage import Usage

#: An empty MPS GPU that is given whole can hold no shares any more: exclusive ones go first.
SHARED_TAKEN_WHOLE: Final = 1.0


@dataclass(frozen=True, slots=True)
class NodeView:
    """What one node can give at this moment."""

    name: str
    gpus: tuple[tuple[Gpu, Usage], ...]
    static: Mapping[str, int] = field(default_factory=dict)  # existing MIG instances that nobody has, by profile


@dataclass(frozen=True, slots=True)
class Misfit:
    """The demand does not fit, and why."""

    why: str


@dataclass(frozen=True, slots=True, eq=False)
class Sharing:
    """One share on each of some GPUs of a node. `places`: in the node's view; arrays in their order."""

    places: Sequence[int]
    fits: Bools
    before: Shares
    after: Shares


class Prices:
    """A scorer's prices at one moment of the fleet. Valid until the fleet changes."""

    def __init__(
        self, fleet: Fleet, scorer: Scorer, traffic: Traffic = NO_TRAFFIC, nodes: NodeScorer | None = None
    ) -> None:
        self._fleet, self._scorer, self._traffic, self.nodes = fleet, scorer, traffic, nodes
        self._mig: dict[tuple[GpuModel, int], Floats] = {}

    def mig(self, model: GpuModel, profile: int) -> Floats:
        """(s, q): of each placement of a profile, in each state of its model."""
        found = self._mig.get((model, profile))
        if found is None:
            grid = tables(model)
            first = self._fleet.first_state_of(model)
            census = self._fleet.census[first : first + grid.states] if first else np.zeros(grid.states, np.int64)
            found = self._mig[model, profile] = self._scorer.mig(grid, profile, census, self._traffic)
        return found

    def shares(self, before: Shares, after: Shares) -> Floats:
        return self._scorer.mps(before, after, self._fleet.supply.astype(np.float64), self._fleet.shared_gpus)

    def shares_on(self, view: NodeView, demand: Demand, sharing: "Sharing") -> Floats:
        """(g,): of one share on each of these GPUs of a node, infinite where it does not fit."""
        if self.nodes is None:
            return np.where(sharing.fits, self.shares(sharing.before, sharing.after), np.inf)
        rest = np.array(
            [_milli_left(gpu, left) for i, (gpu, left) in enumerate(view.gpus) if i not in sharing.places], np.int64
        )
        free = np.append(_milli(sharing.before), rest)
        left = np.append(np.where(sharing.fits, _milli(sharing.after), CLOSED), np.full(len(rest), CLOSED))
        return self.nodes.share_on(view.name, demand, free, left)[: len(sharing.fits)]

    def whole(self, exclusive: ArrayLike, shared: ArrayLike, count: int) -> Floats:
        """(n,): of `count` whole GPUs on nodes with so many free ones of each kind."""
        own, other = np.asarray(exclusive, np.int64), np.asarray(shared, np.int64)
        price = self._scorer.whole(own + other, count, self._fleet.whole.sum(axis=0))
        return np.asarray(price + SHARED_TAKEN_WHOLE * np.clip(count - own, 0, None))

    def cheapest(self, shape: Shape) -> Floats:
        """(S,): of the cheapest placement of a shape in each fleet-wide state, infinite where none fits."""
        fleet = self._fleet
        lookup = fleet.lookup(shape)
        best = np.full(len(fleet.census), np.inf)
        for model, first, k in zip(fleet.models, fleet.first_state, lookup.profile, strict=True):
            if k is not None:
                price = self.mig(model, k)
                best[first : first + len(price)] = price.min(axis=1)
        return best


def plan(demand: Demand, view: NodeView, prices: Prices) -> Allocation | Misfit:
    """The allocation of a demand on a node. Static MIG demands hold no GPU of ours: their allocation is empty."""
    if demand.shape is None:
        short = [p for p, count in demand.static if count > view.static.get(p, 0)]
        return Misfit(f"no free instance of {', '.join(short)}") if short else Allocation(())
    found = [_WAYS[mode](demand, demand.shape, view, prices) for mode in Mode if mode in demand.shape.modes]
    best = min((f for f in found if f is not None), key=lambda f: f[0], default=None)
    if best is None:
        return Misfit(f"no room for {demand.count} x {demand.shape}")
    return Allocation(tuple(_to_containers(demand, best[1])))


_Found = tuple[float, tuple[Grant, ...]] | None  # price and grants


def _mig(demand: Demand, shape: Shape, view: NodeView, prices: Prices) -> _Found:
    """Greedy by price, never onto a place that would leave too little room for the slices still to come."""
    gpus: list[tuple[Gpu, Tables, int]] = []
    states: list[int] = []
    for gpu, usage in view.gpus:
        k = profile_for(gpu.model, shape) if gpu.mode is Mode.MIG else None
        if k is not None:
            gpus.append((gpu, tables(gpu.model), k))
            states.append(usage.state)
    rooms = [int(grid.room[state, k]) for (_, grid, k), state in zip(gpus, states, strict=True)]
    if sum(rooms) < demand.count:
        return None
    price, grants = 0.0, []
    for to_come in reversed(range(demand.count)):
        spare = sum(rooms) - to_come
        best = min(
            (cost, i, after, p)
            for i, (gpu, grid, k) in enumerate(gpus)
            if rooms[i]
            for cost, after, p in _places(grid, k, states[i], prices.mig(gpu.model, k))
            if rooms[i] - int(grid.room[after, k]) <= spare
        )
        cost, i, after, p = best
        gpu, grid, k = gpus[i]
        price, states[i], rooms[i] = price + cost, after, int(grid.room[after, k])
        taken = grid.placements[p]
        grants.append(MigSlice(gpu.uuid, taken.profile, taken.start, taken.size))
    return price, tuple(grants)


def _places(grid: Tables, k: int, state: int, price: Floats) -> Iterator[tuple[float, int, int]]:
    """Price, state after it and index of each placement of profile k that fits in a state."""
    for cost, p in zip(price[state].tolist(), grid.of_profile[k], strict=True):
        after = int(grid.next_state[state, p])
        if after >= 0:
            yield cost, after, p


def _shares(demand: Demand, shape: Shape, view: NodeView, prices: Prices) -> _Found:
    """One share after another where it is cheapest; each on another GPU where a container wants several."""
    places = [
        i
        for i, (gpu, u) in enumerate(view.gpus)
        if gpu.mode is Mode.MPS and offered(gpu.model.name, shape) and u.tenants <= {demand.tenant}
    ]
    if not places:
        return None
    gpus = [view.gpus[i] for i in places]
    total = np.array([gpu.memory_mib for gpu, _ in gpus], np.float64)
    free_mib = np.array([u.free_mib for _, u in gpus], np.float64)
    free_pct = np.array([u.free_pct for _, u in gpus], np.float64)
    clients = np.array([u.clients_left for _, u in gpus])
    mib = np.array([share_mib(shape, gpu.memory_mib, gpu.part) for gpu, _ in gpus])
    pct = np.array([share_pct(shape, gpu.memory_mib, gpu.part) for gpu, _ in gpus])
    taken = np.zeros(len(gpus), np.int64)
    price, grants = 0.0, []
    for _ in range(demand.count):
        fits = (free_mib >= mib) & (free_pct >= pct) & (clients > taken)
        if demand.apart:
            fits &= taken == 0
        if not fits.any():
            return None
        after = Shares(total, free_mib - mib, free_pct - pct)
        cost = prices.shares_on(view, demand, Sharing(places, fits, Shares(total, free_mib, free_pct), after))
        i = int(cost.argmin())
        price += float(cost[i])
        grants.append(MpsShare(gpus[i][0].uuid, int(mib[i]), int(pct[i]), int(taken[i])))
        free_mib[i], free_pct[i], taken[i] = free_mib[i] - mib[i], free_pct[i] - pct[i], taken[i] + 1
    return price, tuple(grants)


def _whole(demand: Demand, shape: Shape, view: NodeView, prices: Prices) -> _Found:
    free = [
        gpu for gpu, u in view.gpus if u.whole and gpu.memory_mib >= shape.memory_mib and offered(gpu.model.name, shape)
    ]
    exclusive = [g for g in free if g.mode is Mode.EXCLUSIVE]
    shared = [g for g in free if g.mode is Mode.MPS]
    pools = (exclusive, [*exclusive, *shared]) if shared else (exclusive,)
    found = [
        (-tier, [WholeGpu(pool[i].uuid) for i in places])
        for pool in pools
        for tier, places in _chosen(pool, demand.count, shape.link)
    ]
    if not found:
        return None
    price = float(prices.whole([len(exclusive)], [len(shared)], demand.count)[0])
    return price, tuple(min(found, key=lambda f: f[0])[1])  # shared ones only where that joins them better


def _chosen(pool: Sequence[Gpu], count: int, link: Link) -> Iterator[tuple[Tier, tuple[int, ...]]]:
    chosen = choose([gpu.end for gpu in pool], count, link)
    if chosen is not None:
        yield chosen


def _milli(shares: Shares) -> Ints:
    return milli_of(shares.total_mib, shares.free_mib, shares.free_pct)


def _milli_left(gpu: Gpu, left: Usage) -> int:
    """Free milli of a GPU that is shared or given whole; 0 of one that gives MIG slices."""
    if gpu.mode is Mode.MPS and left.clients_left:
        return min(left.free_mib * 1000 // gpu.memory_mib, left.free_pct * 10)
    return 1000 if gpu.mode is Mode.EXCLUSIVE and left.whole else 0


_WAYS: Final = {Mode.MIG: _mig, Mode.MPS: _shares, Mode.EXCLUSIVE: _whole}


def _to_containers(demand: Demand, grants: Sequence[Grant]) -> Iterator[ContainerGrants]:
    """Sidecars and the main containers keep theirs; an init container uses what later ones will hold."""
    kept = 0
    for c in demand.containers:
        yield ContainerGrants(c.name, tuple(grants[kept : kept + c.count]))
        kept += 0 if c.init else c.count
