"""Why a node is refused, short and counted: few different texts, however many nodes.

The facts of each node are packed into one number; equal numbers share one text, which is written once for a shape.
"""

from collections.abc import Iterator, Mapping
from enum import IntEnum
from types import MappingProxyType
from typing import Final

import numpy as np
from numpy.typing import NDArray

from extender.placement.demand import Demand, Shape
from extender.placement.fleet import Fleet, Kind, Lookup, Reason, share_size
from extender.placement.profile import Mode
from extender.placement.room import ROOM, capacity

Ints = NDArray[np.int64]


class Case(IntEnum):
    NO_GPU = 0
    NO_MODEL = 1
    UNUSABLE = 2
    NO_MODE = 3
    TOO_SMALL = 4
    FULL = 5


class Lack(IntEnum):
    """What the shared GPUs of a node lack most."""

    NOTHING = 0  # there are none, or they are not asked
    TENANT = 1
    MEMORY = 2
    COMPUTE = 3
    CLIENTS = 4
    PLACES = 5


_KINDS: Final[Mapping[Mode, tuple[Kind, ...]]] = MappingProxyType(
    {Mode.MIG: (Kind.MIG,), Mode.MPS: (Kind.MPS,), Mode.EXCLUSIVE: (Kind.EXCLUSIVE, Kind.MPS)}
)
# Fields of a packed number, each with its width in bits.
_FIELDS: Final = (("case", 3), ("gpus", 7), ("room", 7), ("largest", 12), ("shared", 7), ("lack", 3), ("most", 14))


def reasons(fleet: Fleet, lookup: Lookup, demand: Demand, slots: NDArray[np.intp]) -> list[Reason]:  # (r,)
    """The reason of each node that has no room, in the order of `slots`."""
    packed = _pack(_facts(fleet, lookup, demand, slots)).tolist()
    written = lookup.texts
    count = demand.count
    for number in set(packed):
        key = (count, number)
        if key not in written:
            written[key] = _write(fleet, lookup.shape, count, number)
    return [written[count, number] for number in packed]


def _facts(fleet: Fleet, lookup: Lookup, demand: Demand, slots: NDArray[np.intp]) -> dict[str, Ints]:
    kind = fleet.kind[:, slots]
    offered = (kind != Kind.NO_GPU) & lookup.offered[fleet.model[:, slots]]
    wanted = offered & np.isin(kind, _kinds(lookup.shape))
    most = capacity(fleet, lookup, demand, slots)
    could = np.maximum.reduce(list(most.values()))
    case = np.select(
        [
            (kind == Kind.NO_GPU).all(axis=0),
            ~offered.any(axis=0),
            ~wanted.any(axis=0) & (offered & (kind == Kind.UNUSABLE)).any(axis=0),
            ~wanted.any(axis=0),
            could < demand.count,
        ],
        [Case.NO_GPU, Case.NO_MODEL, Case.UNUSABLE, Case.NO_MODE, Case.TOO_SMALL],
        Case.FULL,
    ).astype(np.int64)
    facts = {"case": case, "gpus": wanted.sum(axis=0), "room": could}
    full = case == Case.FULL
    if Mode.MIG in lookup.shape.modes:
        facts["gpus"] = np.where(full, (lookup.room[fleet.base[:, slots]] > 0).sum(axis=0), facts["gpus"])
        facts["largest"] = fleet.largest[fleet.state[:, slots]].max(axis=0)
        facts["room"] = np.where(full, ROOM[Mode.MIG](fleet, lookup, demand)[slots], could)
    if Mode.MPS in lookup.shape.modes:
        facts |= _shared(fleet, lookup, demand, slots)
    if Mode.EXCLUSIVE in lookup.shape.modes:
        facts["room"] = np.where(full, ROOM[Mode.EXCLUSIVE](fleet, lookup, demand)[slots], could)
    return facts


