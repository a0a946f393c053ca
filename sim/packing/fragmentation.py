"""Expected fragmentation of a node (Weng et al., USENIX ATC 2023, section 3)."""

import math
from typing import Final, NamedTuple

import numpy as np

from extender.placement.spr.states import VALUE, VALUE_EPOCH, States, unpack_state
from sim.packing.jit import compiled
from sim.packing.mix import Mix
from sim.packing.model import FloatArray, IntArray

# `SetTypicalPods` of hkust-adsl/kubernetes-scheduler-simulator@8f3d641: the commonest types with this share of pods.
TYPICAL_COVERAGE: Final = 0.95


class TypicalPods(NamedTuple):
    """A mix for compiled code."""

    cpu_milli: IntArray
    gpu_milli: IntArray
    gpu_count: IntArray
    kind_mask: IntArray
    share: FloatArray


def typical_pods(mix: Mix) -> TypicalPods:
    return TypicalPods(mix.cpu_milli, mix.gpu_milli, mix.gpu_count, mix.kind_mask, mix.share)


def no_typical_pods() -> TypicalPods:
    none = np.zeros(0, dtype=np.int64)
    return TypicalPods(none, none, none, none, np.zeros(0))


@compiled
def _usable(pods: TypicalPods, m: int, kind: int, cpu_milli: int, gpus: IntArray) -> bool:
    wanted = pods.gpu_count[m]
    if wanted == 0 or (pods.kind_mask[m] >> kind) & 1 == 0:
        return False
    return bool(gpus[wanted - 1] >= pods.gpu_milli[m] and cpu_milli >= pods.cpu_milli[m])


@compiled
def fragmentation_milli(states: States, state: int, pods: TypicalPods, gpus: IntArray) -> float:
    """F(s) = sum_m p_m F_m(s), computed once per state and epoch; `gpus` is scratch.

    F_m(s) is all that is free where a pod of type m does not fit or asks for no GPU, else what is free on the GPUs that
    are too full for it. Memory never enters.
    """
    if states.words[state, VALUE_EPOCH] == states.epochs[0]:
        return float(states.reals[state, VALUE])
    kind, cpu_milli, _ = unpack_state(states, state, gpus)
    total = 0
    for i in range(8):
        total += gpus[i]
    expected = 0.0
    for m in range(pods.share.size):
        unusable = total
        if _usable(pods, m, kind, cpu_milli, gpus):
            unusable = 0
            for i in range(7, -1, -1):
                if gpus[i] >= pods.gpu_milli[m]:
                    break
                unusable += gpus[i]
        expected += pods.share[m] * unusable
    states.reals[state, VALUE] = expected
    states.words[state, VALUE_EPOCH] = states.epochs[0]
    return expected


@compiled
def fgd_score(before_milli: float, after_milli: float) -> int:
    """int(100 sigmoid((F before - F after) / 1000)): the published rounding, which ties many nodes."""
    return int(100.0 / (1.0 + math.exp(-(before_milli - after_milli) / 1000.0)))
