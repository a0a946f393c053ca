"""What every baseline is made of: settings as numbers, a compiled decision, and numbers that it remembers."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from math import ceil
from typing import Any, Final

from sim.fluid.jit import compiled
from sim.fluid.load import FloatArray
from sim.fluid.service import TICK_S

Settings = tuple[float, ...]

LONGEST_HOLD_S: Final = 7200
HELD: Final = LONGEST_HOLD_S // TICK_S
"""Numbers that `held` remembers."""


@dataclass(frozen=True, slots=True)
class Baseline:
    """`defaults(peak_replicas)` and `grid(peak_replicas)`: settings, of which only bounds depend on the load.

    `decide`: of type `sim.fluid.seen.DECIDE`. `memory`: how many numbers it remembers. `fewest`: replicas that a
    setting never goes below, which says what it costs at least.
    """

    about: str
    decide: Any
    memory: int
    defaults: Callable[[int], Settings]
    grid: Callable[[int], Iterable[Settings]]
    fewest: Callable[[Settings], float] = lambda _settings: 1.0


@compiled
def ceiled(replicas: float) -> float:
    """Rounded up; what is an integer but for the noise of floating point stays."""
    return float(ceil(replicas - 1e-9))


@compiled
def held(memory: FloatArray, first: int, now_s: float, wanted: float, window_s: float) -> float:
    """The highest `wanted` of the last `window_s`; remembers in the `HELD` numbers from `first` on."""
    tick = int(now_s) // TICK_S
    memory[first + tick % HELD] = wanted
    highest = wanted
    for back in range(min(tick, HELD - 1, int(window_s) // TICK_S) + 1):
        highest = max(highest, memory[first + (tick - back) % HELD])
    return highest


@compiled
def hpa(current: float, ratio: float, tolerance: float) -> float:
    """ceil(current x ratio), or `current` while the ratio is within the tolerance; at most doubled, or 4 more.

    kubernetes/kubernetes pkg/controller/podautoscaler/replica_calculator.go, and the default scaleUp policies of
    pkg/apis/autoscaling/v2/defaults.go: 100 % and 4 pods in 15 s, whichever is more.
    """
    if abs(ratio - 1.0) <= tolerance:
        return current
    return min(ceiled(current * ratio), max(2.0 * current, current + 4.0))
