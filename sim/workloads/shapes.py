"""What several loads share: quantities by their quantiles, and rates that change over the run."""

from collections.abc import Sequence
from itertools import pairwise
from typing import Final, Self

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


def lognormal(p50: float, p90: float, most: float | None, normal: NDArray[np.float64]) -> NDArray[np.float64]:
    values = p50 * np.exp(np.log(p90 / p50) / Z90 * normal)
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


def ordered(points: Sequence[Point]) -> None:
    """Raises `ValueError` where instants do not ascend."""
    for before, after in pairwise(points):
        if after.at <= before.at:
            raise ValueError(f"instants must ascend: {after.at:g} s comes after {before.at:g} s")
