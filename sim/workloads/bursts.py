"""Requests without sessions that come in bursts: a quiet rate, and clusters of requests on top of it.

Bursts begin as a Poisson process; each brings a lognormal number of requests, spread exponentially behind its begin
(a Neyman-Scott process). Azure's code trace of 2023 is of this kind: 2.6 requests/s on average, with a coefficient of
variation of the gaps of 13.
"""

from pathlib import Path
from typing import Final, Literal, Self

import numpy as np
from pydantic import Field, model_validator

from sim.serving.turns import Turns, open_loop
from sim.streams import stream
from sim.strict import Seconds, Strict
from sim.workloads.shapes import CommonTokens, Point, Quantity, arrivals, ordered, tokens

ABOUT: Final = "single requests in bursts over a quiet rate (a Poisson cluster process)"


class Config(Strict):
    kind: Literal["bursts"]
    rate: list[Point] = Field(min_length=1)  #: of what comes between the bursts
    bursts_per_hour: float = Field(gt=0, le=36_000)
    requests: Quantity = Quantity(p50=80, p90=300, max=5000)  #: of one burst
    spread: Seconds = Field(default=10.0, gt=0)  #: mean time of a burst's requests behind its begin
    prompt_tokens: Quantity
    output_tokens: Quantity
    common_tokens: CommonTokens = 0

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        ordered(self.rate)
        return self


def turns(config: Config, seed: int, duration_s: float, trace: Path | None) -> Turns:
    del trace
    quiet_s = arrivals(stream(seed, "bursts/quiet"), config.rate, duration_s)
    random = stream(seed, "bursts/begins")
    begins_s = np.sort(random.uniform(0, duration_s, random.poisson(config.bursts_per_hour * duration_s / 3600)))
    sizes = np.rint(config.requests.draw(random, len(begins_s))).astype(np.int64)
    within_s = np.repeat(begins_s, sizes) + stream(seed, "bursts/within").exponential(config.spread, int(sizes.sum()))
    times_s = np.sort(np.concatenate([quiet_s, within_s[within_s < duration_s]]))
    lengths = stream(seed, "bursts/tokens")
    prompt = tokens(config.prompt_tokens, lengths, len(times_s), config.common_tokens)
    output = tokens(config.output_tokens, lengths, len(times_s))
    return open_loop(times_s, prompt, output, config.common_tokens)
