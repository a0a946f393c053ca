"""Which nodes have room for a demand: an array question, answered for all nodes at once."""

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Final

import numpy as np
from numpy.typing import NDArray

from extender.placement.demand import Demand
from extender.placement.fleet import Fleet, Kind, Lookup, share_size
from extender.placement.profile import Mode
from extender.placement.usage import MPS_CLIENTS

Counts = NDArray[np.signedinteger]


def fitting(fleet: Fleet, lookup: Lookup, demand: Demand) -> NDArray[np.bool_]:  # (n,)
    """Nodes with room for all slices of a demand, in one of the modes that its shape allows."""
    fits = np.zeros(len(fleet.renewed_s), np.bool_)
    for mode in lookup.shape.modes:
        fits |= ROOM[mode](fleet, lookup, demand) >= demand.count
    return fits


def _mig(fleet: Fleet, lookup: Lookup, _demand: Demand) -> Counts:
    return np.asarray(fleet.mig_room(lookup).sum(axis=0, dtype=np.int16))


def _shares(fleet: Fleet, lookup: Lookup, demand: Demand) -> Counts:
    if demand.count == 1 or demand.apart:
        return np.asarray(fleet.share_fits(lookup, demand.tenant).sum(axis=0, dtype=np.int16))
    return np.asarray(fleet.share_room(lookup, demand.tenant).sum(axis=0))


def _whole(fleet: Fleet, lookup: Lookup, _demand: Demand) -> Counts:
    return np.asarray(fleet.whole_fits(lookup).sum(axis=0, dtype=np.int16))


#: (n,) slices of a demand for which there is room, by mode.
ROOM: Final[Mapping[Mode, Callable[[Fleet, Lookup, Demand], Counts]]] = MappingProxyType(
    {Mode.MIG: _mig, Mode.MPS: _shares, Mode.EXCLUSIVE: _whole}
)


def capacity(fleet: Fleet, lookup: Lookup, demand: Demand, slots: NDArray[np.intp]) -> dict[Mode, Counts]:
    """Slices of a demand for which some nodes would have room if every pod left them, by mode. (r,) each."""
    shape = lookup.shape
    kind, total_mib = fleet.kind[:, slots], fleet.total_mib[:, slots]
    offered = lookup.offered[fleet.model[:, slots]]
    found: dict[Mode, Counts] = {}
    if Mode.MIG in shape.modes:
        found[Mode.MIG] = lookup.room[fleet.base[:, slots]].sum(axis=0, dtype=np.int64)
    if Mode.MPS in shape.modes:
        mib, pct = share_size(shape, total_mib)
        each = np.minimum(np.minimum(total_mib // mib, 100 // pct), 1 if demand.apart else MPS_CLIENTS)
        found[Mode.MPS] = np.where(offered & (kind == Kind.MPS), each, 0).sum(axis=0)
    if Mode.EXCLUSIVE in shape.modes:
        whole = offered & ((kind == Kind.MPS) | (kind == Kind.EXCLUSIVE)) & (total_mib >= shape.memory_mib)
        found[Mode.EXCLUSIVE] = whole.sum(axis=0)
    return found
