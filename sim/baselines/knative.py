"""Knative's pod autoscaler (KPA): concurrency over a stable and a panic window.

Source: knative/serving pkg/autoscaler/scaling/autoscaler.go and config/core/configmaps/autoscaler.yaml:
container-concurrency-target-percentage 70, stable-window 60 s, panic window 10 % of it, panic-threshold-percentage 200,
max-scale-up-rate 1000, max-scale-down-rate 2, scale-down-delay 0 s.
Deviations: a tick of 15 s instead of 2 s; all pods are measured instead of a sample.
"""

from collections.abc import Iterator
from itertools import product
from math import floor
from typing import NamedTuple

from sim.baselines.base import HELD, ceiled, held
from sim.fluid.jit import of_type
from sim.fluid.load import FloatArray
from sim.fluid.seen import DECIDE, Seen

PANIC, PANICS_SINCE, MOST = HELD, HELD + 1, HELD + 2
MEMORY = HELD + 3


class Knative(NamedTuple):
    utilisation: float = 0.7
    panic_threshold: float = 2.0
    stable_window_s: float = 60.0
    max_scale_up_rate: float = 1000.0
    max_scale_down_rate: float = 2.0
    scale_down_delay_s: float = 0.0


@of_type(DECIDE)
def decide(settings: FloatArray, seen: Seen, memory: FloatArray) -> float:
    target = settings[0] * seen.slots
    ready = max(1.0, seen.ready)
    highest, lowest = ceiled(settings[3] * ready), float(floor(ready / settings[4]))
    stable = min(max(ceiled(seen.in_flight_60s / target), lowest), highest)
    panic = min(max(ceiled(seen.in_flight_6s / target), lowest), highest)
    over = ceiled(seen.in_flight_6s / target) / ready >= settings[1]
    if over:
        memory[PANIC], memory[PANICS_SINCE] = 1.0, seen.now_s
    elif memory[PANIC] > 0.0 and seen.now_s - memory[PANICS_SINCE] > settings[2]:
        memory[PANIC], memory[MOST] = 0.0, 0.0
    wanted = stable
    if memory[PANIC] > 0.0:
        memory[MOST] = max(memory[MOST], stable, panic)
        wanted = memory[MOST]
    return held(memory, 0, seen.now_s, max(1.0, wanted), settings[5])


def defaults(peak_replicas: int) -> Knative:
    del peak_replicas
    return Knative()


def grid(peak_replicas: int) -> Iterator[Knative]:
    del peak_replicas
    for target, delay_s in product((0.7, 0.6, 0.5, 0.4, 0.3, 0.2), (0.0, 900.0, 1800.0)):
        yield Knative(utilisation=target, scale_down_delay_s=delay_s)