def _shared(fleet: Fleet, lookup: Lookup, demand: Demand, slots: NDArray[np.intp]) -> dict[str, Ints]:
    """What the shared GPUs lack: whole GiB or percent that are free at most, so that few texts differ."""
    kind, total_mib = fleet.kind[:, slots], fleet.total_mib[:, slots]
    shared = (kind == Kind.MPS) & lookup.offered[fleet.model[:, slots]]
    mine = fleet.open_to(lookup, demand.tenant)[:, slots]
    mib, pct = share_size(lookup.shape, total_mib)
    free_mib = np.where(mine, fleet.free_mib[:, slots], 0)
    free_pct = np.where(mine, fleet.free_pct[:, slots], 0)
    clients = mine & (fleet.clients_left[:, slots] > 0)
    lacks = [
        ~shared.any(axis=0),
        ~mine.any(axis=0),
        ~(mine & (free_mib >= mib)).any(axis=0),
        ~(mine & (free_pct >= pct)).any(axis=0),
        ~clients.any(axis=0),
    ]
    lack = np.select(lacks, [Lack.NOTHING, Lack.TENANT, Lack.MEMORY, Lack.COMPUTE, Lack.CLIENTS], Lack.PLACES)
    most = np.select(
        [lack == Lack.MEMORY, lack == Lack.COMPUTE], [free_mib.max(axis=0) // 1024, free_pct.max(axis=0)], 0
    )
    return {"shared": shared.sum(axis=0), "lack": lack.astype(np.int64), "most": most.astype(np.int64)}


def _kinds(shape: Shape) -> list[Kind]:
    """Kinds of GPU that can serve a shape."""
    return sorted({k for mode in shape.modes for k in _KINDS[mode]})


def _pack(facts: dict[str, Ints]) -> Ints:
    packed = np.zeros(len(facts["case"]), np.int64)
    for name, bits in _FIELDS:
        packed <<= bits
        if name in facts:
            packed |= np.minimum(facts[name].astype(np.int64), (1 << bits) - 1)
    return packed


def _unpack(number: int) -> dict[str, int]:
    facts = {}
    for name, bits in reversed(_FIELDS):
        facts[name] = number & ((1 << bits) - 1)
        number >>= bits
    return facts


def _write(fleet: Fleet, shape: Shape, count: int, number: int) -> Reason:
    facts = _unpack(number)
    match facts["case"]:
        case Case.NO_GPU:
            text = "no GPU"
        case Case.NO_MODEL:
            text = f"no GPU of model {' or '.join(sorted(shape.models))}"
        case Case.UNUSABLE:
            text = "its GPUs are unhealthy or another manager's"
        case Case.NO_MODE:
            text = f"no GPU in mode {' or '.join(k.name.lower() for k in _kinds(shape))}"
        case Case.TOO_SMALL if facts["room"] == 0:
            text = f"{_gpus(facts['gpus'])}: even empty, none can hold {shape}"
        case Case.TOO_SMALL:
            text = f"even empty, room for {facts['room']} of {count} x {shape}"
        case _:
            return Reason("; ".join(_full(fleet, shape, count, facts)), resolvable=True)
    return Reason(text, resolvable=False)


def _full(fleet: Fleet, shape: Shape, count: int, facts: dict[str, int]) -> Iterator[str]:
    """One part for each mode in which the node could have had room."""
    if Mode.EXCLUSIVE in shape.modes:
        yield f"{_gpus(facts['gpus'])}: {facts['room']} of {count} free as a whole"
    if Mode.MIG in shape.modes and facts["gpus"]:
        slot = f"{shape.profile.split('.', 1)[0]} slot" if shape.profile else f"slot for {shape}"
        number = "no" if facts["room"] == 0 else f"{facts['room']} of {count}"
        largest = fleet.sizes[facts["largest"]][2]
        yield f"{_gpus(facts['gpus'])}: {number} {slot}, {f'largest free {largest}' if largest else 'all taken'}"
    lack = {
        Lack.TENANT: "all with other tenants",
        Lack.MEMORY: f"no room for {shape}, most free {facts['most']} GiB",
        Lack.COMPUTE: f"no room for {shape}, most free {facts['most']} %",
        Lack.CLIENTS: "no MPS client left",
        Lack.PLACES: f"no room for {count} x {shape}",
    }.get(Lack(facts["lack"]))
    if lack:
        yield f"{facts['shared']} shared {'GPU' if facts['shared'] == 1 else 'GPUs'}: {lack}"


def _gpus(count: int) -> str:
    return "1 GPU" if count == 1 else f"{count} GPUs"
