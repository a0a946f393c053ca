"""The commands around a run, one module each. What they import at once is little, so that `--help` is quick."""

import typer

from sim.commands.compare import compare


def register(app: typer.Typer) -> None:
    for command in (compare,):
        app.command()(command)
