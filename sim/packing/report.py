"""Results of the packing lab as JSON, and as tables for a terminal."""

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, Final

import numpy as np
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from sim.interval import of_mean
from sim.packing.lab import Result
from sim.packing.replay import Result as Replayed

_Quantity = Callable[[Result], float]

LEVEL: Final = 0.95  # of the intervals


def to_json(recipe: str, results: Sequence[Result]) -> str:
    """A contract: names and meaning of the fields stay. Percentages as in `sim.packing.metrics.Outcome`.

    `bound_100_pct` stands in the results that have one.
    """
    return json.dumps({"recipe": recipe, "results": [_entry(result) for result in results]}, indent=1) + "\n"


def replays_to_json(results: Sequence[Replayed]) -> str:
    """As above; the fields beside pods, scorer and seed are those of `sim.packing.replay.Outcome`."""
    entries = [{"pods": r.pods, "scorer": r.scorer, "seed": r.seed, **asdict(r.outcome)} for r in results]
    return json.dumps({"recipe": "replay", "results": entries}, indent=1) + "\n"


def show_replays(results: Sequence[Replayed], console: Console) -> None:
    """One table a trace: means over the seeds."""
    for pods in dict.fromkeys(result.pods for result in results):
        table = _table(
            "scorer", "allocated %", "most %", "waited %", "wait P50 s", "P99 s", "never", "evicted", "run s"
        )
        of_pods = [result for result in results if result.pods == pods]
        for name in dict.fromkeys(result.scorer for result in of_pods):
            outcomes = [asdict(result.outcome) for result in of_pods if result.scorer == name]
            mean = {field: float(np.mean([o[field] for o in outcomes])) for field in outcomes[0]}
            counts = [f"{mean[field]:.1f}" for field in ("never_placed", "evicted", "wall_s")]
            percents = [f"{mean[f]:.2f}" for f in ("allocation_mean_pct", "allocation_max_pct", "waited_pct")]
            table.add_row(name, *percents, f"{mean['wait_s_p50']:.0f}", f"{mean['wait_s_p99']:.0f}", *counts)
        console.print(f"[bold]{escape(Path(pods).name)}[/]  [dim]mean over the seeds[/]")
        console.print(table)


def _entry(result: Result) -> dict[str, Any]:
    outcome = result.outcome
    bound = {} if result.bound_100_pct is None else {"bound_100_pct": result.bound_100_pct}
    return {
        "pods": result.pods,
        "scorer": result.scorer,
        "seed": result.seed,
        "allocation_100_pct": outcome.allocation_100_pct,
        "allocation_130_pct": outcome.allocation_130_pct,
        "first_failure_pct": outcome.first_failure_pct,
        "lost_by_class_pct": outcome.lost_by_class_pct,
        "decision_ms_p50": result.decision_ms_p50,
        "decision_ms_p99": result.decision_ms_p99,
        "wall_s": result.wall_s,
        **bound,
    }


def gap_closed_pct(ours: Sequence[Result], first: Sequence[Result]) -> float | None:
    """Of what the first scorer leaves below the bound at 100 %, the part that ours allocates; means over the seeds.

    None: without bounds, where the first scorer leaves nothing, and for itself.
    """
    bounds = [result.bound_100_pct for result in first if result.bound_100_pct is not None]
    left = float(np.mean(bounds)) - _mean(first, _at_100) if bounds else 0.0
    return None if ours is first or left <= 0 else 100.0 * (_mean(ours, _at_100) - _mean(first, _at_100)) / left


def _spelled(values: Sequence[float], *, sign: str = "") -> str:
    """Mean and half of its interval, if there is one."""
    found = of_mean(values, LEVEL)
    return f"{np.mean(values):{sign}.2f}" + ("" if found is None else f" ± {found.high - found.mean:.2f}")


def trace_name(pods: str) -> str:
    """The file's, without folder and suffixes."""
    return Path(pods).name.removesuffix(".gz").removesuffix(".csv")


