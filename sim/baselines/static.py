"""A fixed number of replicas: what an autoscaler has to beat."""

from collections.abc import Iterator
from math import ceil
from typing import NamedTuple

from sim.baselines.base import Settings
from sim.fluid.jit import of_type
from sim.fluid.load import FloatArray
from sim.fluid.seen import DECIDE, Seen

MEMORY = 1


class Static(NamedTuple):
    replicas: float


@of_type(DECIDE)
def decide(settings: FloatArray, seen: Seen, memory: FloatArray) -> float:  # noqa: ARG001  # DECIDE's signature
    return float(settings[0])


def defaults(peak_replicas: int) -> Static:
    return Static(peak_replicas)


def grid(peak_replicas: int) -> Iterator[Static]:
    """Finer at the bottom, where it matters; up to twenty times the peak of 600 s, for short bursts."""
    shares = [*(0.5 + 0.025 * i for i in range(41)), *(1.6 * 1.05**i for i in range(52))]
    for replicas in sorted({ceil(share * peak_replicas) for share in shares}):
        yield Static(replicas)


def fewest(settings: Settings) -> float:
    return Static(*settings).replicas
