"""The best GPUs of a node for a pod, where each GPU says by itself what would be left of it (compiled).

The lab knows a pod's share and looks at GPUs by their free part alone. Here a GPU may be closed to the pod although it
has the part, and the same pod may take different parts of different GPUs. Where neither is so, both choose the same.
"""

from typing import Final, NamedTuple

import numpy as np

from extender.placement.spr.jit import compiled
from extender.placement.spr.model import FloatArray, IntArray
from extender.placement.spr.potential import Expected, potential
from extender.placement.spr.states import States, state_id

NOWHERE: Final = -1e30
_AFTER_BITS: Final = 10  # hold 0 … 1000 and one more


class Offers(NamedTuple):
    """What nodes offer to one pod. A GPU is a key: its free milli, and what would be left of it."""

    kind_id: IntArray  # [node]
    cpu_milli: IntArray  # [node], free before the pod, as the next
    memory_mib: IntArray
    keys: IntArray  # [node, GPU], as many as the scratch has; 0 is no GPU; sorted here


class Wanted(NamedTuple):
    """Of one node: so many shares, or whole GPUs. `apart`: each on a GPU of its own."""

    cpu_milli: int
    memory_mib: int
    shares: int
    apart: bool


class Scratch(NamedTuple):
    """Written over at every call."""

    gpus: IntArray  # [3, 8]
    keys: IntArray  # [GPU]
    met_in: IntArray  # [state]: the last pass that met it, so that equal nodes are scored once
    met_at: IntArray  # [state]: the node
    passes: IntArray  # [1]


class Sight(NamedTuple):
    """What is looked at while a pod is scored."""

    states: States
    expected: Expected
    offers: Offers
    wanted: Wanted
    scratch: Scratch


def new_scratch(states: States, gpus: int) -> Scratch:
    capacity = states.words.shape[0]
    none = np.zeros(capacity, dtype=np.int64)
    return Scratch(np.zeros((3, 8), np.int64), np.zeros(gpus, np.int64), none, none.copy(), np.zeros(1, np.int64))


def key_of(free_milli: IntArray, after_milli: IntArray) -> IntArray:
    """`after_milli` -1: the GPU is not for the pod."""
    return free_milli << _AFTER_BITS | (after_milli + 1)


@compiled
def _sort_keys(keys: IntArray) -> None:
    """Descending: most free first."""
    for i in range(1, keys.size):
        value = keys[i]
        j = i - 1
        while j >= 0 and keys[j] < value:
            keys[j + 1] = keys[j]
            j -= 1
        keys[j + 1] = value


@compiled
def _state_with(sight: Sight, node: int, keys: IntArray, taken: int) -> int:
    """The node's state with the pod on GPU `taken` of the sorted keys; -1: as it is, without the pod."""
    offers, wanted, gpus = sight.offers, sight.wanted, sight.scratch.gpus[0]
    cpu_milli, memory_mib = offers.cpu_milli[node], offers.memory_mib[node]
    left = -1
    if taken >= 0:
        cpu_milli, memory_mib = max(0, cpu_milli - wanted.cpu_milli), max(0, memory_mib - wanted.memory_mib)
        left = (keys[taken] & 1023) - 1
    filled = 0
    for gpu in range(keys.size):
        free = keys[gpu] >> 10
        if filled < 8 and left > free:
            gpus[filled] = left
            filled += 1
            left = -1
        if filled < 8 and gpu != taken:
            gpus[filled] = free
            filled += 1
    while filled < 8:
        gpus[filled] = max(0, left)
        filled += 1
        left = 0
    return state_id(sight.states, offers.kind_id[node], cpu_milli, gpus, memory_mib)


@compiled
def _take(keys: IntArray, taken: int, apart: bool) -> None:
    """The GPU gives one share; the next one takes as much again."""
    free, left = keys[taken] >> 10, (keys[taken] & 1023) - 1
    again = left - (free - left)
    keys[taken] = left << 10
    if not apart and again >= 0:
        keys[taken] |= again + 1
    _sort_keys(keys)


@compiled
def _best(sight: Sight, node: int, value: float) -> tuple[float, int]:
    """(gain, GPU) of the best GPU for one share; of equals the one with most free. `value`: the potential before."""
    keys, gpus = sight.scratch.keys, sight.scratch.gpus
    best, chosen, previous = NOWHERE, -1, -1
    for gpu in range(keys.size):
        if keys[gpu] & 1023 == 0 or keys[gpu] == previous:  # closed, or as the one before
            continue
        previous = keys[gpu]
        state = _state_with(sight, node, keys, gpu)
        gain = potential(sight.states, state, sight.expected, gpus[1], gpus[2]) - value
        if gain > best:
            best, chosen = gain, gpu
    return best, chosen


@compiled
def _score(sight: Sight, node: int, before: int) -> tuple[float, int]:
    """(gain, key of the first share's GPU) on one node, which is in state `before`."""
    keys, gpus = sight.scratch.keys, sight.scratch.gpus
    for gpu in range(keys.size):
        keys[gpu] = sight.offers.keys[node, gpu]
    value = potential(sight.states, before, sight.expected, gpus[1], gpus[2])
    gain, first = NOWHERE, -1
    for share in range(sight.wanted.shares):
        gain, gpu = _best(sight, node, value)
        if gpu < 0:
            return NOWHERE, -1
        if share == 0:
            first = keys[gpu]
        _take(keys, gpu, sight.wanted.apart)
    return gain, first


@compiled
def _same(a: IntArray, b: IntArray) -> bool:
    same = True
    for i in range(a.size):
        if a[i] != b[i]:
            same = False
    return same


@compiled
def score_nodes(sight: Sight, gain: FloatArray, key: IntArray) -> None:
    """Fill `gain` (NOWHERE: no room) and `key`, of the GPU of the first share, for each node."""
    offers, scratch = sight.offers, sight.scratch
    scratch.passes[0] += 1
    for node in range(gain.size):
        keys = offers.keys[node]
        _sort_keys(keys)
        before = _state_with(sight, node, keys, -1)
        if scratch.met_in[before] == scratch.passes[0]:
            twin = scratch.met_at[before]
            if _same(keys, offers.keys[twin]):
                gain[node], key[node] = gain[twin], key[twin]
                continue
        gain[node], key[node] = _score(sight, node, before)
        scratch.met_in[before] = scratch.passes[0]
        scratch.met_at[before] = node
