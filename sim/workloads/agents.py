"""Agent sessions: a person's task is several steps of the model with a tool call between them; the context grows.

The defaults are the statistics of TraceLab (uw-syfi/TraceLab, arXiv 2606.30560; 4,265 coding sessions of 43 people):
steps a task, growth, output, waits for tools and people, each as a lognormal by its published median and 90th
percentile. Contexts there are longer (median 116k tokens) than the models in this catalog serve from one GPU, so a
scenario says how long its own are.
"""

from pathlib import Path
from typing import Final, Literal, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, model_validator

from sim.serving.turns import PS_PER_S, Turns
from sim.streams import stream
from sim.strict import Strict
from sim.workloads.shapes import CommonTokens, Point, Quantity, Wait, arrivals, ordered

ABOUT: Final = "agent sessions: turns with tool and human waits, a context that grows and is compacted"


class Config(Strict):
    kind: Literal["agents"]
    sessions: list[Point] = Field(min_length=1)  #: how many begin
    tasks: Quantity = Quantity(p50=1, p90=12, max=137)  #: of a person in one session
    steps: Quantity = Quantity(p50=5, p90=18, max=100)  #: of the model in one task
    context_tokens: Quantity = Quantity(p50=6000, p90=12000)  #: at the start: instructions, tools, the first files
    appended_tokens: Quantity = Quantity(p50=870, p90=3000)  #: by a tool or a person, before each later step
    output_tokens: Quantity = Quantity(p50=200, p90=1000, max=4000)
    tool_wait: Wait = Wait.model_validate({"p50": "300ms", "p90": "13600ms", "max": "1h"})
    human_wait: Wait = Wait.model_validate({"p50": "86s", "p90": "21m", "max": "14h"})
    common_tokens: CommonTokens = 0  #: instructions and tools, which begin every session's context
    context_limit_tokens: int = Field(default=32_000, ge=1000)  #: where the agent compacts its context
    compacted_tokens: int = Field(default=8_000, ge=100)  #: what is left then

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        ordered(self.sessions)
        if self.compacted_tokens >= self.context_limit_tokens:
            raise ValueError(f"compactedTokens must be below contextLimitTokens, {self.context_limit_tokens}")
        if self.common_tokens >= self.compacted_tokens:
            raise ValueError(f"commonTokens must be below compactedTokens, {self.compacted_tokens}: they are kept")
        return self


def turns(config: Config, seed: int, duration_s: float, trace: Path | None) -> Turns:
    del trace
    starts_s = arrivals(stream(seed, "agents/sessions"), config.sessions, duration_s)
    parts = [_session(config, stream(seed, "agents/session", i), duration_s - s) for i, s in enumerate(starts_s)]
    lengths = np.array([len(p[0]) for p in parts], np.int64)
    first = np.cumsum(lengths) - lengths
    prompt, output, wait_s, human = (_joined(parts, column) for column in range(4))
    arrival_ps = np.full(len(prompt), -1, np.int64)
    arrival_ps[first] = np.rint(starts_s * PS_PER_S).astype(np.int64)
    wait_s[first], human[first] = 0.0, 0.0
    follows = np.ones(len(prompt), np.bool_)
    follows[first + lengths - 1] = False
    return Turns(
        prompt=prompt.astype(np.int32),
        output=output.astype(np.int32),
        session=np.repeat(np.arange(len(parts), dtype=np.int64), lengths),
        arrival_ps=arrival_ps,
        wait_ps=np.rint(wait_s * PS_PER_S).astype(np.int64),
        human=human.astype(np.bool_),
        follows=follows,
        common_tokens=config.common_tokens,
    )


def _joined(parts: list[tuple[NDArray[np.float64], ...]], column: int) -> NDArray[np.float64]:
    return np.concatenate([p[column] for p in parts]) if parts else np.zeros(0)


def _session(config: Config, random: np.random.Generator, left_s: float) -> tuple[NDArray[np.float64], ...]:
    """Prompt, output, wait before and whether that is for a person, by turn; as many as could come within `left_s`."""
    tasks = int(np.ceil(config.tasks.draw(random, 1)[0]))
    steps = np.maximum(1, np.rint(config.steps.draw(random, tasks))).astype(np.int64)
    count = int(steps.sum())
    begins = np.zeros(count, np.bool_)
    begins[np.cumsum(steps) - steps] = True
    waits_s = np.where(begins, config.human_wait.draw(random, count), config.tool_wait.draw(random, count))
    waits_s[0] = 0.0
    reached = max(1, int(np.searchsorted(np.cumsum(waits_s), left_s)))
    outputs = np.maximum(1, np.rint(config.output_tokens.draw(random, count)))
    appended = np.maximum(1, np.rint(config.appended_tokens.draw(random, count)))
    drawn = min(config.context_tokens.draw(random, 1)[0], config.context_limit_tokens / 2)
    context = max(np.rint(drawn), config.common_tokens + 1)
    prompts = np.zeros(count)
    for i in range(reached):
        prompts[i] = context
        context += outputs[i] + (appended[i + 1] if i + 1 < count else 0)
        if context > config.context_limit_tokens:
            context = float(config.compacted_tokens)
    return prompts[:reached], outputs[:reached], waits_s[:reached], begins[:reached].astype(np.float64)
