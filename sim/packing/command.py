"""`slicewise sim pack`: stdout is the report, stderr the talk. Exit codes: 0 ran, 2 wrong usage."""

from collections.abc import Sequence
from enum import StrEnum
from pathlib import Path
from typing import Annotated, NoReturn

import typer


class Recipe(StrEnum):
    """How arrivals are made from the pods."""

    FGD = "fgd"


def _refuse(message: str) -> NoReturn:
    typer.echo(message, err=True)
    raise typer.Exit(2)


def seeds_of(text: str) -> list[int]:
    """`42-51`, `42,44` or both. Raises `ValueError` with the rule."""
    seeds: list[int] = []
    for part in text.split(","):
        first, dash, last = part.partition("-")
        bounds = (first, last) if dash else (first, first)
        if not all(bound.isascii() and bound.isdecimal() and len(bound) <= 9 for bound in bounds):
            raise ValueError(f"--seeds: whole numbers and ranges such as 42-51, with commas between (got {part!r})")
        if int(bounds[1]) < int(bounds[0]):
            raise ValueError(f"--seeds: a range goes upwards (got {part!r})")
        seeds += range(int(bounds[0]), int(bounds[1]) + 1)
    return list(dict.fromkeys(seeds))


def scorers_of(text: str, known: Sequence[str]) -> list[str]:
    """Names with commas between. Raises `ValueError` with the rule."""
    names = list(dict.fromkeys(name.strip() for name in text.split(",")))
    if strange := [name for name in names if name not in known]:
        raise ValueError(f"--scorers: no such scorer: {', '.join(strange)}; there are {', '.join(known)}")
    return names


def pack(
    nodes: Annotated[Path, typer.Option(exists=True, dir_okay=False, metavar="FILE", help="Nodes: CSV or CSV.gz.")],
    pods: Annotated[
        list[Path], typer.Option(exists=True, dir_okay=False, metavar="FILE", help="Pods: CSV or CSV.gz; repeatable.")
    ],
    *,
    recipe: Annotated[
        Recipe, typer.Option(help="fgd: arrivals only, shuffled and cloned to 130 % of the cluster's GPUs.")
    ] = Recipe.FGD,
    scorers: Annotated[
        str, typer.Option(metavar="A,B,…", help="Policies; the others are compared with the first.")
    ] = "fgd,spr",
    seeds: Annotated[
        str, typer.Option(metavar="42-51", help="Ranges and numbers; each seed is an order of nodes and pods.")
    ] = "42-51",
    json: Annotated[
        str | None, typer.Option(metavar="FILE", help="Write every experiment as JSON; - is stdout, without the table.")
    ] = None,
) -> None:
    """Fill a cluster with the pods of a trace by one policy after another, and compare what each one lost."""
    from rich.console import Console  # noqa: PLC0415  # --help must not wait for numpy
    from rich.progress import track  # noqa: PLC0415

    from sim.packing.jit import compiled_before  # noqa: PLC0415
    from sim.packing.lab import experiments, load, warm_up  # noqa: PLC0415
    from sim.packing.report import show, to_json  # noqa: PLC0415
    from sim.packing.table import SCORERS  # noqa: PLC0415
    from sim.strict import ConfigError  # noqa: PLC0415

    try:
        names, numbers = scorers_of(scorers, list(SCORERS)), seeds_of(seeds)
        cases = load(nodes, pods)
    except (ConfigError, ValueError) as e:
        _refuse(str(e))
    if not compiled_before():
        typer.echo("compiling the policies, once on this machine (about 25 s) …", err=True)
    warm_up(cases, names)
    talk = Console(stderr=True)
    total = len(cases.traces) * len(numbers) * len(names)
    results = list(
        track(experiments(cases, names, numbers), "packing", total, console=talk, disable=not talk.is_terminal)
    )
    if json is not None:
        text = to_json(recipe.value, results)
        if json == "-":
            typer.echo(text, nl=False)
            return
        try:
            Path(json).write_text(text, encoding="utf-8")
        except OSError as e:
            _refuse(f"--json: {json}: cannot be written: {e.strerror}")
    show(results, Console(highlight=False))
