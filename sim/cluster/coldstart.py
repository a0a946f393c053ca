"""From bound to ready, in stages, each lognormal by its median and 90th percentile; caches of the node shorten them."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from math import ceil
from typing import Final

import numpy as np
from pydantic import Field

from sim.streams import stream
from sim.strict import Seconds, Strict
from sim.workloads.shapes import Wait, lognormal

STAGES: Final = ("slice", "image", "weights", "engine", "probe")


def _wait(p50: str, p90: str) -> Wait:
    return Wait.model_validate({"p50": p50, "p90": p90})


class ColdStart(Strict):
    """Defaults: an image of 20 GB streamed, 15 GB of weights, vLLM with a warm compile cache.

    Sources: GKE image streaming (20 s against 3 m 50 s); Run:ai model streamer (gp3 14 s); upb-cn/vllm-startup-profiler
    (arXiv 2606.07362: 33.6 s + 1.93 s per billion parameters on A100, +- 2.4 s).
    """

    slice: Wait = _wait("2s", "4s")  #: MIG instance created, device handed over
    image: Wait = _wait("60s", "120s")  #: pulled once a node
    weights: Wait = _wait("30s", "60s")  #: from the store, once a node
    weights_cached: Wait = _wait("8s", "12s")  #: from the node's page cache
    engine: Wait = _wait("36s", "40s")  #: process, graphs, profiling
    probe_period: Seconds = Field(default=10.0, gt=0)


@dataclass(slots=True)
class NodeCache:
    """When a node has the image and the weights; pods that start before wait for the same copy."""

    image_s: float | None = None
    weights_s: float | None = None


@dataclass(slots=True)
class Starter:
    """Draws each pod's own stages, whatever the others do: common random numbers across policies."""

    config: ColdStart
    seed: int
    caches: dict[str, NodeCache] = field(default_factory=dict)

    def stages(self, pod: int, node: str, bound_s: float) -> Mapping[str, float]:
        """Seconds by stage of a pod that is bound now; their sum is when it is ready."""
        normal = stream(self.seed, "cold-start", pod).standard_normal(5)
        c, cache = self.config, self.caches.setdefault(node, NodeCache())

        def drawn(wait: Wait, i: int) -> float:
            return float(lognormal(wait.p50, wait.p90, wait.max, np.array(normal[i])))

        times = {"slice": drawn(c.slice, 0)}
        at_s = bound_s + times["slice"]
        if cache.image_s is None:
            cache.image_s = at_s + drawn(c.image, 1)
        times["image"] = max(0.0, cache.image_s - at_s)
        at_s += times["image"]
        if cache.weights_s is None:
            times["weights"] = drawn(c.weights, 2)
            cache.weights_s = at_s + times["weights"]
        else:
            times["weights"] = max(0.0, cache.weights_s - at_s) + drawn(c.weights_cached, 3)
        times["engine"] = drawn(c.engine, 4)
        serving_s = times["weights"] + times["engine"]
        # the first probe that succeeds, counted from the container's start
        times["probe"] = ceil(serving_s / c.probe_period) * c.probe_period - serving_s
        return times
