"""Work that arrives x headroom, held: the simplest rule that is hard to beat."""

from collections.abc import Iterator
from itertools import product
from typing import NamedTuple

from sim.baselines.base import HELD, ceiled, held
from sim.fluid.jit import of_type
from sim.fluid.load import FloatArray
from sim.fluid.seen import DECIDE, Seen

MEMORY = HELD


class RateHold(NamedTuple):
    """The defaults: the cheapest one setting that kept 99 % in all scenarios of a study of two week-long traces."""

    headroom: float = 1.4
    hold_s: float = 900.0


@of_type(DECIDE)
def decide(settings: FloatArray, seen: Seen, memory: FloatArray) -> float:
    wanted = max(1.0, ceiled(settings[0] * seen.work_60s))
    return held(memory, 0, seen.now_s, wanted, settings[1])


def defaults(peak_replicas: int) -> RateHold:
    del peak_replicas
    return RateHold()


def grid(peak_replicas: int) -> Iterator[RateHold]:
    del peak_replicas
    headrooms = (1.1, 1.2, 1.3, 1.4, 1.5, 1.6, 1.7, 1.8, 1.9)
    for headroom, hold_s in product(headrooms, (0.0, 300.0, 900.0, 1800.0)):
        yield RateHold(headroom, hold_s)
