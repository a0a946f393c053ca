"""HPA on requests in flight per replica, as a share of its slots.

Source: kubernetes/kubernetes pkg/controller/podautoscaler (tolerance 0.1, scale-down window 300 s); a target of 0.7 of
the concurrency is what Baseten and Knative recommend.
"""

from collections.abc import Iterator
from itertools import product
from typing import NamedTuple

from sim.baselines.base import HELD, held, hpa
from sim.fluid.jit import of_type
from sim.fluid.load import FloatArray
from sim.fluid.seen import DECIDE, Seen

MEMORY = HELD


class HpaConcurrency(NamedTuple):
    """`averaged`: 1 takes the mean of 60 s instead of the last sample."""

    utilisation: float = 0.7
    window_down_s: float = 300.0
    tolerance: float = 0.1
    averaged: float = 0.0


@of_type(DECIDE)
def decide(settings: FloatArray, seen: Seen, memory: FloatArray) -> float:
    target, window_s, tolerance, averaged = settings[0], settings[1], settings[2], settings[3]
    current = seen.ready + seen.pending
    in_flight = seen.in_flight_60s if averaged > 0.0 else seen.queued + seen.running
    wanted = hpa(current, in_flight / (target * seen.slots * current), tolerance)
    return held(memory, 0, seen.now_s, wanted, window_s)


def defaults(peak_replicas: int) -> HpaConcurrency:
    del peak_replicas
    return HpaConcurrency()


def grid(peak_replicas: int) -> Iterator[HpaConcurrency]:
    del peak_replicas
    targets = (0.55, 0.45, 0.4, 0.35, 0.3, 0.25, 0.2)
    for target, window_s, (tolerance, averaged) in product(
        targets, (300.0, 900.0, 1800.0), ((0.1, 0.0), (0.0, 0.0), (0.0, 1.0))
    ):
        yield HpaConcurrency(target, window_s, tolerance, averaged)
