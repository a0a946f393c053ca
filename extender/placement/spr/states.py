"""Interned node states: all that a potential needs to know of a node, one number for each distinct state.

Nodes in equal states have equal potentials, and a placement that is only tried leads to another state; so a potential
is computed once per state, however many nodes, pods and GPUs lead to it. A state is (kind of node, free CPU, free milli
of each GPU in descending order, free memory). Where a policy does not look at memory, it is 0 in every state.
"""

from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt

from extender.placement.spr.jit import compiled
from extender.placement.spr.model import IntArray

# Columns of a state: the packed key, the two parts of its potential, and the epochs in which those were computed.
KEY_LOW, KEY_HIGH, KEY_MEMORY, VALUE, PRICE, VALUE_EPOCH, PRICE_EPOCH = range(7)
WORDS_PER_STATE: Final = 8  # one cache line
LEAST_CAPACITY: Final = 1 << 18  # an openb experiment meets some 100,000 states
STATES_PER_NODE: Final = 9  # that one decision can add: the node's own, and one for each GPU


class States(NamedTuple):
    """Table with open addressing. KEY_LOW packs GPUs 0..5 in 10 bits each; KEY_HIGH GPUs 6 and 7, CPU (34) and kind.

    `words` and `reals` are two views of the same memory.
    """

    words: npt.NDArray[np.uint64]  # [state, 8]
    reals: npt.NDArray[np.float64]  # [state, 8]
    slots: npt.NDArray[np.int32]  # state + 1; 0 is empty
    made: IntArray  # [1]: how many states there are
    epochs: npt.NDArray[np.uint64]  # [2]: of the values, of the prices; what was computed in another one is stale


def new_states(node_count: int) -> States:
    """A table that one decision over `node_count` nodes fills by a third at most."""
    capacity = LEAST_CAPACITY
    while capacity < 3 * STATES_PER_NODE * node_count:
        capacity *= 2
    words = np.zeros((capacity, WORDS_PER_STATE), dtype=np.uint64)
    return States(
        words,
        words.view(np.float64),
        np.zeros(4 * capacity, dtype=np.int32),
        np.zeros(1, dtype=np.int64),
        np.ones(2, dtype=np.uint64),
    )


@compiled
def sort_descending(gpus: IntArray) -> None:
    """Insertion sort of eight values: shorter than a call into a library."""
    for i in range(1, 8):
        value = gpus[i]
        j = i - 1
        while j >= 0 and gpus[j] < value:
            gpus[j + 1] = gpus[j]
            j -= 1
        gpus[j + 1] = value


@compiled
def state_id(states: States, kind: int, cpu_milli: int, gpus: IntArray, memory_mib: int) -> int:
    """The number of the state with these free resources (GPUs in descending order); made if it is new."""
    low = np.uint64(0)
    for i in range(6):
        low = (low << np.uint64(10)) | np.uint64(gpus[i])
    high = np.uint64(gpus[6]) << np.uint64(10) | np.uint64(gpus[7])
    high = (high << np.uint64(34)) | np.uint64(cpu_milli)
    high = (high << np.uint64(10)) | np.uint64(kind)
    # Two multiplications by odd constants and a shift spread neighbouring states over the slots.
    memory = np.uint64(memory_mib)
    mixed = ((low ^ (high * np.uint64(0x9E3779B97F4A7C15))) + memory) * np.uint64(0xD6E8FEB86659FD93)
    mixed ^= mixed >> np.uint64(32)
    mask = np.uint64(states.slots.size - 1)
    slot = mixed & mask
    while True:
        found = states.slots[slot]
        if found == 0:
            new = states.made[0]
            states.made[0] = new + 1
            states.slots[slot] = new + 1
            states.words[new, KEY_LOW] = low
            states.words[new, KEY_HIGH] = high
            states.words[new, KEY_MEMORY] = memory
            states.words[new, VALUE_EPOCH] = 0
            states.words[new, PRICE_EPOCH] = 0
            return int(new)
        state = found - 1
        same = states.words[state, KEY_LOW] == low and states.words[state, KEY_HIGH] == high
        if same and states.words[state, KEY_MEMORY] == memory:
            return int(state)
        slot = (slot + np.uint64(1)) & mask


@compiled
def unpack_state(states: States, state: int, gpus: IntArray) -> tuple[int, int, int]:
    """Fill `gpus` (descending); the kind of node, the free CPU milli and the free memory MiB."""
    low, high = states.words[state, KEY_LOW], states.words[state, KEY_HIGH]
    for i in range(6):
        gpus[5 - i] = np.int64(low & np.uint64(1023))
        low >>= np.uint64(10)
    kind = int(high & np.uint64(1023))
    cpu_milli = int((high >> np.uint64(10)) & np.uint64((1 << 34) - 1))
    rest = high >> np.uint64(44)
    gpus[7] = np.int64(rest & np.uint64(1023))
    gpus[6] = np.int64(rest >> np.uint64(10))
    return kind, cpu_milli, int(states.words[state, KEY_MEMORY])


@compiled
def forget_states(states: States) -> None:
    """Empty the table; numbers of states that were given before mean nothing any more."""
    states.slots[:] = 0
    states.made[0] = 0
