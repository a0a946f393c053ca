"""`slicewise sim run`. Exit codes: 0 ran, 1 a broken promise, 2 wrong usage."""

import sys
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from sim.commands.usage import Scenario, Set, Trace, find, refuse, refusing, say_if_compiling, write

if TYPE_CHECKING:
    from sim.report.model import Report
    from sim.run import Run


class Engine(StrEnum):
    """Both give the same report; `reference` is plain Python, slow, and there to be compared with."""

    COMPILED = "compiled"
    REFERENCE = "reference"


def run(
    scenario: Scenario,
    *,
    trace: Trace = None,
    seed: Annotated[int, typer.Option(min=0, help="Same seed, same report, byte for byte.")] = 0,
    sets: Set = None,
    json: Annotated[
        bool, typer.Option("--json", help="Print the whole report as JSON instead of the summary.")
    ] = False,
    html: Annotated[
        str | None, typer.Option(metavar="FILE", help="Write the report as one HTML file that needs no network.")
    ] = None,
    record: Annotated[
        Path | None,
        typer.Option(dir_okay=False, metavar="FILE", help="Write what a live scaler would have logged, for `replay`."),
    ] = None,
    changes: Annotated[int, typer.Option(min=0, help="How many scale events the summary lists.")] = 12,
    engine: Annotated[Engine, typer.Option(help="Which of the two engines serves; their reports are equal.")] = (
        Engine.COMPILED
    ),
) -> None:
    """Run a scenario: load, scaler, KEDA, HPA, scheduler, nodes and engines on one clock."""
    path = find(scenario)
    from sim.changes import parse  # noqa: PLC0415  # --help must not wait for numpy
    from sim.journal import Journal  # noqa: PLC0415
    from sim.run import EngineKind, finish, load, prepare  # noqa: PLC0415

    if engine is Engine.COMPILED:
        say_if_compiling()
    with refusing():
        loaded, journal = load(path, parse(sets or ())), None
        if record is not None:
            _ = loaded.yaml.keda  # whose scaler's log it would be
            journal = Journal()
        prepared = prepare(loaded, seed, trace, EngineKind(engine.value), journal)
        report = finish(prepared)
    if record is not None:
        _record(prepared, record)
    if html is not None:
        from sim.report.html import to_html  # noqa: PLC0415  # as above

        write(to_html(report), html)
    _show(report, None if json else changes)


def _record(prepared: "Run", path: Path) -> None:
    from sim.recording import write as write_recording  # noqa: PLC0415  # as above

    if prepared.control.journal is None:
        raise ValueError("a run that is to be recorded has a journal")
    try:
        with path.open("w", encoding="utf-8") as file:
            write_recording(prepared.control.journal, prepared.world, file)
    except OSError as e:
        refuse(f"--record: {path}: cannot be written: {e.strerror}")


def _show(report: "Report", changes: int | None) -> None:
    """As JSON where `changes` is None. Exit code 1 for a broken promise."""
    from rich.console import Console  # noqa: PLC0415  # as above

    from sim.report.terminal import show  # noqa: PLC0415

    if changes is None:
        sys.stdout.write(report.to_json())
    else:
        show(report, Console(highlight=False), changes)
    if not report.kept_its_promises:
        broken = ", ".join(p.name for p in report.promises if not p.kept)
        typer.echo(f"broken promises: {broken}", err=True)
        raise typer.Exit(1)
