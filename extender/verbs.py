"""The scheduler's questions: which nodes fit, which fit best, whom to evict. Answering gives and takes nothing.

What is asked for is remembered: filter counts each pod once, so that scorers can learn the mix.

Array answers for all nodes; the few nodes where a nominated pod waits, or where the pod has a reservation already, are
looked at one by one. Every refused node has its reason.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import compress, repeat
from typing import Final

import numpy as np
from numpy.typing import NDArray

from extender.ledger import Ledger
from extender.placement.allocation import Allocation
from extender.placement.demand import Demand, Shape
from extender.placement.fleet import NO_NODE, Fleet, Kind, Lookup
from extender.placement.link_price import link_price
from extender.placement.links import Link
from extender.placement.plan import Prices
from extender.placement.profile import Mode
from extender.placement.reasons import reasons
from extender.placement.reserve import Guard, Guarded
from extender.placement.room import fitting, rooms
from extender.placement.scorers import Shares
from extender.placement.scorers.base import DIGITS
from extender.placement.victims import cheapest

Bools = NDArray[np.bool_]

MAX_SCORE: Final = 10  # kubernetes/kube-scheduler extender/v1: MaxExtenderPriority
#: So many of the best price levels get a score of their own; all others share the scores that are left.
OWN_LEVELS: Final = 6
KEPT: Final = "room is kept for a nominated pod of equal or higher priority"


@dataclass(frozen=True, slots=True)
class Filtered:
    """Nodes that fit, nodes where evicting pods could help, and nodes where nothing that the scheduler does can."""

    fit: list[str] = field(default_factory=list)
    failed: dict[str, str] = field(default_factory=dict)
    unresolvable: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Eviction:
    """Pods to evict from a node, by uid. `pdb_violations` is the scheduler's own count, passed through."""

    uids: tuple[str, ...] = ()
    pdb_violations: int = 0


@dataclass(frozen=True, slots=True)
class Scored:
    """A node's score and why. `price`: in the scorer's unit, less `warm`. `saved_s`: what makes it warm."""

    node: str
    score: int
    price: float
    warm: float
    saved_s: Mapping[str, float]


def filter_nodes(ledger: Ledger, demand: Demand, names: Sequence[str], now_s: float) -> Filtered:
    """Which of the named nodes have room for a demand now. `fit` keeps the order of `names`."""
    ledger.ask(demand)
    fleet = ledger.fleet
    slots = _slots(ledger, names)
    fresh = (fleet.renewed_s >= now_s - ledger.stale_after_s)[slots]
    answer = Filtered()
    if demand.shape is None:
        fits = _static_fits(ledger, demand, names, fresh, answer)
    else:
        lookup = fleet.lookup(demand.shape)
        room = rooms(fleet, lookup, demand)
        fits = fitting(room, demand.count)[slots] & fresh
        kept = _look_closer(ledger, demand, names, fits, fresh)
        refused = ~fits & fresh
        shut, whys_shut = _shut(ledger, demand, names, fits, now_s)
        fits &= ~shut
        if refused.any():
            whys, resolvable = reasons(fleet, lookup, demand, room, slots[refused])
            _tell(answer, list(compress(names, refused.tolist())), whys, resolvable)
            answer.failed.update(dict.fromkeys(kept, KEPT))
        answer.failed.update(zip(compress(names, shut.tolist()), whys_shut, strict=True))
    for i in np.flatnonzero(~fresh).tolist():
        answer.unresolvable[names[i]] = ledger.unusable(names[i], now_s) or ledger.stale()
    answer.fit.extend(compress(names, fits.tolist()))
    return answer


def filter_objects(
    ledger: Ledger, demand: Demand, objects: Mapping[str, Mapping[str, object]], now_s: float
) -> Filtered:
    """As filter_nodes, for whole Node objects. Those that the ledger does not know are what-if nodes, read as they are.

    The cluster autoscaler asks about nodes that do not exist yet: no pods, no heartbeat, only an inventory.
    """
    known = [name for name in objects if ledger.knows(name)]
    answer = filter_nodes(ledger, demand, known, now_s)
    if len(known) == len(objects):
        return answer
    new = what_if(ledger, {name: o for name, o in objects.items() if not ledger.knows(name)}, now_s)
    other = filter_nodes(new, demand, list(new.nodes()), now_s)
    fit = {*answer.fit, *other.fit}
    return Filtered(
        [name for name in objects if name in fit],
        answer.failed | other.failed,
        answer.unresolvable | other.unresolvable,
    )


