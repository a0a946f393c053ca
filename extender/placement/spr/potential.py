"""What a node state is worth to the pods that are expected (compiled)."""

from typing import NamedTuple

from extender.placement.spr.jit import compiled
from extender.placement.spr.model import IntArray
from extender.placement.spr.prices import Prices, priced_copies
from extender.placement.spr.rollout import Free, Streams, rollout_milli
from extender.placement.spr.states import PRICE, PRICE_EPOCH, VALUE, VALUE_EPOCH, States, unpack_state


class Expected(NamedTuple):
    """The pods that are expected: as streams that fill a node, and as prices of the copies that it could hold."""

    streams: Streams
    prices: Prices


@compiled
def potential(states: States, state: int, expected: Expected, gpus: IntArray, partial: IntArray) -> float:
    """Rollout plus priced copies, each computed once per state and epoch. Other streams come with other prices only."""
    words, reals = states.words, states.reals
    if words[state, PRICE_EPOCH] != states.epochs[1]:
        kind, cpu_milli, memory_mib = unpack_state(states, state, gpus)
        if words[state, VALUE_EPOCH] != states.epochs[0]:
            reals[state, VALUE] = rollout_milli(expected.streams, kind, Free(cpu_milli, memory_mib, gpus), partial)
            words[state, VALUE_EPOCH] = states.epochs[0]
        reals[state, PRICE] = priced_copies(expected.prices, kind, cpu_milli, memory_mib, gpus)
        words[state, PRICE_EPOCH] = states.epochs[1]
    return float(reals[state, VALUE] + reals[state, PRICE])
