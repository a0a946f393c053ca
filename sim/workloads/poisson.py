"""Requests without sessions, a Poisson process with a rate that may change."""

from pathlib import Path
from typing import Final, Literal, Self

from pydantic import Field, model_validator

from sim.serving.turns import Turns, open_loop
from sim.streams import stream
from sim.strict import Strict
from sim.workloads.shapes import CommonTokens, Point, Quantity, arrivals, ordered, tokens

ABOUT: Final = "single requests, Poisson arrivals with a rate that follows the points given"


class Config(Strict):
    kind: Literal["poisson"]
    rate: list[Point] = Field(min_length=1)
    prompt_tokens: Quantity
    output_tokens: Quantity
    common_tokens: CommonTokens = 0

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        ordered(self.rate)
        return self


def turns(config: Config, seed: int, duration_s: float, trace: Path | None) -> Turns:
    del trace
    times_s = arrivals(stream(seed, "poisson/arrivals"), config.rate, duration_s)
    random = stream(seed, "poisson/tokens")
    prompt = tokens(config.prompt_tokens, random, len(times_s), config.common_tokens)
    output = tokens(config.output_tokens, random, len(times_s))
    return open_loop(times_s, prompt, output, config.common_tokens)
