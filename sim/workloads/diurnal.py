"""Requests without sessions whose rate has a day and a week.

rate(t) = perMinute x exp(k cos(2 pi (t - peakAt) / 24 h)) / I0(k), with k such that the peak is `peakToMean` times the
mean of the day (a von Mises day: one peak, never negative); on Saturday and Sunday times `weekend`. The gaps are Gamma
with the given coefficient of variation. Of the weeks in ServeGen's data (arXiv 2505.09999) peak/mean is 1.9 to 3.3, and
clients' gaps have a median coefficient of 1.0 to 1.4.
"""

from pathlib import Path
from typing import Final, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from sim.serving.turns import Turns, open_loop
from sim.streams import stream
from sim.strict import Seconds, Strict
from sim.workloads.shapes import CommonTokens, Quantity, portable, renewal, tokens

ABOUT: Final = "single requests whose rate follows the hours of the day and the days of the week"
DAY_S: Final = 86_400.0
STEP_S: Final = 60.0


class Config(Strict):
    kind: Literal["diurnal"]
    per_minute: float = Field(gt=0)  #: mean of a weekday
    peak_to_mean: float = Field(default=2.0, ge=1, le=6)
    peak_at: Seconds = Field(default=14 * 3600.0, ge=0, lt=DAY_S)  #: after midnight
    begins_at: Seconds = Field(default=0.0, ge=0, lt=7 * DAY_S)  #: of the week that begins on Monday at midnight
    weekend: float = Field(default=1.0, ge=0, le=2)  #: Saturday and Sunday, as a part of a weekday
    cv: float = Field(default=1.0, ge=0.1, le=20)  #: of the gaps between requests; 1: Poisson
    prompt_tokens: Quantity
    output_tokens: Quantity
    common_tokens: CommonTokens = 0


def turns(config: Config, seed: int, duration_s: float, trace: Path | None) -> Turns:
    del trace
    grid_s = np.append(np.arange(0, duration_s, STEP_S), duration_s)
    times_s = renewal(stream(seed, "diurnal/arrivals"), grid_s, rate_per_s(config, grid_s), config.cv)
    random = stream(seed, "diurnal/tokens")
    prompt = tokens(config.prompt_tokens, random, len(times_s), config.common_tokens)
    output = tokens(config.output_tokens, random, len(times_s))
    return open_loop(times_s, prompt, output, config.common_tokens)


def rate_per_s(config: Config, times_s: NDArray[np.float64]) -> NDArray[np.float64]:
    week_s = (times_s + config.begins_at) % (7 * DAY_S)
    k = _sharpness(config.peak_to_mean)
    day = np.exp(k * np.cos(2 * np.pi * (week_s - config.peak_at) / DAY_S)) / np.i0(k)
    weekday = np.where(week_s >= 5 * DAY_S, config.weekend, 1.0)
    return portable(config.per_minute / 60 * day * weekday, 9)


def _sharpness(peak_to_mean: float) -> float:
    """K of exp(k) / I0(k) = `peak_to_mean`, by halving."""
    low, high = 0.0, 300.0
    for _ in range(80):
        middle = (low + high) / 2
        low, high = (middle, high) if np.exp(middle) / np.i0(middle) < peak_to_mean else (low, middle)
    return low
