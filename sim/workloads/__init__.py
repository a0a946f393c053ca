"""Loads: one file each, one line in the table."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final

from sim.serving.turns import Turns
from sim.strict import Strict
from sim.workloads import agents, azure, burstgpt, bursts, diurnal, mooncake, otel, poisson, prometheus, servegen
from sim.workloads import turns as our_own


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
        "bursts": Workload(bursts.Config, bursts.turns, needs_trace=False, about=bursts.ABOUT),
        "burstgpt": Workload(burstgpt.Config, burstgpt.turns, needs_trace=True, about=burstgpt.ABOUT),
        "diurnal": Workload(diurnal.Config, diurnal.turns, needs_trace=False, about=diurnal.ABOUT),
        "mooncake": Workload(mooncake.Config, mooncake.turns, needs_trace=True, about=mooncake.ABOUT),
        "otel": Workload(otel.Config, otel.turns, needs_trace=True, about=otel.ABOUT),
        "poisson": Workload(poisson.Config, poisson.turns, needs_trace=False, about=poisson.ABOUT),
        "prometheus": Workload(prometheus.Config, prometheus.turns, needs_trace=True, about=prometheus.ABOUT),
        "servegen": Workload(servegen.Config, servegen.turns, needs_trace=True, about=servegen.ABOUT),
        "turns": Workload(our_own.Config, our_own.turns, needs_trace=True, about=our_own.ABOUT),
    }
)
