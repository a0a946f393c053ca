"""`slicewise sim backtest SCENARIO --rates FILE`."""

from pathlib import Path
from typing import Annotated

import typer

from sim.commands.usage import Json, Scenario, Set, UsageError, find, refusing, say_if_compiling, write


def backtest(
    scenario: Scenario,
    *,
    rates: Annotated[
        Path,
        typer.Option(
            exists=True,
            dir_okay=False,
            metavar="FILE",
            help="Recorded arrivals: /api/v1/query_range as JSON, or promtool tsdb dump; workload.kind prometheus.",
        ),
    ],
    replicas: Annotated[
        Path | None,
        typer.Option(exists=True, dir_okay=False, metavar="FILE", help="Range of the replicas that really ran."),
    ] = None,
    p95: Annotated[
        Path | None,
        typer.Option(exists=True, dir_okay=False, metavar="FILE", help="Range of the real P95 from end to end, in s."),
    ] = None,
    begin: Annotated[
        float | None, typer.Option(help="Unix time at which the simulation begins; default: the first sample of rates.")
    ] = None,
    changes: Set = None,
    seed: Annotated[int, typer.Option(min=0, help="Of the requests, which rates alone do not tell.")] = 0,
    json: Json = None,
) -> None:
    """Rehearse recorded days: how far is the model from what really ran, and what would --set have changed?"""
    path = find(scenario)
    from sim.backtest import as_text, begin_of  # noqa: PLC0415  # --help must not wait for numpy
    from sim.backtest import backtest as tested  # noqa: PLC0415
    from sim.changes import parse, short  # noqa: PLC0415
    from sim.run import load, simulate  # noqa: PLC0415
    from sim.workloads.prometheus import Config  # noqa: PLC0415

    with refusing():
        loaded, sets = load(path), parse(changes or ())
        if not isinstance(loaded.load, Config):
            raise UsageError(f"{path}: workload.kind: want prometheus for recorded rates")
        say_if_compiling()
        report = simulate(loaded, seed, rates)
        other = simulate(load(path, sets), seed, rates) if sets else None
        begin_s = begin_of(rates, loaded.load.metric) + loaded.load.begins_at if begin is None else begin
        change = " ".join(f"{short(field)}={text}" for field, text in sets)
        found = tested(report, other, change, replicas=replicas, p95=p95, begin_s=begin_s)
    if json is not None:
        write(found.to_json(), json)
    if json != "-":
        typer.echo(as_text(found))
