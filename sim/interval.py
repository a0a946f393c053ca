"""A mean and how far it may be off: Student's interval of paired differences."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import atan, cos, pi, sin, sqrt
from statistics import fmean, stdev


@dataclass(frozen=True, slots=True)
class Interval:
    """`low` to `high` around `mean`."""

    mean: float
    low: float
    high: float


def of_mean(values: Sequence[float], level: float) -> Interval | None:
    """At confidence `level`. None for fewer than two values, which say nothing of how far they are off."""
    if len(values) < 2:
        return None
    mean = fmean(values)
    half = quantile(level, len(values) - 1) * stdev(values) / sqrt(len(values))
    return Interval(mean, mean - half, mean + half)


def quantile(level: float, freedom: int) -> float:
    """The t with P(|T| < t) = `level` of Student's distribution with `freedom` degrees, to 1e-9, by halving."""
    low, high = 0.0, 1.0
    while within(high, freedom) < level:
        high *= 2
    while high - low > 1e-9:
        middle = (low + high) / 2
        low, high = (middle, high) if within(middle, freedom) < level else (low, middle)
    return high


def within(t: float, freedom: int) -> float:
    """P(|T| < t). Source: Abramowitz and Stegun, Handbook of Mathematical Functions, 26.7.3 and 26.7.4."""
    angle = atan(t / sqrt(freedom))
    odd = freedom % 2
    term, total = (cos(angle), 0.0) if odd else (1.0, 0.0)
    for k in range(1 + odd, freedom, 2):  # the k-th term has k of 26.7.3, or of 26.7.4, in its last factor
        total += term
        term *= cos(angle) ** 2 * k / (k + 1)
    return (angle + sin(angle) * total) * 2 / pi if odd else sin(angle) * total
