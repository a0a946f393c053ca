"""What several loads share: quantities by their quantiles, and rates that change over the run."""

from collections.abc import Sequence
from itertools import pairwise
from typing import Annotated, Final, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, model_validator

from sim.strict import Seconds, Strict

Z90: Final = 1.2815515655446004  # standard normal quantile at 0.9


class Quantity(Strict):
    """Lognormal by its median and 90th percentile, cut off at `max`."""

    p50: float = Field(gt=0)
    p90: float = Field(gt=0)
    max: float | None = Field(default=None, gt=0)

    @model_validator(mode="after")
    def _order(self) -> Self:
        if self.p90 < self.p50:
            raise ValueError(f"p90 {self.p90:g} is below p50 {self.p50:g}")
        return self

    def draw(self, random: np.random.Generator, count: int) -> NDArray[np.float64]:
        return lognormal(self.p50, self.p90, self.max, random.standard_normal(count))


CommonTokens = Annotated[int, Field(ge=0, lt=2**31)]
"""Tokens that all prompts of a load begin with (instructions, tools): a replica computes and holds them once."""


def tokens(
    quantity: Quantity, random: np.random.Generator, count: int, above: int = 0
) -> NDArray[np.int64]:  # (count,)
    """Whole numbers of tokens, each more than `above`."""
    return np.maximum(above + 1, np.rint(quantity.draw(random, count))).astype(np.int64)


class Wait(Strict):
    """As `Quantity`, in time."""

    p50: Seconds = Field(gt=0)
    p90: Seconds = Field(gt=0)
    max: Seconds | None = Field(default=None, gt=0)

    @model_validator(mode="after")
    def _order(self) -> Self:
        if self.p90 < self.p50:
            raise ValueError(f"p90 {self.p90:g} s is below p50 {self.p50:g} s")
        return self

    def draw(self, random: np.random.Generator, count: int) -> NDArray[np.float64]:
        return lognormal(self.p50, self.p90, self.max, random.standard_normal(count))


def portable(values: NDArray[np.float64], decimals: int) -> NDArray[np.float64]:
    """The same on every machine: exponentials differ in the last bit by the vectors that a processor has."""
    return np.asarray(np.round(values, decimals))


def lognormal(p50: float, p90: float, most: float | None, normal: NDArray[np.float64]) -> NDArray[np.float64]:
    """To six decimals."""
    values = portable(p50 * np.exp(np.log(p90 / p50) / Z90 * normal), 6)
    return np.asarray(values if most is None else np.minimum(values, most))


class Point(Strict):
    """A rate at an instant; between two points it changes in a straight line, after the last it stays."""

    at: Seconds = Field(ge=0)
    per_minute: float = Field(ge=0)


def rate_per_s(points: Sequence[Point], times_s: NDArray[np.float64]) -> NDArray[np.float64]:
    rates = np.interp(times_s, [p.at for p in points], [p.per_minute / 60 for p in points])
    return np.asarray(rates)


def arrivals(random: np.random.Generator, points: Sequence[Point], duration_s: float) -> NDArray[np.float64]:
    """A Poisson process whose rate follows `points`, by thinning (Lewis and Shedler 1979); ascending seconds."""
    peak_per_s = max(p.per_minute for p in points) / 60
    if peak_per_s == 0:
        return np.zeros(0)
    count = random.poisson(peak_per_s * duration_s)
    candidates = np.sort(random.uniform(0, duration_s, count))
    kept = random.uniform(0, peak_per_s, count) < rate_per_s(points, candidates)
    return np.asarray(candidates[kept])


def renewal(
    random: np.random.Generator, times_s: NDArray[np.float64], rates_per_s: NDArray[np.float64], cv: float
) -> NDArray[np.float64]:
    """Ascending arrivals between the first and the last of `times_s`, at a rate that is straight between them.

    Gaps are Gamma with coefficient of variation `cv` in the time in which the rate is 1 (time rescaling: Brown et al.
    2002, eq. 2), so that 1 is a Poisson process, more comes in clumps, and the mean follows the rate.
    """
    steps = np.diff(times_s) * (rates_per_s[1:] + rates_per_s[:-1]) / 2
    area = np.concatenate([[0.0], np.cumsum(steps)])
    gaps = gamma_gaps(random, cv, float(area[-1]))
    instants = np.cumsum(gaps)
    return _straight(instants[instants < area[-1]], area, times_s, rates_per_s)


def gamma_gaps(random: np.random.Generator, cv: float, total: float) -> NDArray[np.float64]:
    """Gaps of mean 1 that reach beyond `total`; the first is cut at a random place, as someone who looks in sees it."""
    shape, parts, sum_ = 1 / cv**2, list[NDArray[np.float64]](), 0.0
    while sum_ <= total:
        count = 16 + int((total - sum_) + 4 * cv * np.sqrt(total - sum_ + 1))
        parts.append(random.gamma(shape, 1 / shape, count))
        if len(parts) == 1:
            parts[0][0] *= random.uniform()
        sum_ += float(parts[-1].sum())
    return np.concatenate(parts)


def _straight(
    areas: NDArray[np.float64],
    area: NDArray[np.float64],
    times_s: NDArray[np.float64],
    rates_per_s: NDArray[np.float64],
) -> NDArray[np.float64]:
    """Where the integral of the rate reaches each of `areas`."""
    i = np.searchsorted(area, areas, side="right") - 1
    i = np.minimum(i, len(times_s) - 2)
    left, rate = areas - area[i], rates_per_s[i]
    slope = (rates_per_s[i + 1] - rate) / (times_s[i + 1] - times_s[i])
    root = np.sqrt(np.maximum(rate**2 + 2 * slope * left, 0.0))
    found = np.minimum(times_s[i] + 2 * left / np.maximum(rate + root, 1e-300), times_s[i + 1])
    return np.asarray(np.maximum.accumulate(found))  # where the rate is next to 0 the last digits are lost


def ordered(points: Sequence[Point]) -> None:
    """Raises `ValueError` where instants do not ascend."""
    for before, after in pairwise(points):
        if after.at <= before.at:
            raise ValueError(f"instants must ascend: {after.at:g} s comes after {before.at:g} s")
