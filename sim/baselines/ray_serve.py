"""Ray Serve: requests in flight per replica, with delays that count decisions in a row.

Source: ray-project/ray python/ray/serve/autoscaling_policy.py and config.py: target_ongoing_requests 2, look_back 30 s,
upscale_delay 30 s, downscale_delay 600 s, smoothing factors 1. Deviation: a tick of 15 s instead of 10 s or less.
"""

from collections.abc import Iterator
from itertools import product
from typing import NamedTuple

from sim.baselines.base import ceiled
from sim.fluid.jit import of_type
from sim.fluid.load import FloatArray
from sim.fluid.seen import DECIDE, Seen
from sim.fluid.service import TICK_S

IN_A_ROW = 0
MEMORY = 1


class RayServe(NamedTuple):
    target_ongoing_requests: float = 2.0
    upscale_delay_s: float = 30.0
    downscale_delay_s: float = 600.0


@of_type(DECIDE)
def decide(settings: FloatArray, seen: Seen, memory: FloatArray) -> float:
    current = seen.ready + seen.pending
    wanted = max(1.0, ceiled(seen.in_flight_30s / settings[0]))
    if wanted > current:
        memory[IN_A_ROW] = max(0.0, memory[IN_A_ROW]) + 1.0
        if memory[IN_A_ROW] * TICK_S > settings[1]:
            memory[IN_A_ROW] = 0.0
            return wanted
    elif wanted < current:
        memory[IN_A_ROW] = min(0.0, memory[IN_A_ROW]) - 1.0
        if -memory[IN_A_ROW] * TICK_S > settings[2]:
            memory[IN_A_ROW] = 0.0
            return wanted
    else:
        memory[IN_A_ROW] = 0.0
    return current


def defaults(peak_replicas: int) -> RayServe:
    del peak_replicas
    return RayServe()


def grid(peak_replicas: int) -> Iterator[RayServe]:
    del peak_replicas
    targets = (15.0, 20.0, 25.0, 32.0, 40.0, 50.0, 60.0)
    for target, up_s, down_s in product(targets, (0.0, 30.0), (600.0, 1800.0)):
        yield RayServe(target, up_s, down_s)
