"""Which nodes have room for a demand: an array question, answered for all nodes at once."""

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Final

import numpy as np
from numpy.typing import NDArray

from extender.placement.demand import Demand, Shape
from extender.placement.fleet import Capacity, Fleet, Kind, Lookup
from extender.placement.joins import largest_joined
from extender.placement.links import MAX_GPUS, Link, Tier
from extender.placement.profile import Mode

Counts = NDArray[np.signedinteger]


def rooms(fleet: Fleet, lookup: Lookup, demand: Demand) -> dict[Mode, Counts]:  # (n,) each
    """Slices of a demand for which each node has room now, by mode. They fit where one mode has room for all."""
    return {mode: _ROOM[mode](fleet, lookup, demand) for mode in sorted(lookup.shape.modes)}


def fitting(room: Mapping[Mode, Counts], count: int) -> NDArray[np.bool_]:  # (n,)
    """Nodes where one mode has room for all slices."""
    return np.asarray(np.logical_or.reduce([r >= count for r in room.values()]))


def _mig(fleet: Fleet, lookup: Lookup, _demand: Demand) -> Counts:
    return np.asarray(fleet.mig_room(lookup).sum(axis=0, dtype=np.int16))


def _shares(fleet: Fleet, lookup: Lookup, demand: Demand) -> Counts:
    if demand.count == 1 or demand.apart:
        return np.asarray(fleet.share_fits(lookup, demand.tenant).sum(axis=0, dtype=np.int16))
    return np.asarray(fleet.share_room(lookup, demand.tenant).sum(axis=0))


def _whole(fleet: Fleet, lookup: Lookup, _demand: Demand) -> Counts:
    """Of GPUs that must be joined: the most that are."""
    fits = fleet.whole_fits(lookup)
    if lookup.shape.link is Link.REQUIRE:
        return np.asarray(most_joined(fleet, fits)[Tier.NVLINK])
    return np.asarray(fits.sum(axis=0, dtype=np.int16))


def most_joined(fleet: Fleet, fits: NDArray[np.bool_]) -> NDArray[np.int16]:  # (w, n) -> (tiers, n)
    """How many of some GPUs of each node are joined, every two of them, in each tier or a better one."""
    count = fits.sum(axis=0, dtype=np.int16)
    found = np.repeat(np.minimum(count, 1)[None, :], len(Tier), axis=0)  # one is always joined
    found[Tier.FAR] = count
    known = np.flatnonzero((fleet.joins > 0) & (count > 1))
    bits = np.left_shift(1, np.arange(MAX_GPUS))[: len(fits)]
    sets = bits @ fits[:MAX_GPUS, known]
    ways = fleet.joins[known]
    for way in np.unique(ways).tolist():
        at = ways == way
        found[:, known[at]] = largest_joined(fleet.ways_joined[way])[:, sets[at]]
    return found


_ROOM: Final[Mapping[Mode, Callable[[Fleet, Lookup, Demand], Counts]]] = MappingProxyType(
    {Mode.MIG: _mig, Mode.MPS: _shares, Mode.EXCLUSIVE: _whole}
)
_KINDS: Final[Mapping[Mode, frozenset[Kind]]] = MappingProxyType(
    {
        Mode.MIG: frozenset({Kind.MIG}),
        Mode.MPS: frozenset({Kind.MPS}),
        Mode.EXCLUSIVE: frozenset({Kind.EXCLUSIVE, Kind.MPS}),
    }
)


def kinds(shape: Shape) -> list[Kind]:
    """Kinds of GPU that can serve a shape."""
    return sorted(frozenset[Kind]().union(*(_KINDS[mode] for mode in shape.modes)))


def capacity(fleet: Fleet, lookup: Lookup, demand: Demand) -> Capacity:
    """Counted once for a layout of the fleet."""
    layout, found = lookup.capacities.get(demand.apart, (-1, None))
    if found is None or layout != fleet.layout:
        found = _capacity(fleet, lookup, demand)
        lookup.capacities[demand.apart] = fleet.layout, found
    return found


def _capacity(fleet: Fleet, lookup: Lookup, demand: Demand) -> Capacity:
    shape, kind = lookup.shape, fleet.kind
    offered = (kind != Kind.NO_GPU) & lookup.offered.take(fleet.model)
    shared = offered & (kind == Kind.MPS)
    most = np.zeros(len(fleet.renewed_s), np.int64)
    places = np.zeros(kind.shape, np.int16)
    if Mode.MIG in shape.modes:
        places = lookup.room.take(fleet.base)
        most = np.maximum(most, places.sum(axis=0))
    if Mode.MPS in shape.modes:
        mib, pct = fleet.share_size(lookup)
        each = np.minimum(np.minimum(fleet.total_mib // mib, 100 // pct), 1 if demand.apart else fleet.clients)
        most = np.maximum(most, np.where(shared, each, 0).sum(axis=0))
    if Mode.EXCLUSIVE in shape.modes:
        offered &= fleet.slices == fleet.all_slices  # a MIG instance is no GPU
        whole = offered & np.isin(kind, kinds(shape)) & (fleet.total_mib >= shape.memory_mib)
        joined = most_joined(fleet, whole)[Tier.NVLINK] if shape.link is Link.REQUIRE else whole.sum(axis=0)
        most = np.maximum(most, joined)
    return Capacity(
        wanted=_count(offered & np.isin(kind, kinds(shape))),
        places=_count(places > 0),
        shared=_count(shared),
        offered=_count(offered),
        unusable=_count(offered & (kind == Kind.UNUSABLE)),
        gpus=_count(kind != Kind.NO_GPU),
        most=most,
    )


def _count(there: NDArray[np.bool_]) -> NDArray[np.int16]:  # (w, n) -> (n,)
    return np.asarray(there.sum(axis=0, dtype=np.int16))
