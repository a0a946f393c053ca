"""Whom to evict so that a demand fits: the lowest priorities first, then as few pods as possible."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

from extender.placement.allocation import MigSlice, MpsShare
from extender.placement.demand import Demand, Shape
from extender.placement.fit import profile_for, share_mib, share_pct
from extender.placement.holding import Holding, Phase
from extender.placement.masks import tables
from extender.placement.model import Gpu
from extender.placement.node import Node
from extender.placement.profile import Mode
from extender.placement.usage import mps_clients

Pods = frozenset[str]


@dataclass(frozen=True, slots=True, order=True)
class Cost:
    """What evicting some pods costs. Pods that are leaving already cost nothing."""

    highest: float  # priority; minus infinity for none
    pods: int
    total: int  # sum of priorities
    uids: tuple[str, ...]


def cost(pods: Iterable[Holding]) -> Cost:
    listed = list(pods)
    paid = [h.priority for h in listed if h.phase is not Phase.TERMINATING]
    return Cost(max(paid, default=float("-inf")), len(paid), sum(paid), tuple(sorted(h.uid for h in listed)))


def cheapest(demand: Demand, node: Node, given: Pods, fits: Callable[[Pods], bool]) -> Pods | None:
    """Pods of the node whose eviction makes a demand fit, `given` among them; None if no allowed set does.

    Never a pod of the demand's priority or more. `fits(pods)`: whether the demand fits without these pods.
    For one MIG slice or one whole GPU it is the cheapest set; for more, a set of which no pod can be spared.
    """
    if fits(given):
        return given
    evictable = {uid: h for uid, h in node.pods.items() if h.priority < demand.priority and uid not in given}
    chosen = _by_spots(demand, node, given, evictable, fits)
    if chosen is None:
        chosen = given | evictable.keys()
        if not evictable or not fits(chosen):
            return None
    for uid in sorted(chosen - given, key=lambda u: (cost([evictable[u]]), u), reverse=True):
        if fits(chosen - {uid}):
            chosen -= {uid}
    return chosen


def _by_spots(
    demand: Demand, node: Node, given: Pods, evictable: dict[str, Holding], fits: Callable[[Pods], bool]
) -> Pods | None:
    """One spot for one slice; for several slices the cheapest spots together."""
    spots = {s for s in _spots(demand, node, given) if s and s <= evictable.keys()}
    chosen = given
    for spot in sorted(spots, key=lambda s: cost(evictable[u] for u in s)):
        if demand.shape is not None and demand.count == 1:
            chosen = given
        chosen |= spot
        if fits(chosen):
            return chosen
    return None


def _spots(demand: Demand, node: Node, given: Pods) -> Iterator[Pods]:
    """Places that a slice of the demand could take, each as the pods that are in its way."""
    if demand.shape is None:
        wanted = dict(demand.static)
        yield from (frozenset({h.uid}) for h in node.pods.values() if wanted.keys() & dict(h.static).keys())
        return
    for gpu in node.gpus:
        if gpu.usable:
            pods = [h for h in node.pods.values() if gpu.uuid in h.uuids and h.uid not in given]
            if gpu.mode is Mode.MIG:
                yield from _mig_spots(gpu, demand.shape, pods)
            elif gpu.mode is Mode.MPS and Mode.MPS in demand.shape.modes:
                yield _share_spot(gpu, demand, demand.shape, pods)
            else:
                yield frozenset(h.uid for h in pods)


def _mig_spots(gpu: Gpu, shape: Shape, pods: list[Holding]) -> Iterator[Pods]:
    k = profile_for(gpu.model, shape)
    if k is None:
        return
    grid = tables(gpu.model)
    alone = [
        (h.uid, grid.covering([held.grant.placement]))
        for h in pods
        for held in h.held(gpu.uuid)
        if isinstance(held.grant, MigSlice)
    ]
    for p in grid.of_profile[k]:
        # in the way: everyone beside whom, were he alone, the place would not be free
        yield frozenset(uid for uid, state in alone if grid.next_state[state, p] < 0)


def _share_spot(gpu: Gpu, demand: Demand, shape: Shape, pods: list[Holding]) -> Pods:
    """All of other tenants, then the cheapest and largest until one more share fits."""
    mib, pct = share_mib(shape, gpu.memory_mib, gpu.part), share_pct(shape, gpu.memory_mib, gpu.part)
    strangers = {h.uid for h in pods if h.tenant != demand.tenant}
    staying = sorted(
        (h for h in pods if h.uid not in strangers), key=lambda h: (cost([h]).highest, -_size(gpu, h)[0], h.uid)
    )
    gone = set(strangers)
    for holding in staying:
        sizes = [_size(gpu, h) for h in staying if h.uid not in gone]
        used_mib, used_pct, clients = (sum(column) for column in zip((0, 0, 0), *sizes, strict=True))
        if used_mib + mib <= gpu.memory_mib and used_pct + pct <= 100 and clients < mps_clients(gpu):
            break
        gone.add(holding.uid)
    return frozenset(gone)


def _size(gpu: Gpu, holding: Holding) -> tuple[int, int, int]:
    """Memory, compute and clients that a pod has of a shared GPU; all of it if it has the GPU whole."""
    shares = [h.grant for h in holding.held(gpu.uuid)]
    mib = sum(s.memory_mib if isinstance(s, MpsShare) else gpu.memory_mib for s in shares)
    pct = sum(s.compute_pct if isinstance(s, MpsShare) else 100 for s in shares)
    return mib, pct, len(shares)