def score_objects(
    ledger: Ledger, demand: Demand, objects: Mapping[str, Mapping[str, object]], now_s: float
) -> list[tuple[str, int]]:
    """As score_nodes, for whole Node objects. What-if nodes are compared with one another only."""
    known = [name for name in objects if ledger.knows(name)]
    scores = dict(score_nodes(ledger, demand, known, now_s))
    if len(known) < len(objects):
        new = what_if(ledger, {name: o for name, o in objects.items() if not ledger.knows(name)}, now_s)
        scores |= dict(score_nodes(new, demand, list(new.nodes()), now_s))
    return [(name, scores[name]) for name in objects]


def what_if(ledger: Ledger, objects: Mapping[str, Mapping[str, object]], now_s: float) -> Ledger:
    """A ledger of nodes that do not exist, empty and fresh, with the same settings."""
    new = Ledger(stale_after_s=ledger.stale_after_s, scorer=ledger.scorer_name, savings=ledger.warmth.savings)
    new.learn_from(ledger)
    for name, node in objects.items():
        new.put_node_object(node)
        new.heartbeat(name, now_s)
    return new


def score_nodes(ledger: Ledger, demand: Demand, names: Sequence[str], now_s: float) -> list[tuple[str, int]]:
    """Each named node with its score, 0 … 10: higher is better, the best few price levels apart from one another."""
    price, _ = _net_prices(ledger, demand, names, now_s)
    return list(zip(names, spread(price).tolist(), strict=True))


def why_scores(ledger: Ledger, demand: Demand, names: Sequence[str], now_s: float, most: int = 5) -> list[Scored]:
    """The best of the named nodes, best first, with what their scores are made of."""
    price, warm = _net_prices(ledger, demand, names, now_s)
    scores = spread(price)
    best = np.lexsort((np.arange(len(names)), price))[:most].tolist()
    return [
        Scored(
            node=names[i],
            score=int(scores[i]),
            price=float(price[i]),
            warm=float(warm[i]),
            saved_s=ledger.warmth.on(demand, names[i], now_s),
        )
        for i in best
    ]


def pick_victims(
    ledger: Ledger, demand: Demand, candidates: Mapping[str, Eviction], now_s: float
) -> dict[str, Eviction]:
    """For each candidate node the pods to evict: those given, and where they are not enough the cheapest others.

    Nodes where no allowed eviction helps are left out, and so are nodes where nobody has to go. Nobody is evicted for a
    place that is kept for more important pods.
    """
    found, guard = {}, ledger.guard(demand, now_s)
    for name, given in candidates.items():
        node = ledger.node(name)
        if node is None or ledger.unusable(name, now_s) is not None:
            continue
        uids = cheapest(demand, node, frozenset(given.uids), partial(_fits, ledger, demand, name, guard))
        if uids:
            order = [*given.uids, *sorted(uids.difference(given.uids))]
            found[name] = Eviction(tuple(dict.fromkeys(order)), given.pdb_violations)
    return found


def spread(price: NDArray[np.float64]) -> NDArray[np.int64]:  # (n,)
    """Scores 0 … 10 of prices: equal prices have equal scores, a lower price never has the lower score.

    The best levels get 10, 9, 8, …; where there are more than 11 levels the others share what is left in equal parts.
    An infinite price has score 0.
    """
    levels, level = np.unique(price, return_inverse=True)
    count = int((levels < np.inf).sum())
    rank = np.arange(len(levels))
    score = MAX_SCORE - rank
    if count > MAX_SCORE + 1:
        rest = MAX_SCORE - OWN_LEVELS
        shared = rest - (rank - OWN_LEVELS) * (rest + 1) // (count - OWN_LEVELS)
        score = np.where(rank < OWN_LEVELS, score, shared)
    return np.asarray(np.where(levels < np.inf, score, 0)[level])


