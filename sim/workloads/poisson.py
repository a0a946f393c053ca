"""Requests without sessions, a Poisson process with a rate that may change."""

from pathlib import Path
from typing import Final, Literal, Self

import numpy as np
from pydantic import Field, model_validator

from sim.serving.turns import Turns, open_loop
from sim.streams import stream
from sim.strict import Strict
from sim.workloads.shapes import Point, Quantity, arrivals, ordered

ABOUT: Final = "single requests, Poisson arrivals with a rate that follows the points given"


class Config(Strict):
    kind: Literal["poisson"]
    rate: list[Point] = Field(min_length=1)
    prompt_tokens: Quantity
    output_tokens: Quantity

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        ordered(self.rate)
        return self


def turns(config: Config, seed: int, duration_s: float, trace: Path | None) -> Turns:
    del trace
    times_s = arrivals(stream(seed, "poisson/arrivals"), config.rate, duration_s)
    sizes = stream(seed, "poisson/tokens")
    prompt = np.maximum(1, np.rint(config.prompt_tokens.draw(sizes, len(times_s))))
    output = np.maximum(1, np.rint(config.output_tokens.draw(sizes, len(times_s))))
    return open_loop(times_s, prompt.astype(np.int64), output.astype(np.int64))
