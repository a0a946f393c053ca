"""From bound to ready, in stages, each lognormal by its median and 90th percentile; caches of the node shorten them."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from math import ceil, inf
from typing import Final

import numpy as np
from pydantic import Field

from sim.cluster.bandwidth import Clock, Handler, Store
from sim.kernel import Rank
from sim.streams import stream
from sim.strict import Seconds, Strict
from sim.workloads.shapes import Wait, lognormal

STAGES: Final = ("slice", "image", "weights", "engine", "probe")
_DRAWN: Final = ("slice", "image", "weights", "weights_cached", "engine", "compile")


def _wait(p50: str, p90: str) -> Wait:
    return Wait.model_validate({"p50": p50, "p90": p90})


def _pass(*_: str) -> None:
    """Nobody wants to know."""


class ColdStart(Strict):
    """Defaults: an image of 20 GB streamed, 15 GB of weights, vLLM with a warm compile cache.

    Sources: GKE image streaming (20 s against 3 m 50 s); Run:ai model streamer (gp3 14 s); upb-cn/vllm-startup-profiler
    (arXiv 2606.07362: 33.6 s + 1.93 s per billion parameters on A100, +- 2.4 s); an empty compile cache costs an 8B
    model about 25 s more (vllm-project/vllm issue 11005).
    """

    slice: Wait = _wait("2s", "4s")  #: MIG instance created, device handed over
    image: Wait = _wait("60s", "120s")  #: pulled once a node
    image_mib: int = Field(default=19_073, ge=0)  #: as its node lists it afterwards, under the name that the pod has
    weights: Wait = _wait("30s", "60s")  #: from the store, once a node
    weights_cached: Wait = _wait("8s", "12s")  #: from the node's page cache
    engine: Wait = _wait("36s", "40s")  #: process, graphs, profiling
    compile: Wait | None = None  #: more of `engine` on a node that has not compiled the model yet; None: in the image
    copies_at_full_speed: int | None = Field(default=None, ge=1)  #: that the store feeds; None: any number
    probe_period: Seconds = Field(default=10.0, gt=0)


@dataclass(slots=True)
class Copy:
    """Of the image or the weights, to a node; pods that come before it is there wait for the same one."""

    there: bool = False
    waiting: list[Handler] = field(default_factory=list)


@dataclass(slots=True)
class NodeCache:
    copies: dict[str, Copy] = field(default_factory=dict)
    compiled: bool = False


@dataclass(slots=True)
class _Start:
    """One pod on its way. `since_s`: when the present stage began."""

    node: str
    times: Mapping[str, float]
    runs: Handler
    ready: Callable[[Mapping[str, float]], None]
    since_s: float
    stages: dict[str, float] = field(default_factory=dict)


@dataclass(slots=True)
class Starter:
    """Draws each pod's own stages, whatever the others do: common random numbers across policies.

    `came`: hears of each copy that has come to a node, the image or the weights.
    """

    config: ColdStart
    seed: int
    clock: Clock
    came: Callable[[str, str], None] = _pass
    caches: dict[str, NodeCache] = field(default_factory=dict)
    store: Store = field(init=False)

    def __post_init__(self) -> None:
        at_once = self.config.copies_at_full_speed
        self.store = Store(self.clock, inf if at_once is None else float(at_once))

    def begin(self, pod: int, node: str, ready: Callable[[Mapping[str, float]], None], runs: Handler = _pass) -> None:
        """A pod is bound now; `runs` is called when its container does, `ready` when its probe succeeds.

        `ready` is given seconds by stage.
        """
        start = _Start(node, self._draw(pod), runs, ready, self.clock.now_s)
        self.clock.after(start.times["slice"], Rank.POD, lambda: self._image(start))

    def forget(self, node: str) -> None:
        """The node is gone, with all that it had and all that was on its way there."""
        for what in self.caches.pop(node, NodeCache()).copies:
            self.store.stop(f"{node}/{what}")

    def _draw(self, pod: int) -> Mapping[str, float]:
        normal = stream(self.seed, "cold-start", pod).standard_normal(len(_DRAWN)).tolist()
        waits = {name: getattr(self.config, name) for name in _DRAWN}
        return {
            name: 0.0 if wait is None else float(lognormal(wait.p50, wait.p90, wait.max, np.array(z)))
            for (name, wait), z in zip(waits.items(), normal, strict=True)
        }

    def _passed(self, start: _Start, stage: str) -> None:
        start.stages[stage] = self.clock.now_s - start.since_s
        start.since_s = self.clock.now_s

    def _image(self, start: _Start) -> None:
        self._passed(start, "slice")
        self._copied(start, "image", lambda _first: self._weights(start))

    def _weights(self, start: _Start) -> None:
        self._passed(start, "image")
        start.runs()

        def here(first: bool) -> None:
            """The first pod streams them to its GPU as they come; the others read what it brought."""
            wait_s = 0.0 if first else start.times["weights_cached"]
            self.clock.after(wait_s, Rank.POD, lambda: self._engine(start))

        self._copied(start, "weights", here)

    def _copied(self, start: _Start, what: str, then: Callable[[bool], None]) -> None:
        """Goes on when the node has it, and says whether this pod was the first to want it."""
        copies = self.caches.setdefault(start.node, NodeCache()).copies
        first = what not in copies
        copy = copies.setdefault(what, Copy())
        if copy.there:
            then(False)
            return
        copy.waiting.append(lambda: then(first))
        if first:
            self.store.begin(f"{start.node}/{what}", start.times[what], lambda: self._arrived(start.node, what))

    def _arrived(self, node: str, what: str) -> None:
        copy = self.caches[node].copies[what]
        copy.there = True
        self.came(node, what)
        waiting, copy.waiting = copy.waiting, []
        for go_on in waiting:
            go_on()

    def _engine(self, start: _Start) -> None:
        self._passed(start, "weights")
        cache = self.caches.setdefault(start.node, NodeCache())
        engine_s = start.times["engine"] + (0.0 if cache.compiled else start.times["compile"])
        serving_s = start.stages["weights"] + engine_s
        # the first probe that succeeds, counted from the container's start
        probe_s = ceil(serving_s / self.config.probe_period) * self.config.probe_period - serving_s
        start.stages |= {"engine": engine_s, "probe": probe_s}

        def serves() -> None:
            cache.compiled = True
            start.ready(start.stages)

        self.clock.after(engine_s + probe_s, Rank.POD, serves)
