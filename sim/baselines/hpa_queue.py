"""KEDA's prometheus trigger on the number of waiting requests, with the HPA behind it.

Source: vllm-project/production-stack helm/templates/scaledobject-vllm.yaml (vllm:num_requests_waiting, threshold 5, its
query mended to a sum); kubernetes/kubernetes pkg/controller/podautoscaler (tolerance 0.1, scale-down window 300 s).
Not modelled: KEDA's activation, since no policy here scales to zero.
"""

from collections.abc import Iterator
from itertools import product
from math import ceil
from typing import NamedTuple

from sim.baselines.base import HELD, Settings, held, hpa
from sim.fluid.jit import of_type
from sim.fluid.load import FloatArray
from sim.fluid.seen import DECIDE, Seen

MEMORY = HELD


class HpaQueue(NamedTuple):
    waiting_per_replica: float = 5.0
    window_down_s: float = 300.0
    min_replicas: float = 1.0
    tolerance: float = 0.1


@of_type(DECIDE)
def decide(settings: FloatArray, seen: Seen, memory: FloatArray) -> float:
    target, window_s, floor, tolerance = settings[0], settings[1], settings[2], settings[3]
    current = seen.ready + seen.pending
    wanted = max(floor, hpa(current, seen.queued / (target * current), tolerance))
    return held(memory, 0, seen.now_s, wanted, window_s)


def defaults(peak_replicas: int) -> HpaQueue:
    del peak_replicas
    return HpaQueue()


def grid(peak_replicas: int) -> Iterator[HpaQueue]:
    floors = [1, *(ceil(share * peak_replicas) for share in (0.3, 0.6, 0.85, 1.0))]
    for floor, window_s, target in product(dict.fromkeys(floors), (300.0, 1800.0, 7200.0), (25.0, 5.0, 1.0)):
        yield HpaQueue(target, window_s, floor)


def fewest(settings: Settings) -> float:
    return HpaQueue(*settings).min_replicas
