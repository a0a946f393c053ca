"""Arrivals of one client: a renewal process with Gamma or Weibull gaps, as ServeGen fits them.

The rate of a window is a number of requests that was counted, so gaps are stretched until that many fit: otherwise one
draw of a bursty client would have several times the requests that the window had.
"""

from math import exp, lgamma, log
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from sim.fluid.jit import compiled
from sim.fluid.load import FloatArray

BoolArray = NDArray[np.bool_]

WINDOW_S: Final = 600

SINGLE_PER_S: Final = 1.0
"""Up to this rate every arrival is drawn; above it, how many come at a time (with the same mean and variance)."""

LONGEST_BURST_S: Final = 60


class Gaps(NamedTuple):
    """Distribution of the gaps between arrivals: Weibull or Gamma, by its shape."""

    weibull: bool
    shape: float


class Windows(NamedTuple):
    """Of one client, equally long: beginning, requests a second, and the gaps' family and shape."""

    since_s: FloatArray
    rate_per_s: FloatArray
    weibull: BoolArray
    shape: FloatArray


@compiled
def gap(random: np.random.Generator, gaps: Gaps) -> float:
    """A gap between two arrivals, in units of its scale."""
    if gaps.weibull:
        return exp(log(random.standard_exponential() + 1e-300) / gaps.shape)
    return random.standard_gamma(gaps.shape)


@compiled
def squared_variation(gaps: Gaps) -> float:
    """Squared coefficient of variation of a gap."""
    if not gaps.weibull:
        return 1.0 / gaps.shape
    return exp(lgamma(1.0 + 2.0 / gaps.shape) - 2.0 * lgamma(1.0 + 1.0 / gaps.shape)) - 1.0


@compiled
def add_windows(random: np.random.Generator, counts: FloatArray, windows: Windows) -> None:
    """Adds the arrivals of all `windows` to `counts`, a number for each second."""
    for i in range(len(windows.since_s)):
        gaps = Gaps(windows.weibull[i], windows.shape[i])
        add_window(random, counts, windows.since_s[i], windows.rate_per_s[i], gaps)


@compiled
def add_window(random: np.random.Generator, counts: FloatArray, since_s: float, rate_per_s: float, gaps: Gaps) -> None:
    """Adds the arrivals of the window that begins at `since_s` to `counts`, a number for each second."""
    if rate_per_s > SINGLE_PER_S:
        _add_seconds(random, counts, int(np.floor(since_s)), rate_per_s, squared_variation(gaps))
        return
    requests = int(rate_per_s * WINDOW_S + random.random())
    at = np.empty(requests + 1)
    total = 0.0
    for i in range(requests + 1):
        total += gap(random, gaps)
        at[i] = total
    for i in range(requests):
        second = int(np.floor(since_s + WINDOW_S * at[i] / total))
        if 0 <= second < len(counts):
            counts[second] += 1.0


@compiled
def _add_seconds(random: np.random.Generator, counts: FloatArray, since: int, rate_per_s: float, spread: float) -> None:
    """Gamma with the variance that a renewal process has over long times, in bursts as long as that takes."""
    burst_s = max(1, min(LONGEST_BURST_S, int(spread / rate_per_s)))
    bursts = -(-WINDOW_S // burst_s)
    drawn = np.empty(bursts)
    total = 0.0
    for burst in range(bursts):
        length_s = min(burst_s, WINDOW_S - burst * burst_s)
        drawn[burst] = random.standard_gamma(rate_per_s * length_s / max(spread, 1e-6))
        total += drawn[burst]
    for second in range(WINDOW_S):
        burst = second // burst_s
        length_s = min(burst_s, WINDOW_S - burst * burst_s)
        if 0 <= since + second < len(counts):
            counts[since + second] += rate_per_s * WINDOW_S * drawn[burst] / total / length_s
