"""Many pods come and go while the API server fails in every way it can, and the extender itself is started anew."""

import asyncio
from functools import partial

import numpy as np
import pytest

from extender.placement.allocation import ALLOCATION, Allocation
from slicewise.demo.kube_objects import Json
from tests.extender.edges.harness import Scheduler, World, breaches, until
from tests.fakes.kube_api import PODS, Faults, drops_the_answer, drops_the_request, refuses

NODES = ("mig-0", "mig-1", "mps-0")
KINDS = (
    {"profile": "1g.10gb"},
    {"profile": "3g.40gb"},
    {"memory": "20Gi"},
    {"memory": "6Gi", "mode": "mps"},
    {"mode": "exclusive"},
)


class Chaos:
    def __init__(self, here: World, seed: int) -> None:
        self.here = here
        self.dice = np.random.default_rng(seed)
        self.made = 0

    @property
    def bound(self) -> list[Json]:
        return self.here.there.store.objects(PODS, lambda p: "nodeName" in p["spec"])

    def trouble(self, faults: Faults) -> None:
        """One fault, or none."""
        match int(self.dice.integers(8)):
            case 0:
                faults.add("POST", "binding", drops_the_answer, times=2)
            case 1:
                faults.add("POST", "binding", drops_the_request, times=2)
            case 2:
                faults.add("POST", "binding", refuses(500), times=3)
            case 3:
                faults.add("POST", "binding", refuses(403), times=1)
            case 4:
                faults.cut_watches()
            case 5:
                faults.cut_watches()
                self.here.there.store.compact()
            case 6:
                faults.add("GET", "pods", refuses(429), times=2)

    def leave(self) -> None:
        """Some pods end, some are deleted at once, some first get a deletionTimestamp."""
        for pod in self.bound:
            name = pod["metadata"]["name"]
            match int(self.dice.integers(6)):
                case 0:
                    self.here.there.store.delete(PODS, name)
                case 1:
                    self.here.there.store.merge_patch(PODS, name, {"status": {"phase": "Succeeded"}})
                    self.here.there.store.delete(PODS, name)
                case 2:
                    self.here.there.store.delete(PODS, name, grace_s=30)

    async def arrive(self, scheduler: Scheduler) -> None:
        pods = []
        for _ in range(12):
            self.made += 1
            pods.append(self.here.pod(f"p{self.made:03}", 1, **KINDS[int(self.dice.integers(len(KINDS)))]))
        await asyncio.gather(*(self._place(scheduler, pod) for pod in pods))

    async def _place(self, scheduler: Scheduler, of: Json) -> None:
        fit = (await scheduler.filter(of, *NODES))["NodeNames"]
        if fit:
            scores = await scheduler.prioritize(of, *fit)
            await scheduler.bind(of, max(fit, key=lambda n: (scores[n], n)))

    async def agrees(self, scheduler: Scheduler) -> bool:
        """Whether what the ledger has seen is what the API's objects say.

        Beside it the ledger may keep places for a while: of Bindings that may come late, and of pods that came and
        went while the watch was lost.
        """
        found = await scheduler.state()
        holders = [h for n in found["nodes"].values() for gpu in n["gpus"] for h in gpu["holders"]]
        there = {f"default/{p['metadata']['name']}" for p in self.bound}
        seen = {h["pod"] for h in holders if h["phase"] in {"bound", "terminating"}}
        return seen <= there <= {h["pod"] for h in holders}


@pytest.mark.parametrize("seed", [1, 2, 3])
async def test_nothing_is_given_twice_and_the_ledger_ends_up_right(here: World, seed: int) -> None:
    here.settings |= {"bind_deadline_s": 1.0}
    here.gpus("mig-0", "a100-80:2")
    here.gpus("mig-1", "a100-80:1,l40s:1")
    here.gpus("mps-0", "l40s:2", mps="all")
    chaos = Chaos(here, seed)
    for _ in range(3):
        async with here.extender() as scheduler:
            for _ in range(4):
                chaos.trouble(here.there.faults)
                await chaos.arrive(scheduler)
                assert breaches(chaos.bound) == []
                chaos.leave()
            here.there.faults.rules.clear()
            await until(partial(chaos.agrees, scheduler))
            assert (await scheduler.state())["problems"] == []
    placed = {p["metadata"]["name"]: Allocation.decode(p["metadata"]["annotations"][ALLOCATION]) for p in chaos.bound}
    assert placed
    assert all(len(a.grants()) == 1 for a in placed.values())
