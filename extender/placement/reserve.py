"""Room that is kept for important pods: a pod below a priority takes no place by which less than that would be left.

Counted is how many slices of the reserved shape still fit, each asked for alone, over all usable GPUs of nodes that
have a heartbeat and are not cordoned. A shared GPU counts while nobody uses it: whose it will be is not known before. A
place that takes none of that room is free for everybody, also where less than the reserve is left.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Self

import numpy as np
from numpy.typing import NDArray

from extender.placement.demand import Demand, Shape
from extender.placement.fit import offered, profile_for, share_mib, share_pct
from extender.placement.fleet import Fleet, Lookup
from extender.placement.masks import Tables, tables
from extender.placement.model import Gpu
from extender.placement.plan import NodeView, Prices, Sharing
from extender.placement.profile import GpuModel, Mode, profile_name
from extender.placement.quantity import parse_mib
from extender.placement.scorers.base import Bools, Floats, NodeScorer, Scorer
from extender.placement.traffic import Traffic
from extender.placement.usage import Usage

Counts = NDArray[np.signedinteger]

KEPT: Final = "headroom: "
NO_TENANT: Final = ""  # nobody's name: GPUs that any tenant uses are not open to it
FORM: Final = "want `priority>=P: N x SIZE`, such as `priority>=10000: 4 x 1g.10gb on a100-80`"
MOST_SLICES: Final = 1_000_000
_ENTRY: Final = re.compile(
    r"priority\s*>=\s*(?P<priority>-?\d{1,10})\s*:\s*(?P<count>\d{1,9})\s*x\s*(?P<size>\S+)(?:\s+on\s+(?P<model>\S+))?"
)


class ReserveError(ValueError):
    """A text that is no reserve; the message lists every fault with its entry, value and rule."""


@dataclass(frozen=True, slots=True)
class Reserve:
    """`count` slices of a shape for pods of at least this priority."""

    priority: int
    count: int
    shape: Shape

    def __str__(self) -> str:
        return f"{self.count} x {self.shape}"

    @property
    def why(self) -> str:
        return f"{KEPT}{self} are kept for priority {self.priority} and above"


def parse(text: str) -> tuple[Reserve, ...]:
    """`priority>=P: N x SIZE on MODEL`, several with semicolons between them. Raises ReserveError.

    SIZE is a MIG profile, a memory such as 20Gi (MIG or MPS), or `whole`; `on MODEL` may be left out.
    """
    found, faults = list[Reserve](), list[str]()
    for number, entry in enumerate(text.split(";") if text.strip() else (), start=1):
        said = f"entry {number} ({entry.strip()!r})"
        match = _ENTRY.fullmatch(entry.strip())
        if match is None:
            faults.append(f"{said}: {FORM}")
            continue
        shape = _shape(match["size"], match["model"])
        if shape is None:
            faults.append(f"{said}: SIZE {match['size']!r}: want a MIG profile, a memory such as 20Gi, or `whole`")
        if not 1 <= int(match["count"]) <= MOST_SLICES:
            faults.append(f"{said}: N {match['count']}: want 1 to {MOST_SLICES} slices")
        if shape is not None and any((r.priority, r.shape) == (int(match["priority"]), shape) for r in found):
            faults.append(f"{said}: the same priority and size stand before it; want them once")
        if shape is not None:
            found.append(Reserve(int(match["priority"]), int(match["count"]), shape))
    if faults:
        raise ReserveError("; ".join(faults))
    return tuple(found)


def _shape(size: str, model: str | None) -> Shape | None:
    models = frozenset({model.lower()} if model else ())
    if size == "whole":
        return Shape(frozenset({Mode.EXCLUSIVE}), models=models)
    profile = profile_name(size)
    if profile is not None:
        return Shape(frozenset({Mode.MIG}), profile=profile, models=models)
    mib = parse_mib(size)
    return None if mib is None else Shape(frozenset({Mode.MIG, Mode.MPS}), memory_mib=mib, models=models)


# ---- room ------------------------------------------------------------------------------------------------------


def room(fleet: Fleet, shape: Shape) -> Counts:  # (w, n)
    """How many slices of a reserved shape fit on each GPU now."""
    lookup = fleet.lookup(shape)
    if Mode.EXCLUSIVE in shape.modes:
        return np.asarray(fleet.whole_fits(lookup).astype(np.int16))
    found = fleet.mig_room(lookup)
    return found if Mode.MPS not in shape.modes else found + fleet.share_room(lookup, NO_TENANT)


def room_of(gpu: Gpu, left: Usage, shape: Shape) -> int:
    """The same of one usable GPU."""
    if Mode.EXCLUSIVE in shape.modes:
        return int(left.whole and gpu.memory_mib >= shape.memory_mib and offered(gpu.model.name, shape))
    if gpu.mode is Mode.MIG:
        k = profile_for(gpu.model, shape)
        return 0 if k is None else int(tables(gpu.model).room[left.state, k])
    if gpu.mode is not Mode.MPS or Mode.MPS not in shape.modes or left.tenants or not offered(gpu.model.name, shape):
        return 0
    mib, pct = max(1, share_mib(shape, gpu.memory_mib)), max(1, share_pct(shape, gpu.memory_mib))
    return min(left.free_mib // mib, left.free_pct // pct, left.clients_left)


# ---- what may be taken -----------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, eq=False)
class Limit:
    """One reserve now. `spare`: slices of it that may be taken; never below 0."""

    reserve: Reserve
    room: Counts  # (n,) slices that fit on each node that takes pods
    spare: int

    @classmethod
    def of(cls, reserve: Reserve, fleet: Fleet, since_s: float) -> "Limit":
        """Counted are nodes that take pods: with a heartbeat since then, and not cordoned."""
        found = room(fleet, reserve.shape).sum(axis=0, dtype=np.int64)
        found[(fleet.renewed_s < since_s) | fleet.cordoned] = 0
        return cls(reserve, found, max(0, int(found.sum()) - reserve.count))

    @property
    def near(self) -> Bools:  # (n,)
        return np.asarray(self.room > self.spare)


class Guard:
    """What a pod below the priority of some reserves may take at one moment of the fleet. Valid until it changes."""

    def __init__(self, fleet: Fleet, limits: Sequence[Limit]) -> None:
        self._fleet, self._limits = fleet, limits

    @classmethod
    def of(cls, fleet: Fleet, reserves: Sequence[Reserve], demand: Demand, since_s: float) -> Self | None:
        """None: no place is near a reserve above this demand. `since_s`: a heartbeat must not be older."""
        above = [r for r in reserves if r.priority > demand.priority] if demand.shape is not None else []
        if not above:
            return None
        found = cls(fleet, [Limit.of(r, fleet, since_s) for r in above])
        return found if found.near().any() else None

    def near(self) -> Bools:  # (n,)
        """Nodes with more of a reserve than may be taken: not every place there is free for the pod."""
        return np.asarray(np.logical_or.reduce([limit.near for limit in self._limits]))

    def opens(self, demand: Demand, shape: Shape) -> tuple[Bools, Bools]:  # (n,) (n,)
        """Nodes where a place that may be taken is free for a demand, and those of which that is known.

        On the others it hangs on which places are chosen, so that it must be planned.
        """
        lookup = self._fleet.lookup(shape)
        if shape.modes == {Mode.EXCLUSIVE}:
            return self._opens_whole(lookup, demand.count)
        nodes = len(self._fleet.renewed_s)
        if demand.count > 1:
            return np.zeros(nodes, np.bool_), np.zeros(nodes, np.bool_)
        found = np.zeros(self._fleet.kind.shape, np.bool_)
        if Mode.MIG in shape.modes:
            free = np.zeros(len(self._fleet.census), np.bool_)
            for model, first, k in zip(self._fleet.models, self._fleet.first_state, lookup.profile, strict=True):
                if k is not None:
                    places = self.places(model, k)
                    free[first : first + len(places)] = places.any(axis=1)
            found |= free.take(self._fleet.state)
        if Mode.MPS in shape.modes:
            found |= self._fleet.share_fits(lookup, demand.tenant) & self.spared()
        return np.asarray(found.any(axis=0)), np.ones(nodes, np.bool_)

    def places(self, model: GpuModel, profile: int) -> Bools:  # (s, q)
        """Placements of a profile in each state that fit and take no more of any reserve than may be taken."""
        grid = tables(model)
        after = grid.next_state[:, list(grid.of_profile[profile])]
        free: Bools = after >= 0
        for limit in self._limits:
            k = profile_for(model, limit.reserve.shape)
            if k is not None:
                free &= _lost(grid, k, after) <= limit.spare
        return free

    def spared(self) -> Bools:  # (w, n)
        """GPUs that may be used up, as shared ones are by their first share."""
        return np.asarray(np.logical_and.reduce([self._room(limit) <= limit.spare for limit in self._limits]))

    def spares(self, gpu: Gpu, left: Usage) -> bool:
        """Whether a shared GPU may be used by the pod."""
        return all(room_of(gpu, left, limit.reserve.shape) <= limit.spare for limit in self._limits)

    def why_not(self, before: NodeView, after: NodeView) -> str | None:
        """The reserve that a change of one node undercuts; None: none."""
        for limit in self._limits:
            shape = limit.reserve.shape
            was, is_ = (sum(room_of(gpu, left, shape) for gpu, left in view.gpus) for view in (before, after))
            if was - is_ > limit.spare:
                return limit.reserve.why
        return None

    def whys(self, columns: NDArray[np.intp]) -> list[str]:
        """The first reserve that stands in the way on each of these nodes, of those that are near."""
        first = np.argmax([limit.near[columns] for limit in self._limits], axis=0)
        whys = [limit.reserve.why for limit in self._limits]
        return [whys[i] for i in first.tolist()]

    def _opens_whole(self, lookup: Lookup, count: int) -> tuple[Bools, Bools]:
        """Whichever GPUs are chosen they take at least, and at most, so much of each reserve."""
        fits = self._fleet.whole_fits(lookup)
        nodes = fits.shape[1]
        always, never = np.ones(nodes, np.bool_), np.zeros(nodes, np.bool_)
        for limit in self._limits:
            each = np.where(fits, self._room(limit), -1).astype(np.int64)
            each.sort(axis=0)  # the GPUs that do not fit first
            most = np.maximum(each[-count:], 0).sum(axis=0)
            least = np.cumsum(np.where(each < 0, 0, each), axis=0)
            last = np.minimum((each < 0).sum(axis=0) + count, len(each)) - 1
            always &= most <= limit.spare
            never |= np.take_along_axis(least, last[None, :], axis=0)[0] > limit.spare
        return always, always | never

    def _room(self, limit: Limit) -> Counts:  # (w, n)
        return room(self._fleet, limit.reserve.shape)


class Guarded(Prices):
    """A scorer's prices, infinite for slices and shares that may not be taken: greedy choices go where they may."""

    def __init__(
        self, guard: Guard, fleet: Fleet, scorer: Scorer, traffic: Traffic, nodes: NodeScorer | None = None
    ) -> None:
        super().__init__(fleet, scorer, traffic, nodes)
        self.guard = guard

    def mig(self, model: GpuModel, profile: int) -> Floats:
        return np.where(self.guard.places(model, profile), super().mig(model, profile), np.inf)

    def shares_on(self, view: NodeView, demand: Demand, sharing: Sharing) -> Floats:
        free = [self.guard.spares(*view.gpus[i]) for i in sharing.places]
        return np.where(free, super().shares_on(view, demand, sharing), np.inf)


def _lost(grid: Tables, profile: int, after: NDArray[np.int32]) -> Counts:  # (s, q)
    return np.asarray(grid.room[:, profile, None] - grid.room[after, profile])
