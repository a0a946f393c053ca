"""llm-d's workload variant autoscaler, saturation analyser V2: tokens in use against token capacity.

Source: llm-d/llm-d-workload-variant-autoscaler internal/engines/analyzers/saturation_v2/analyzer.go: k1 = 0.8 of the KV
tokens; k2 = tokens in use seen at a queue of 5 or more (mean of ten), else N (I + O/2) with N = min(B O / (I + O), S);
up by demand/0.85 - supply, down by supply - demand/0.70; a tick of 30 s. Deviations: one variant; no scheduler queue
besides the engines' own; the mean of ten is exponential.
"""

from collections.abc import Iterator
from math import floor
from typing import NamedTuple

from sim.baselines.base import ceiled
from sim.fluid.jit import of_type
from sim.fluid.load import FloatArray
from sim.fluid.seen import DECIDE, Seen

PERIOD_S = 30.0
BUDGET_TOKENS = 2048.0
SATURATED_QUEUE = 5.0
LEARNT = 0
MEMORY = 1


class WvaV2(NamedTuple):
    scale_up_at: float = 0.85
    scale_down_at: float = 0.70
    kv_threshold: float = 0.80


@of_type(DECIDE)
def decide(settings: FloatArray, seen: Seen, memory: FloatArray) -> float:
    current = seen.ready + seen.pending
    if seen.now_s % PERIOD_S > 0.0 or seen.requests_per_s <= 0.0:
        return current
    sequence_tokens = seen.prompt_tokens + seen.output_tokens / 2.0
    in_use = seen.running * sequence_tokens
    if seen.queued / current >= SATURATED_QUEUE:
        of_one = in_use / max(1.0, seen.ready)
        memory[LEARNT] = of_one if memory[LEARNT] == 0.0 else memory[LEARNT] + 0.1 * (of_one - memory[LEARNT])
    at_once = BUDGET_TOKENS * seen.output_tokens / (seen.prompt_tokens + seen.output_tokens)
    derived = min(at_once, seen.slots) * sequence_tokens
    capacity = min(settings[2] * seen.kv_tokens, memory[LEARNT] if memory[LEARNT] > 0.0 else derived)
    demand = in_use + seen.queued * seen.prompt_tokens
    required = demand / settings[0] - current * capacity
    spare = current * capacity - demand / settings[1]
    if required > 0.0:
        return current + ceiled(required / capacity)
    return max(1.0, current - max(0.0, float(floor(spare / capacity))))


def defaults(peak_replicas: int) -> WvaV2:
    del peak_replicas
    return WvaV2()


def grid(peak_replicas: int) -> Iterator[WvaV2]:
    del peak_replicas
    for up, down in ((0.85, 0.70), (0.75, 0.60), (0.65, 0.45), (0.55, 0.40), (0.45, 0.30), (0.35, 0.20), (0.30, 0.15)):
        yield WvaV2(up, down)
