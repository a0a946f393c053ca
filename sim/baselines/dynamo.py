"""NVIDIA Dynamo's SLA planner, throughput loop: the next 180 s by a one-step forecast of the mean.

Source: ai-dynamo/dynamo components/src/dynamo/planner: adjustment interval 180 s; predictors constant and Kalman
(local linear trend; q_level 1, q_trend 0.1, r 10, from 5 points on); replicas = ceil(demand / engine throughput).
Deviations: prefill and decode in one pool, so that their demands add up as work; throughput is the model's own (a
perfect profile, without correction factors); no load loop.
"""

from collections.abc import Iterator
from typing import NamedTuple

from sim.baselines.base import ceiled
from sim.fluid.jit import of_type
from sim.fluid.load import FloatArray
from sim.fluid.seen import DECIDE, Seen

PERIOD_S = 180.0
Q_LEVEL, Q_TREND, R_MEASURED, LEAST_POINTS = 1.0, 0.1, 10.0, 5.0
WANTED, POINTS, LEVEL, TREND, P_LEVEL, P_BOTH, P_TREND = range(7)
MEMORY = 7


class Dynamo(NamedTuple):
    """`kalman`: 1 forecasts with the filter, 0 takes the last interval. `utilisation`: 1 is Dynamo's own."""

    kalman: float
    utilisation: float = 1.0


@of_type(DECIDE)
def decide(settings: FloatArray, seen: Seen, memory: FloatArray) -> float:
    if seen.now_s % PERIOD_S > 0.0 or seen.now_s == 0.0:
        return float(memory[WANTED]) if memory[WANTED] > 0.0 else seen.ready + seen.pending
    requests = seen.requests_per_s * PERIOD_S
    memory[POINTS] += 1.0
    if memory[POINTS] == 1.0:
        memory[LEVEL], memory[P_LEVEL], memory[P_TREND] = requests, R_MEASURED, 1.0
    else:  # predict, then correct
        level = memory[LEVEL] + memory[TREND]
        p_level = memory[P_LEVEL] + 2.0 * memory[P_BOTH] + memory[P_TREND] + Q_LEVEL
        p_both, p_trend = memory[P_BOTH] + memory[P_TREND], memory[P_TREND] + Q_TREND
        gain, gain_trend = p_level / (p_level + R_MEASURED), p_both / (p_level + R_MEASURED)
        wrong = requests - level
        memory[LEVEL], memory[TREND] = level + gain * wrong, memory[TREND] + gain_trend * wrong
        memory[P_LEVEL], memory[P_BOTH] = (1.0 - gain) * p_level, (1.0 - gain) * p_both
        memory[P_TREND] = p_trend - gain_trend * p_both
    next_requests = requests
    if settings[0] > 0.0 and memory[POINTS] >= LEAST_POINTS:
        next_requests = max(0.0, memory[LEVEL] + memory[TREND])
    work = seen.work_180s * next_requests / requests if requests > 0.0 else 0.0
    memory[WANTED] = max(1.0, ceiled(work / settings[1]))
    return float(memory[WANTED])


def constant(peak_replicas: int) -> Dynamo:
    del peak_replicas
    return Dynamo(kalman=0.0)


def kalman(peak_replicas: int) -> Dynamo:
    del peak_replicas
    return Dynamo(kalman=1.0)


def constant_grid(peak_replicas: int) -> Iterator[Dynamo]:
    for target in (1.0, 0.9, 0.8, 0.7, 0.65, 0.6, 0.5):
        yield constant(peak_replicas)._replace(utilisation=target)


def kalman_grid(peak_replicas: int) -> Iterator[Dynamo]:
    for target in (1.0, 0.9, 0.8, 0.7, 0.65, 0.6, 0.5):
        yield kalman(peak_replicas)._replace(utilisation=target)
