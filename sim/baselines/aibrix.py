"""AIBrix's APA: a ratio with a band, at most doubled or halved, and a cooldown before it goes down.

Source: vllm-project/aibrix pkg/controller/podautoscaler: rates 2/2, tolerances 0.1/0.1, up cooldown 0 s, down cooldown
300 s. Deviation: the use of a replica is the share of its slots in flight; AIBrix leaves metric and target to the user.
"""

from collections.abc import Iterator
from itertools import product
from math import floor
from typing import NamedTuple

from sim.baselines.base import ceiled
from sim.fluid.jit import of_type
from sim.fluid.load import FloatArray
from sim.fluid.seen import DECIDE, Seen

LAST_CHANGE = 0
MEMORY = 1


class Aibrix(NamedTuple):
    utilisation: float = 0.7
    rate: float = 2.0
    tolerance: float = 0.1
    cooldown_down_s: float = 300.0


@of_type(DECIDE)
def decide(settings: FloatArray, seen: Seen, memory: FloatArray) -> float:
    current = seen.ready + seen.pending
    ratio = (seen.queued + seen.running) / (settings[0] * seen.slots * current)
    wanted = current
    if ratio > 1.0 + settings[2]:
        wanted = min(ceiled(current * ratio), ceiled(settings[1] * current))
    elif ratio < 1.0 - settings[2] and seen.now_s - memory[LAST_CHANGE] >= settings[3]:
        wanted = max(ceiled(current * ratio), float(floor(current / settings[1])), 1.0)
    if wanted != current:
        memory[LAST_CHANGE] = seen.now_s
    return wanted


def defaults(peak_replicas: int) -> Aibrix:
    del peak_replicas
    return Aibrix()


def grid(peak_replicas: int) -> Iterator[Aibrix]:
    del peak_replicas
    for target, cooldown_s in product((0.7, 0.5, 0.4, 0.3, 0.2), (300.0, 900.0, 1800.0)):
        yield Aibrix(utilisation=target, cooldown_down_s=cooldown_s)
