"""What the commands share: finding a scenario, refusing wrong usage, writing a result. Imports nothing slow."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, NoReturn

import typer

Scenario = Annotated[
    str, typer.Argument(metavar="SCENARIO", help="A scenario file (YAML), or the name of a bundled scenario.")
]
Trace = Annotated[
    Path | None,
    typer.Option(exists=True, dir_okay=False, help="Recorded load, for scenarios that replay one."),
]
Set = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        metavar="FIELD=VALUE",
        help="Change a field: a key of the trigger, a field of the ScaledObject's spec, or a whole path such as "
        "scaledObject.spec.triggers[0].metadata.policy. Repeatable.",
    ),
]
Seeds = Annotated[str, typer.Option(metavar="0-9", help="Ranges and numbers, with commas between.")]
Jobs = Annotated[int, typer.Option(min=1, help="Processes. The result is the same for any number.")]
Ray = Annotated[
    str | None,
    typer.Option(metavar="ADDRESS", help="Run on a Ray cluster: its address, auto, or local. Needs the extra ray."),
]
Json = Annotated[
    str | None, typer.Option(metavar="FILE", help="Write the result as JSON there; - is standard output, alone.")
]


def refuse(message: str) -> NoReturn:
    typer.echo(message, err=True)
    raise typer.Exit(2)


def find(scenario: str) -> Path:
    """A path, or the name of a bundled scenario."""
    from sim.scenario import bundled  # noqa: PLC0415  # --help must not wait for numpy

    path = Path(scenario)
    if path.is_file():
        return path
    known = bundled()
    if scenario in known:
        return known[scenario]
    refuse(f"no such scenario: {scenario}; give a YAML file, or one of the bundled: {', '.join(known)}")


@contextmanager
def refusing() -> Iterator[None]:
    """What is wrong with what was given is told in its own words, with exit code 2."""
    from sim.changes import ChangeError  # noqa: PLC0415  # as above
    from sim.cluster.placed import EngineFitError  # noqa: PLC0415
    from sim.jobs import RayMissingError  # noqa: PLC0415
    from sim.strict import ConfigError, LackingError  # noqa: PLC0415
    from sim.workloads.trace import TraceError  # noqa: PLC0415

    try:
        yield
    except (ConfigError, LackingError, TraceError, EngineFitError, ChangeError, RayMissingError, UsageError) as e:
        refuse(str(e))


class UsageError(ValueError):
    """An option that cannot be used; the message names it and the rule."""


def seeds_of(text: str, fewest: int = 1) -> list[int]:
    """`0-9`, `1,4` or both. Raises `UsageError`."""
    from sim.packing.arguments import seeds_of as parse  # noqa: PLC0415  # as above

    try:
        seeds = parse(text)
    except ValueError as e:
        raise UsageError(str(e)) from e
    if len(seeds) < fewest:
        raise UsageError(f"--seeds: want {fewest} or more (got {text!r})")
    return seeds


def write(text: str, where: str) -> None:
    """`where`: a path, or - for standard output."""
    if where == "-":
        sys.stdout.write(text)
        return
    try:
        Path(where).write_text(text, encoding="utf-8")
    except OSError as e:
        refuse(f"{where}: cannot be written: {e.strerror}")


def say_if_compiling() -> None:
    from sim.serving.jit import compiled_before  # noqa: PLC0415  # as above

    if not compiled_before():
        typer.echo("compiling the engine, once on this machine (about 20 s) …", err=True)
