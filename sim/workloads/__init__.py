"""Loads: one file each, one line in the table."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final

from sim.serving.turns import Turns
from sim.strict import Strict
from sim.workloads import agents, azure, poisson


@dataclass(frozen=True, slots=True)
class Workload:
    """`config`: what a scenario says of it. `turns(config, seed, duration_s, trace)`: the load; raises `TraceError`."""

    config: type[Strict]
    turns: Callable[[Any, int, float, Path | None], Turns]
    needs_trace: bool
    about: str


WORKLOADS: Final[Mapping[str, Workload]] = MappingProxyType(
    {
        "agents": Workload(agents.Config, agents.turns, needs_trace=False, about=agents.ABOUT),
        "azure": Workload(azure.Config, azure.turns, needs_trace=True, about=azure.ABOUT),
        "poisson": Workload(poisson.Config, poisson.turns, needs_trace=False, about=poisson.ABOUT),
    }
)
