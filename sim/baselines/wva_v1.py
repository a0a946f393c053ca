"""llm-d's workload variant autoscaler, saturation analyser V1: one replica up or down by what is spare.

Source: llm-d/llm-d-workload-variant-autoscaler: kvCacheThreshold 0.80, queueLengthThreshold 5, kvSpareTrigger 0.1,
queueSpareTrigger 3; a tick of 30 s; nothing while replicas are pending. Deviations: one variant, all replicas alike;
the last sample instead of the highest of a minute.
"""

from collections.abc import Iterator
from itertools import product
from typing import NamedTuple

from sim.fluid.jit import of_type
from sim.fluid.load import FloatArray
from sim.fluid.seen import DECIDE, Seen

PERIOD_S = 30.0
MEMORY = 1


class WvaV1(NamedTuple):
    kv_threshold: float = 0.80
    queue_threshold: float = 5.0
    kv_spare_trigger: float = 0.1
    queue_spare_trigger: float = 3.0


@of_type(DECIDE)
def decide(settings: FloatArray, seen: Seen, memory: FloatArray) -> float:  # noqa: ARG001  # DECIDE's signature
    current = seen.ready + seen.pending
    if seen.now_s % PERIOD_S > 0.0 or seen.pending > 0.0:
        return current
    kv = seen.running * (seen.prompt_tokens + seen.output_tokens / 2.0) / seen.kv_tokens
    kv_trigger, queue_trigger = settings[2], settings[3]
    if settings[0] - kv / current < kv_trigger or settings[1] - seen.queued / current < queue_trigger:
        return current + 1.0
    fewer = current - 1.0
    if fewer < 1.0:
        return current
    if settings[0] - kv / fewer >= kv_trigger and settings[1] - seen.queued / fewer >= queue_trigger:
        return fewer
    return current


def defaults(peak_replicas: int) -> WvaV1:
    del peak_replicas
    return WvaV1()


def grid(peak_replicas: int) -> Iterator[WvaV1]:
    del peak_replicas
    for kv_spare, queue_spare in product((0.1, 0.3, 0.5, 0.6, 0.65, 0.7, 0.75), (3.0, 4.9)):
        yield WvaV1(kv_spare_trigger=kv_spare, queue_spare_trigger=queue_spare)
