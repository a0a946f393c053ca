"""`slicewise sim …`: stdout is the report, stderr the talk. Exit codes: 0 ran, 1 a broken promise, 2 wrong usage."""

import typer

from sim.commands import register
from sim.evaluation.command import evaluate
from sim.packing.command import pack

app = typer.Typer(
    name="slicewise sim",
    help="Rehearse policies and placement offline, with the production code.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
app.command()(pack)
app.command()(evaluate)
register(app)
