"""One run: a stream of demands, each placed where the ledger's prices are lowest, lost if it fits nowhere."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from heapq import heappop, heappush
from typing import Final

import numpy as np

from extender.ledger import Ledger
from extender.placement.demand import ContainerDemand, Demand, Shape
from extender.placement.fragment import Mix
from extender.placement.model import Gpu, Inventory
from extender.placement.profile import Mode
from extender.placement.scorers import DEFAULT, SCORERS, Scorer
from extender.placement.scorers.fgd import Fgd
from extender.placement.scorers.fragmentation import Fragmentation
from sim.migpack.mixes import Workload
from sim.migpack.optimum import fewest_gpus
from sim.packing.arguments import DEFAULT_SCORER

#: Mean lifetimes: before anything is counted, and the end.
WARM_UP: Final = 4.0
END: Final = 16.0

#: Beside the extender's scorers, some that are told the true mix.
TOLD: Final[dict[str, Callable[[Mix], Scorer]]] = {"fgd-told": Fgd, "fragmentation-told": Fragmentation}
CONTESTANTS: Final = (*SCORERS, *TOLD)


@dataclass(frozen=True, slots=True)
class Row:
    """The result of one run. Slices are memory slices. `optimum_gpus`: of a fixed set only."""

    mix: str
    scorer: str
    seed: int
    accepted: int
    offered: int
    accepted_slices: int
    offered_slices: int
    gpus_used: int  # most GPUs that were in use at one time
    optimum_gpus: int | None


class Fleet:
    """Nodes of one GPU each, under the extender's ledger. Time stands still for the ledger: nothing goes stale."""

    def __init__(self, work: Workload, scorer: str, gpus: int) -> None:
        self._ledger = Ledger()
        told = TOLD.get(scorer)
        named = zip((p.name for p in work.profiles), work.shares, strict=True)
        known = {**SCORERS, DEFAULT_SCORER: SCORERS[DEFAULT]}
        self._ledger.scorer = known[scorer] if told is None else told(Mix(tuple(named)))
        for i in range(gpus):
            gpu = Gpu(f"GPU-{i}", 0, work.model, work.model.memory_mib, Mode.MIG)
            self._ledger.put_node(f"node-{i}", Inventory((gpu,)))
            self._ledger.heartbeat(f"node-{i}", 0.0)
        self._names = {slot: name for name, slot in self._ledger.fleet.slots.items()}
        self._slots = np.array(list(self._names))
        self._shapes = [Shape(frozenset({Mode.MIG}), profile=p.name) for p in work.profiles]

    @property
    def gpus_used(self) -> int:
        arrays = self._ledger.fleet
        return int(np.count_nonzero((arrays.state != arrays.base)[0, self._slots]))

    def wait(self, uid: str, profile: int) -> None:
        """The API shows the pod: it will ask for a place."""
        self._ledger.wait(self._demand(uid, profile))

    def place(self, uid: str, profile: int) -> bool:
        """Whether it found room. A pod that fits somewhere is never refused; one that does not is gone."""
        demand = self._demand(uid, profile)
        self._ledger.ask(demand)
        price = self._ledger.prices().cheapest(self._shapes[profile])[self._ledger.fleet.state[0]]
        slot = int(price.argmin())
        if np.isinf(price[slot]):
            return False
        self._ledger.assume(uid, uid, demand, self._names[slot], 0.0)
        return self._ledger.confirm(uid)

    def _demand(self, uid: str, profile: int) -> Demand:
        return Demand(uid, uid, "lab", shape=self._shapes[profile], containers=(ContainerDemand("main", 1),))

    def leave(self, uid: str) -> None:
        self._ledger.drop_pod(uid)


def runs(
    works: Sequence[Workload], scorers: Sequence[str], seeds: Sequence[int], *, gpus: int, load: float, fixed: int
) -> Iterator[Row]:
    """Every mix x seed x scorer; the scorers of one seed meet the same demands. `fixed`: 0 for streams."""
    for work in works:
        for seed in seeds:
            for scorer in scorers:
                yield (
                    fixed_set(work, scorer, seed, fixed) if fixed else with_departures(work, scorer, seed, gpus, load)
                )


def with_departures(work: Workload, scorer: str, seed: int, gpus: int, load: float) -> Row:
    """Demands that arrive after the warm-up are counted."""
    fleet, arrivals, sizes = Fleet(work, scorer, gpus), work.arrivals(seed, gpus, load, END), work.sizes
    running: list[tuple[float, str]] = []
    offered, accepted = np.zeros((2, len(sizes)), np.int64)
    most = 0
    for i, (now, k, lifetime) in enumerate(zip(arrivals.at, arrivals.profile, arrivals.lifetime, strict=True)):
        while running and running[0][0] <= now:
            fleet.leave(heappop(running)[1])
        found = fleet.place(f"pod-{i}", int(k))
        if found:
            heappush(running, (float(now + lifetime), f"pod-{i}"))
        if now >= WARM_UP:
            offered[k] += 1
            accepted[k] += found
            most = max(most, fleet.gpus_used)
    return Row(
        work.name,
        scorer,
        seed,
        int(accepted.sum()),
        int(offered.sum()),
        int(accepted @ sizes),
        int(offered @ sizes),
        most,
        None,
    )


def fixed_set(work: Workload, scorer: str, seed: int, pods: int) -> Row:
    """So many demands that all wait, are placed one after another and never leave.

    The fleet has a quarter more GPUs than are needed.
    """
    demands = work.draw(seed, pods)
    counts = np.bincount(demands, minlength=len(work.shares))
    optimum = fewest_gpus(work.model, counts.tolist())
    fleet = Fleet(work, scorer, optimum + optimum // 4 + 1)
    for i, k in enumerate(demands):
        fleet.wait(f"pod-{i}", int(k))
    found = np.array([fleet.place(f"pod-{i}", int(k)) for i, k in enumerate(demands)])
    sizes = work.sizes[demands]
    return Row(
        work.name,
        scorer,
        seed,
        int(found.sum()),
        pods,
        int(sizes @ found),
        int(sizes.sum()),
        fleet.gpus_used,
        optimum,
    )
