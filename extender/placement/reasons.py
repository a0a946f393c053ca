"""Why a node is refused, short and counted: few different texts, however many nodes.

The facts of each node are packed into one number; equal numbers share one text, which is written once for a shape.
"""

from collections.abc import Iterator, Mapping
from enum import IntEnum
from typing import Final

import numpy as np
from numpy.typing import NDArray

from extender.placement.demand import Demand, Shape
from extender.placement.fleet import Capacity, Fleet, Lookup
from extender.placement.links import Link
from extender.placement.profile import Mode
from extender.placement.room import Counts, capacity, kinds

Bools = NDArray[np.bool_]
Ints = NDArray[np.int64]
Slots = NDArray[np.intp]


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


# Fields of a packed number, each with its width in bits; the case is the highest.
_FIELDS: Final = (("case", 3), ("gpus", 7), ("room", 7), ("largest", 12), ("shared", 7), ("lack", 3), ("most", 14))


def reasons(
    fleet: Fleet, lookup: Lookup, demand: Demand, room: Mapping[Mode, Counts], slots: Slots
) -> tuple[list[str], Bools]:  # (r,) each
    """Why each of these nodes has no room, and whether it would have if pods left it. `room`: as it is now."""
    could = capacity(fleet, lookup, demand)
    case = _cases(could, demand.count, slots)
    facts: dict[str, NDArray[np.signedinteger]] = {"case": case}
    full = case == Case.FULL
    if not full.all():
        facts["gpus"] = could.wanted.take(slots)
        facts["room"] = could.most.take(slots)
    if full.any():
        for name, values in _lacking(fleet, lookup, demand, room, slots[full]).items():
            facts.setdefault(name, np.zeros(len(slots), np.int64))[full] = values
    packed = _pack(facts).tolist()
    written, count = lookup.texts, demand.count
    for number in set(packed):
        if (count, number) not in written:
            written[count, number] = _write(fleet, lookup.shape, count, number)
    texts = {number: written[count, number] for number in set(packed)}
    return [texts[number] for number in packed], full


def _cases(could: Capacity, count: int, slots: Slots) -> Ints:
    """The first that applies, of those that pods which leave cannot change; FULL for the others."""
    wanted, unusable = could.wanted.take(slots), could.unusable.take(slots)
    case = np.where(could.most.take(slots) < count, Case.TOO_SMALL, Case.FULL)
    case[wanted == 0] = Case.NO_MODE
    case[(wanted == 0) & (unusable > 0)] = Case.UNUSABLE
    case[could.offered.take(slots) == 0] = Case.NO_MODEL
    case[could.gpus.take(slots) == 0] = Case.NO_GPU
    return case.astype(np.int64)


def _lacking(
    fleet: Fleet, lookup: Lookup, demand: Demand, room: Mapping[Mode, Counts], slots: Slots
) -> dict[str, NDArray[np.signedinteger]]:
    """What nodes that are full have and lack."""
    could = capacity(fleet, lookup, demand)
    facts: dict[str, NDArray[np.signedinteger]] = {"gpus": could.wanted.take(slots)}
    if Mode.MIG in room:
        facts["gpus"] = could.places.take(slots)
        facts["room"] = room[Mode.MIG].take(slots)
        facts["largest"] = fleet.largest.take(fleet.state.take(slots, axis=1)).max(axis=0)
    if Mode.EXCLUSIVE in room:
        facts["room"] = room[Mode.EXCLUSIVE].take(slots)
    if Mode.MPS in room:
        facts["shared"] = could.shared.take(slots)
        sharing = np.flatnonzero(facts["shared"])
        lack, most = _shared(fleet, lookup, demand, slots[sharing])
        facts["lack"], facts["most"] = np.zeros(len(slots), np.int64), np.zeros(len(slots), np.int64)
        facts["lack"][sharing], facts["most"][sharing] = lack, most
    return facts


def _shared(fleet: Fleet, lookup: Lookup, demand: Demand, slots: Slots) -> tuple[Ints, Ints]:
    """What the shared GPUs of each node lack, and whole GiB or percent that are free at most: few different texts."""
    mine = fleet.open_to(lookup, demand.tenant).take(slots, axis=1)
    mib, pct = (size if size.shape[1] == 1 else size.take(slots, axis=1) for size in fleet.share_size(lookup))
    free_mib = np.where(mine, fleet.free_mib.take(slots, axis=1), 0)
    free_pct = np.where(mine, fleet.free_pct.take(slots, axis=1), 0)
    clients = mine & (fleet.clients_left.take(slots, axis=1) > 0)
    lack = np.full(len(slots), Lack.PLACES, np.int64)
    lack[~clients.any(axis=0)] = Lack.CLIENTS
    lack[~(mine & (free_pct >= pct)).any(axis=0)] = Lack.COMPUTE
    lack[~(mine & (free_mib >= mib)).any(axis=0)] = Lack.MEMORY
    lack[~mine.any(axis=0)] = Lack.TENANT
    most = np.where(lack == Lack.MEMORY, free_mib.max(axis=0) // 1024, 0)
    return lack, np.where(lack == Lack.COMPUTE, free_pct.max(axis=0), most).astype(np.int64)


def _pack(facts: Mapping[str, NDArray[np.signedinteger]]) -> Ints:
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


def _write(fleet: Fleet, shape: Shape, count: int, number: int) -> str:
    facts = _unpack(number)
    case = Case(facts["case"])
    if case is Case.FULL:
        return "; ".join(_full(fleet, shape, count, facts))
    if case is Case.TOO_SMALL and facts["room"]:
        return f"even empty, room for {facts['room']} of {count} x {shape}"
    return {
        Case.NO_GPU: "no GPU",
        Case.NO_MODEL: f"no GPU of model {' or '.join(sorted(shape.models))}",
        Case.UNUSABLE: "its GPUs are unhealthy or another manager's",
        Case.NO_MODE: f"no GPU in mode {' or '.join(k.name.lower() for k in kinds(shape))}",
        Case.TOO_SMALL: f"{_gpus(facts['gpus'])}: even empty, none can hold {shape}",
    }[case]


def _full(fleet: Fleet, shape: Shape, count: int, facts: dict[str, int]) -> Iterator[str]:
    """One part for each mode in which the node could have had room."""
    if Mode.EXCLUSIVE in shape.modes:
        joined = " and joined by NVLink" if shape.link is Link.REQUIRE else ""
        yield f"{_gpus(facts['gpus'])}: {facts['room']} of {count} free as a whole{joined}"
    if Mode.MIG in shape.modes and facts["gpus"]:
        room = facts["room"]
        slot = "slots" if room else "slot"
        slot = f"{shape.profile.split('.', 1)[0]} {slot}" if shape.profile else f"{slot} for {shape}"
        number = f"{room} of {count}" if room else "no"
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