def show(results: Sequence[Result], console: Console) -> None:
    """Three tables a trace: means over the seeds with intervals, when and how fast, and what each class lost.

    Differences to the first scorer are paired: seed by seed, on the same arrivals.
    """
    for pods in dict.fromkeys(result.pods for result in results):
        of_pods = [result for result in results if result.pods == pods]
        by_scorer = {
            name: [result for result in of_pods if result.scorer == name]
            for name in dict.fromkeys(result.scorer for result in of_pods)
        }
        first, its_results = next(iter(by_scorer.items()))
        many = (
            f"{len(its_results)} seeds, mean ± half of its {LEVEL:.0%} interval" if len(its_results) > 1 else "1 seed"
        )
        console.print(f"[bold]{escape(trace_name(pods))}[/]  [dim]{many}[/]")
        console.print(f"[dim]allocated, in % of the cluster's GPUs; differences to {first}, paired by seed[/]")
        bounds = [result.bound_100_pct for result in its_results if result.bound_100_pct is not None]
        if bounds:
            console.print(f"[dim]no policy has more than {_spelled(bounds)} at 100 %; gap: what it closes of that[/]")
        console.print(_allocations(by_scorer))
        console.print("[dim]lost while the first 100 % arrived, in % of the GPUs (cpu-only: of the CPU)[/]")
        console.print(_losses(by_scorer))
        console.print("[dim]arrived at the first failure, in % of the GPUs; time of a decision and of a run[/]")
        console.print(_times(by_scorer))
        console.print()


def _table(*columns: str) -> Table:
    table = Table(box=None, pad_edge=False, header_style="dim")
    for column in columns:
        table.add_column(column, justify="left" if column == "scorer" else "right", no_wrap=True)
    return table


def _allocations(by_scorer: dict[str, list[Result]]) -> Table:
    first = next(iter(by_scorer))
    bounded = by_scorer[first][0].bound_100_pct is not None
    table = _table("scorer", "at 100 %", "difference", "at 130 %", "difference", *["gap"] * bounded)

    def cells(name: str, quantity: _Quantity) -> tuple[str, str]:
        ours = [quantity(result) for result in by_scorer[name]]
        theirs = [quantity(result) for result in by_scorer[first]]
        pairs = zip(ours, theirs, strict=True)
        return _spelled(ours), "" if name == first else _spelled([a - b for a, b in pairs], sign="+")

    for name, results in by_scorer.items():
        gap = gap_closed_pct(results, by_scorer[first])
        closed = ["" if gap is None else f"{gap:.0f} %"] * bounded
        table.add_row(name, *cells(name, _at_100), *cells(name, _at_130), *closed)
    return table


def _losses(by_scorer: dict[str, list[Result]]) -> Table:
    classes = list(next(iter(by_scorer.values()))[0].outcome.lost_by_class_pct)
    table = _table("scorer", *classes)
    for name, results in by_scorer.items():
        lost = [np.mean([result.outcome.lost_by_class_pct[member] for result in results]) for member in classes]
        table.add_row(name, *(f"{mean:.2f}" for mean in lost))
    return table


def _times(by_scorer: dict[str, list[Result]]) -> Table:
    table = _table("scorer", "first failure", "P50 ms", "P99 ms", "run s")
    for name, results in by_scorer.items():
        failure = _spelled([result.outcome.first_failure_pct for result in results])
        table.add_row(
            name,
            failure,
            f"{_mean(results, _p50):.3f}",
            f"{_mean(results, _p99):.3f}",
            f"{_mean(results, _wall_s):.2f}",
        )
    return table


def _mean(results: Sequence[Result], quantity: _Quantity) -> float:
    return float(np.mean([quantity(result) for result in results]))


def _at_100(result: Result) -> float:
    return result.outcome.allocation_100_pct


def _at_130(result: Result) -> float:
    return result.outcome.allocation_130_pct


def _p50(result: Result) -> float:
    return result.decision_ms_p50


def _p99(result: Result) -> float:
    return result.decision_ms_p99


def _wall_s(result: Result) -> float:
    return result.wall_s