# ---- inside ----------------------------------------------------------------------------------------------------


def _slots(ledger: Ledger, names: Sequence[str]) -> NDArray[np.intp]:
    """Columns of the fleet; NO_NODE for nodes without an inventory, whose heartbeat is never fresh."""
    return np.fromiter(map(ledger.fleet.slots.get, names, repeat(NO_NODE)), np.intp, len(names))


def _tell(answer: Filtered, names: list[str], whys: list[str], resolvable: Bools) -> None:
    yes = resolvable.tolist()
    no = (~resolvable).tolist()
    answer.failed.update(zip(compress(names, yes), compress(whys, yes), strict=True))
    answer.unresolvable.update(zip(compress(names, no), compress(whys, no), strict=True))


def _net_prices(
    ledger: Ledger, demand: Demand, names: Sequence[str], now_s: float
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:  # (n,) each
    """Of each named node: its price less what is saved where it is warm, and the latter alone."""
    slots, warm = _slots(ledger, names), None
    if demand.shape is None:
        price = np.array([_static_price(ledger, demand, name) for name in names])
    else:
        price = _prices(ledger, demand, demand.shape, ledger.guard(demand, now_s))[slots]
        warm = ledger.warmth.worth(demand, now_s)
    if warm is not None:
        warm = warm[slots]
        price = np.round(price - warm, DIGITS)
    own = ledger.holding(demand.uid)
    if own is not None and own.node in names:
        price[names.index(own.node)] = -np.inf
    price[ledger.fleet.renewed_s[slots] < now_s - ledger.stale_after_s] = np.inf
    return price, np.zeros(len(price)) if warm is None else warm


def _fits(
    ledger: Ledger, demand: Demand, name: str, guard: Guard | None = None, gone: frozenset[str] = frozenset()
) -> bool:
    return isinstance(ledger.choose(demand, name, guard, gone), Allocation)


def _shut(
    ledger: Ledger, demand: Demand, names: Sequence[str], fits: Bools, now_s: float
) -> tuple[Bools, list[str]]:  # (n,) and one text for each that is
    """Nodes that fit, and whose room is kept for more important pods.

    Most are told apart as arrays. Where nominated pods go first, and where it hangs on which places are chosen, nodes
    are planned one by one: at most as many as there are slices reserved, or about that.
    """
    guard = ledger.guard(demand, now_s)
    if guard is None or demand.shape is None:
        return np.zeros(len(names), np.bool_), []
    slots = _slots(ledger, names)
    near, (opens, known) = fits & guard.near()[slots], guard.opens(demand, demand.shape)
    own, special = ledger.holding(demand.uid), ledger.special_nodes(demand)
    if own is not None and own.node in names:
        near[names.index(own.node)] = False
    planned = near & ~known[slots]
    if special:
        planned |= near & np.fromiter((name in special for name in names), np.bool_, len(names))
    shut = near & ~planned & ~opens[slots]
    for i in np.flatnonzero(planned).tolist():
        shut[i] = not _fits(ledger, demand, names[i], guard)
    return shut, guard.whys(slots[shut])


def _look_closer(ledger: Ledger, demand: Demand, names: Sequence[str], fits: Bools, fresh: Bools) -> list[str]:
    """Corrects `fits` where nominated pods go first, or where the demand has a reservation already.

    Returns the nodes that have room, kept for a nominated pod.
    """
    special = ledger.special_nodes(demand)
    own = ledger.holding(demand.uid)
    kept = []
    for i, name in enumerate(names) if special else ():
        if name in special and fresh[i]:
            before = bool(fits[i])
            fits[i] = (own is not None and own.node == name) or _fits(ledger, demand, name)
            if before and not fits[i]:
                kept.append(name)
    return kept


def _static_fits(ledger: Ledger, demand: Demand, names: Sequence[str], fresh: Bools, answer: Filtered) -> Bools:
    """Static MIG: existing instances that nobody has, counted by node."""
    fits = fresh.copy()
    for i in np.flatnonzero(fresh).tolist():
        room = ledger.static_room(names[i])
        for profile, count in demand.static:
            exist = f"{room.existing[profile] or 'no'} existing {profile}"
            if room.existing[profile] < count:
                fits[i] = False
                answer.failed.pop(names[i], None)
                answer.unresolvable[names[i]] = f"{exist}, wants {count}"
                break
            if room.free[profile] < count:
                fits[i] = False
                answer.failed[names[i]] = f"{exist}, {room.free[profile]} of {count} free"
    answer.failed.update(dict.fromkeys(_look_closer(ledger, demand, names, fits, fresh), KEPT))
    return fits


def _static_price(ledger: Ledger, demand: Demand, name: str) -> float:
    """Fewest instances left over first."""
    if name not in ledger.fleet.slots:
        return np.inf
    free = ledger.static_room(name).free
    left = [free[profile] - count for profile, count in demand.static]
    return float(sum(left)) if min(left) >= 0 else np.inf


def _prices(ledger: Ledger, demand: Demand, shape: Shape, guard: Guard | None = None) -> NDArray[np.float64]:  # (n,)
    """Price of the demand on every node of the fleet, infinite where it does not fit.

    For several slices: the cheapest of each GPU together, repeated where there are fewer GPUs than slices.
    """
    fleet, prices = ledger.fleet, ledger.prices(guard)
    lookup = fleet.lookup(shape)
    best = np.full(len(fleet.renewed_s), np.inf)
    for mode, room in rooms(fleet, lookup, demand).items():
        price = _PRICE[mode](fleet, demand, lookup, prices)
        np.minimum(best, np.where(room >= demand.count, price, np.inf), out=best)
    return best


def _mig_price(fleet: Fleet, demand: Demand, lookup: Lookup, prices: Prices) -> NDArray[np.float64]:
    return _together(prices.cheapest(lookup.shape).take(fleet.state), demand.count)


def _share_price(fleet: Fleet, demand: Demand, lookup: Lookup, prices: Prices) -> NDArray[np.float64]:
    fits = fleet.share_fits(lookup, demand.tenant)
    if prices.nodes is not None:
        return prices.nodes.shares(demand, lookup, fits)  # remembers them: what is kept at the moment is not told
    if isinstance(prices, Guarded):
        fits &= prices.guard.spared()
    total, free_mib, free_pct = (a[fits].astype(np.float64) for a in (fleet.total_mib, fleet.free_mib, fleet.free_pct))
    mib, pct = (np.broadcast_to(size, fits.shape)[fits] for size in fleet.share_size(lookup))
    each = np.full(fits.shape, np.inf)
    each[fits] = prices.shares(Shares(total, free_mib, free_pct), Shares(total, free_mib - mib, free_pct - pct))
    return _together(each, demand.count)


def _whole_price(fleet: Fleet, demand: Demand, lookup: Lookup, prices: Prices) -> NDArray[np.float64]:
    fits = fleet.whole_fits(lookup)
    if prices.nodes is not None:
        price = prices.nodes.whole(demand, fits)
    else:
        shared = (fits & (fleet.kind == Kind.MPS)).sum(axis=0)
        price = prices.whole(fits.sum(axis=0) - shared, shared, demand.count)
    if demand.count == 1 or lookup.shape.link is not Link.PREFER:
        return price
    return price + link_price(fleet, fits, demand.count, in_gib=prices.nodes is not None)


_PRICE: Final = {Mode.MIG: _mig_price, Mode.MPS: _share_price, Mode.EXCLUSIVE: _whole_price}


def _together(each: NDArray[np.float64], count: int) -> NDArray[np.float64]:  # (w, n) -> (n,)
    if count == 1:
        return np.asarray(each.min(axis=0))
    cheapest_first = np.sort(each, axis=0)[: min(count, len(each))]
    usable = np.isfinite(cheapest_first)
    total = np.where(usable, cheapest_first, 0).sum(axis=0)
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(usable.any(axis=0), total * (count / usable.sum(axis=0)), np.inf)
