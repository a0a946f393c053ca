"""`slicewise sim report REPORT.json --html FILE`."""

from pathlib import Path
from typing import Annotated

import typer

from sim.commands.usage import refuse, write


def report(
    source: Annotated[
        Path, typer.Argument(metavar="REPORT", exists=True, dir_okay=False, help="What `run --json` printed.")
    ],
    *,
    html: Annotated[str, typer.Option(metavar="FILE", help="Where the page goes; - is standard output.")] = "-",
) -> None:
    """Make the HTML page of a report that was kept as JSON."""
    import msgspec  # noqa: PLC0415  # --help must not wait

    from sim.report.html import to_html  # noqa: PLC0415
    from sim.report.model import SCHEMA, Report  # noqa: PLC0415

    try:
        made = msgspec.json.decode(source.read_bytes(), type=Report)
    except (msgspec.DecodeError, OSError) as e:
        refuse(f"{source}: no report of `slicewise sim run --json` ({SCHEMA}): {e}")
    if made.schema != SCHEMA:
        refuse(f"{source}: schema: want {SCHEMA} (got {made.schema!r}); run the scenario again")
    write(to_html(made), html)
