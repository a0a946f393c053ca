"""Rows as a table for people: means by mix and scorer, and the paired difference from the first scorer."""

import json
from collections.abc import Sequence
from dataclasses import asdict
from itertools import groupby

import numpy as np
from rich.console import Console

from sim.migpack.lab import Row


def to_json(rows: Sequence[Row]) -> str:
    """A contract: names and meaning of the fields stay."""
    return json.dumps({"results": [asdict(row) for row in rows]}, indent=1) + "\n"


def show(rows: Sequence[Row], console: Console) -> None:
    console.print(table(rows), markup=False)


def value(row: Row) -> float:
    """Percent of the slices asked for that were given; for a fixed set GPUs in use over the fewest possible."""
    if row.optimum_gpus is not None:
        return row.gpus_used / max(row.optimum_gpus, 1)
    return 100 * row.accepted_slices / max(row.offered_slices, 1)


def table(rows: Sequence[Row]) -> str:
    """The difference is in percentage points (fixed set: in GPUs per GPU), with its standard error over the seeds."""
    lines = [f"{'mix':<12}{'scorer':<20}{'value':>9}{'differs by':>12}{'+-':>8}"]
    for mix, of_mix in groupby(rows, key=lambda r: r.mix):
        by_scorer: dict[str, dict[int, float]] = {}
        for row in of_mix:
            by_scorer.setdefault(row.scorer, {})[row.seed] = value(row)
        base = next(iter(by_scorer.values()))
        for scorer, found in by_scorer.items():
            apart = np.array([found[seed] - base[seed] for seed in found])
            error = float(apart.std(ddof=1)) / len(apart) ** 0.5 if len(apart) > 1 else float("nan")
            mean = np.mean(list(found.values()))
            lines.append(f"{mix:<12}{scorer:<20}{mean:>9.4f}{apart.mean():>+12.4f}{error:>8.4f}")
    return "\n".join(lines)
