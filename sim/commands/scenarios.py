"""`slicewise sim scenarios`."""

import typer


def scenarios() -> None:
    """List the scenarios that come with Slicewise; any of them can be run by its name."""
    from sim.scenario import bundled, load  # noqa: PLC0415  # --help must not wait for numpy

    for name, path in bundled().items():
        typer.echo(f"{name:<14} {load(path).yaml.about}")
