"""`slicewise sim validate`. Exit codes: 0 all can be run, 2 some cannot."""

from typing import Annotated

import typer

from sim.commands.usage import Set, find, refusing


def validate(
    scenarios: Annotated[
        list[str], typer.Argument(metavar="SCENARIO…", help="Scenario files, or names of bundled scenarios.")
    ],
    *,
    changes: Set = None,
) -> None:
    """Check scenarios without running them: every fault of each, with file, line, field and rule."""
    from sim.changes import parse  # noqa: PLC0415  # --help must not wait for numpy
    from sim.rehearsable import faults  # noqa: PLC0415

    paths, wrong = [find(s) for s in scenarios], 0
    with refusing():
        wanted = parse(changes or ())
    for path in paths:
        found = faults(path, wanted)
        wrong += len(found)
        for fault in found:
            typer.echo(fault, err=True)
        if not found:
            typer.echo(f"{path}: can be run")
    if wrong:
        raise typer.Exit(2)
