"""Rows as JSON, and as one table of means over seeds."""

import json
from collections.abc import Iterable, Sequence
from math import isfinite
from statistics import mean

from rich.console import Console

from sim.evaluation.evaluate import Row
from sim.oracle.bounds import TARGET

Scenario = tuple[str, int, float]


def to_json(rows: Iterable[Row]) -> str:
    """One row a line: the contract is a list of objects with the fields of `Row`."""
    lines = ",\n".join(json.dumps(row.as_dict()) for row in rows)
    return f"[\n{lines}\n]\n" if lines else "[]\n"


def _scenarios(rows: Sequence[Row]) -> list[Scenario]:
    return list(dict.fromkeys((row.trace, row.peak_replicas, row.cold_start_s) for row in rows))


def _of(rows: Sequence[Row], scenario: Scenario, policy: str) -> list[Row]:
    return [r for r in rows if (r.trace, r.peak_replicas, r.cold_start_s) == scenario and r.policy == policy]


def _cell(found: Sequence[Row]) -> str:
    """Attainment in %, cost in parts of the clairvoyant's, reversals. A miss of the target is marked."""
    attainment = mean(row.attainment for row in found)
    cost = mean(row.gpu_hours / row.clairvoyant_gpu_hours for row in found)
    mark = "" if attainment >= TARGET else "*"
    return f"{100 * attainment:.2f}{mark} / {cost:.2f} / {mean(row.reversals for row in found):.0f}"


def table(rows: Sequence[Row]) -> list[str]:
    """Markdown. Cells: attainment % / GPU-hours in parts of the clairvoyant's / reversals; means over seeds."""
    policies = list(dict.fromkeys(row.policy for row in rows))
    lines = [
        f"| trace / peak / cold start s | clairvoyant GPU-h (bound/it) | {' | '.join(policies)} |",
        f"|---|---|{'---|' * len(policies)}",
    ]
    for scenario in _scenarios(rows):
        first = _of(rows, scenario, policies[0])
        best = mean(row.clairvoyant_gpu_hours for row in first)
        ratios = [
            r.lower_bound_gpu_hours / r.clairvoyant_gpu_hours for r in first if r.lower_bound_gpu_hours is not None
        ]
        bound = f"{mean(ratios):.3f}" if ratios else "none"
        cells = " | ".join(_cell(_of(rows, scenario, policy)) for policy in policies)
        lines.append(f"| {scenario[0]} / {scenario[1]} / {scenario[2]:g} | {best:.0f} ({bound}) | {cells} |")
    cells = " | ".join(_summary(rows, policy) for policy in policies)
    lines.append(f"| scenarios at {100 * TARGET:.0f} %, mean cost | | {cells} |")
    return lines


def _summary(rows: Sequence[Row], policy: str) -> str:
    scenarios = [_of(rows, scenario, policy) for scenario in _scenarios(rows)]
    met = sum(mean(row.attainment for row in found) >= TARGET for found in scenarios)
    cost = mean(mean(row.gpu_hours / row.clairvoyant_gpu_hours for row in found) for found in scenarios)
    return f"{met} of {len(scenarios)}, {cost:.2f}" if isfinite(cost) else f"{met} of {len(scenarios)}"


def show(rows: Sequence[Row], console: Console) -> None:
    if not rows:
        return
    console.print(
        "attainment % / GPU-hours in parts of the clairvoyant's / reversals; * misses the target", markup=False
    )
    for line in table(rows):
        console.print(line, markup=False)
