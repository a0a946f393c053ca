"""`slicewise sim pack`: stdout is the report, stderr the talk. Exit codes: 0 ran, 2 wrong usage.

Two labs behind one command: pods of a trace on nodes of CPU, memory and GPUs, and MIG demands on a fleet of GPUs.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NoReturn, TypeVar

import typer

from sim.packing.arguments import mixes_of, scorers_of, seeds_of

if TYPE_CHECKING:
    from rich.console import Console

Result = TypeVar("Result")


@dataclass(frozen=True, slots=True)
class _Told:
    """The report in its forms: `page` writes the HTML."""

    json: str
    table: "Callable[[Console], None]"
    page: Callable[[], str] | None = None


TRACE_SCORERS, TRACE_SEEDS = "fgd,default", "42-51"
MIG_SCORERS, MIG_SEEDS = "fgd-told,default", "1-5"


class Recipe(StrEnum):
    """How arrivals are made from the pods."""

    FGD = "fgd"
    REPLAY = "replay"


def _refuse(message: str) -> NoReturn:
    typer.echo(message, err=True)
    raise typer.Exit(2)


_Mix = Annotated[
    str | None,
    typer.Option(help="MIG demands in place of files: uniform, skew-small, skew-big, bimodal, by comma; or all."),
]
_Gpus = Annotated[int, typer.Option(min=1, help="MIG: GPUs of the fleet, one on a node; not for --fixed.")]
_Model = Annotated[str, typer.Option(help="MIG: GPU model of the catalog.")]
_Load = Annotated[
    float | None,
    typer.Option(min=0.01, max=1000, help="Work asked for, as a part of all. MIG: 1.0; replay: as recorded."),
]
_Fixed = Annotated[
    int,
    typer.Option(
        min=0, help="MIG: so many pods, all waiting at once, that never leave, against the fewest GPUs; 0: a stream."
    ),
]
_Scorers = Annotated[
    str | None,
    typer.Option(
        metavar="A,B,…",
        help=f"Policies; the others are compared with the first. {TRACE_SCORERS}; MIG: {MIG_SCORERS}.",
    ),
]
_Seeds = Annotated[
    str | None,
    typer.Option(
        metavar="42-51", help=f"Ranges and numbers; each seed is another draw. {TRACE_SEEDS}; MIG: {MIG_SEEDS}."
    ),
]
_Json = Annotated[
    str | None, typer.Option(metavar="FILE", help="Write every experiment as JSON; - is stdout, without the table.")
]
_Bound = Annotated[
    bool,
    typer.Option(
        "--bound",
        help="Tell what no policy can exceed at 100 % (a linear program a trace and seed; 'slicewise[bounds]').",
    ),
]
_Html = Annotated[
    str | None,
    typer.Option(
        metavar="FILE", help="Write curves over the demand and losses as one HTML file that needs no network."
    ),
]


def pack(
    *,
    nodes: Annotated[
        Path | None, typer.Option(exists=True, dir_okay=False, metavar="FILE", help="Nodes: CSV or CSV.gz.")
    ] = None,
    pods: Annotated[
        list[Path] | None,
        typer.Option(exists=True, dir_okay=False, metavar="FILE", help="Pods: CSV or CSV.gz; repeatable."),
    ] = None,
    recipe: Annotated[
        Recipe,
        typer.Option(
            help="fgd: arrivals only, cloned to 130 % of the GPUs; replay: the trace's own times, with a queue."
        ),
    ] = Recipe.FGD,
    mix: _Mix = None,
    gpus: _Gpus = 100,
    model: _Model = "a100-80",
    load: _Load = None,
    fixed: _Fixed = 0,
    scorers: _Scorers = None,
    seeds: _Seeds = None,
    json: _Json = None,
    bound: _Bound = False,
    html: _Html = None,
) -> None:
    """Fill a cluster by one policy after another, and compare what each one lost."""
    if mix is not None and (nodes is not None or pods):
        _refuse("--mix: makes its own demands; leave out --nodes and --pods, or --mix")
    for option, given in (("--bound", bound), ("--html", html is not None)):
        if given and (mix is not None or recipe is Recipe.REPLAY):
            _refuse(f"{option}: is for traces by --recipe fgd; leave it out, or --mix and --recipe replay")
    try:
        if mix is not None:
            fleet = _Fleet(mix, gpus, model, 1.0 if load is None else load, fixed)
            told = _mig(fleet, scorers or MIG_SCORERS, seeds or MIG_SEEDS)
        elif recipe is Recipe.FGD and load is not None:
            _refuse("--load: the fgd recipe has its own, 130 %; it is for --mix and --recipe replay")
        elif nodes is None or not pods:
            _refuse("want --nodes FILE and --pods FILE for a trace, or --mix for MIG demands on a fleet of GPUs")
        else:
            files = _Files(nodes, pods, recipe, load, bound, html is not None)
            told = _trace(files, scorers or TRACE_SCORERS, seeds or TRACE_SEEDS)
    except ValueError as e:
        _refuse(str(e))
    if html is not None and told.page is not None:
        _write("--html", html, told.page())
    _tell(told, json)


@dataclass(frozen=True, slots=True)
class _Fleet:
    """What is asked of the MIG lab, and of which fleet."""

    mix: str
    gpus: int
    model: str
    load: float
    fixed: int


def _tell(told: _Told, json: str | None) -> None:
    from rich.console import Console  # noqa: PLC0415  # --help must not wait for it

    if json == "-":
        typer.echo(told.json, nl=False)
        return
    if json is not None:
        _write("--json", json, told.json)
    told.table(Console(highlight=False))


def _write(option: str, path: str, text: str) -> None:
    try:
        Path(path).write_text(text, encoding="utf-8")
    except OSError as e:
        _refuse(f"{option}: {path}: cannot be written: {e.strerror}")


@dataclass(frozen=True, slots=True)
class _Files:
    """What is asked of the trace lab."""

    nodes: Path
    pods: Sequence[Path]
    recipe: Recipe
    load: float | None
    bounded: bool
    curved: bool


def _trace(files: _Files, scorers: str, seeds: str) -> _Told:
    from sim.packing.bound import NoSolverError, load_solver  # noqa: PLC0415  # --help must not wait for numpy
    from sim.packing.html import to_html  # noqa: PLC0415
    from sim.packing.jit import compiled_before  # noqa: PLC0415
    from sim.packing.lab import experiments, load, replays, warm_up  # noqa: PLC0415
    from sim.packing.report import replays_to_json, show, show_replays, to_json  # noqa: PLC0415
    from sim.packing.table import SCORERS  # noqa: PLC0415
    from sim.strict import ConfigError  # noqa: PLC0415

    names, numbers = scorers_of(scorers, list(SCORERS)), seeds_of(seeds)
    total = len(files.pods) * len(numbers) * len(names)
    if not compiled_before():
        typer.echo("compiling the policies, once on this machine (about 25 s) …", err=True)
    try:
        cases = load(files.nodes, files.pods)
        if files.recipe is Recipe.REPLAY:
            replayed = _watched(replays(cases, files.pods, names, numbers, files.load), total)
            return _Told(replays_to_json(replayed), partial(show_replays, replayed))
        if files.bounded:
            load_solver()
    except (ConfigError, NoSolverError) as e:
        _refuse(str(e))
    warm_up(cases, names, curved=files.curved)
    results = _watched(experiments(cases, names, numbers, bounded=files.bounded, curved=files.curved), total)
    return _Told(to_json(files.recipe.value, results), partial(show, results), partial(to_html, results))


def _mig(fleet: _Fleet, scorers: str, seeds: str) -> _Told:
    from sim.migpack.lab import CONTESTANTS, runs  # noqa: PLC0415  # --help must not wait for numpy
    from sim.migpack.mixes import MIXES, Workload  # noqa: PLC0415
    from sim.migpack.report import show, to_json  # noqa: PLC0415

    names, numbers = scorers_of(scorers, CONTESTANTS), seeds_of(seeds)
    works = [Workload.of(fleet.model, mix) for mix in mixes_of(fleet.mix, MIXES)]
    total = len(works) * len(numbers) * len(names)
    rows = _watched(runs(works, names, numbers, gpus=fleet.gpus, load=fleet.load, fixed=fleet.fixed), total)
    return _Told(to_json(rows), partial(show, rows))


def _watched(results: Iterator[Result], total: int) -> list[Result]:
    """All of them; a terminal shows how far they are."""
    from rich.console import Console  # noqa: PLC0415  # as above
    from rich.progress import track  # noqa: PLC0415

    talk = Console(stderr=True)
    return list(track(results, "packing", total, console=talk, disable=not talk.is_terminal))
