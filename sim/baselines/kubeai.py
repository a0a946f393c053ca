"""KubeAI: mean concurrency of ten minutes.

Source: substratusai/kubeai internal/modelautoscaler: a simple moving average over 10 min, zeros at first; replicas =
ceil(mean / targetRequests), targetRequests 100; down after ceil(30 s / 10 s) ticks in a row. Deviation: a tick of 15 s,
so down after two.
"""

from collections.abc import Iterator
from typing import NamedTuple

from sim.baselines.base import ceiled
from sim.fluid.jit import of_type
from sim.fluid.load import FloatArray
from sim.fluid.seen import DECIDE, Seen

TICKS_DOWN = 2.0
BELOW = 0
MEMORY = 1


class KubeAi(NamedTuple):
    target_requests: float = 100.0


@of_type(DECIDE)
def decide(settings: FloatArray, seen: Seen, memory: FloatArray) -> float:
    current = seen.ready + seen.pending
    wanted = max(1.0, ceiled(seen.in_flight_600s / settings[0]))
    if wanted >= current:
        memory[BELOW] = 0.0
        return wanted
    memory[BELOW] += 1.0
    if memory[BELOW] < TICKS_DOWN:
        return current
    memory[BELOW] = 0.0
    return wanted


def defaults(peak_replicas: int) -> KubeAi:
    del peak_replicas
    return KubeAi()


def grid(peak_replicas: int) -> Iterator[KubeAi]:
    del peak_replicas
    for target in (90.0, 75.0, 60.0, 50.0, 40.0, 32.0, 25.0, 20.0, 15.0):
        yield KubeAi(target)
