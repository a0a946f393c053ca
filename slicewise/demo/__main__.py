"""`slicewise demo`: the composition root of the demo; the only place in it that reads the wall's clock."""

import asyncio
import sys
import time
from typing import Annotated

import typer
from rich.console import Console

from slicewise.demo.show import Options, demonstrate

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


@app.command(
    help="Watch the real scaler and the real extender drive a simulated GPU cluster, on loopback, in about a minute."
)
def demo(
    seconds: Annotated[
        float, typer.Option(help="Length of the run in seconds on the wall; each is 30 s in the cluster.", min=1.0)
    ] = 60.0,
    forever: Annotated[bool, typer.Option("--forever", help="Run until Ctrl-C; the story repeats itself.")] = False,
    plain: Annotated[
        bool, typer.Option("--plain", help="Lines instead of a live picture; the default where there is no terminal.")
    ] = False,
) -> None:
    console = Console()
    options = Options(
        wall_s=None if forever else seconds, plain=plain or not console.is_terminal or console.is_dumb_terminal
    )
    wall = time.time
    raise typer.Exit(asyncio.run(demonstrate(options, console, wall)))


if __name__ == "__main__":
    app(prog_name="slicewise demo", args=sys.argv[1:])
