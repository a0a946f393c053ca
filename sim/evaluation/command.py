"""`slicewise sim evaluate`: stdout is the report, stderr the talk. Exit codes: 0 ran, 2 wrong usage."""

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NoReturn

import typer

if TYPE_CHECKING:
    from sim.evaluation.evaluate import Done, Row


def _refuse(message: str) -> NoReturn:
    typer.echo(message, err=True)
    raise typer.Exit(2)


def numbers_of(option: str, text: str, most: float) -> list[float]:
    """`8,40,200`: numbers above 0, in the order given, each once. Raises `ValueError` with the rule."""
    values: list[float] = []
    for part in text.split(","):
        try:
            value = float(part)
        except ValueError:
            value = -1.0
        if not 0.0 < value <= most:
            raise ValueError(f"{option}: numbers above 0 and up to {most:g}, with commas between (got {part!r})")
        values.append(value)
    return list(dict.fromkeys(values))


def policies_of(text: str, known: Sequence[str]) -> list[str]:
    """Names with commas between; `all` is every one. Raises `ValueError` with the rule."""
    if text == "all":
        return list(known)
    names = list(dict.fromkeys(name.strip() for name in text.split(",")))
    if strange := [name for name in names if name not in known]:
        raise ValueError(f"--policies: no such policy: {', '.join(strange)}; there are {', '.join(known)}")
    return names


def peaks_of(text: str) -> list[int]:
    peaks = numbers_of("--peaks", text, 2000)
    if any(peak != int(peak) for peak in peaks):
        raise ValueError(f"--peaks: whole numbers of replicas (got {text!r})")
    return [int(peak) for peak in peaks]


def evaluate(
    load: Annotated[
        Path,
        typer.Option(
            exists=True,
            file_okay=False,
            metavar="DIR",
            help="Folder of loads: ServeGen, Azure, Mooncake; plain or .gz.",
        ),
    ],
    *,
    policies: Annotated[
        str,
        typer.Option(
            metavar="A,B,…", help="`slicewise`, baselines, and baselines tuned in hindsight (NAME-tuned); or `all`."
        ),
    ] = "slicewise,static-tuned,hpa-queue-tuned,hpa-concurrency-tuned,dynamo-kalman-tuned,kubeai-tuned,rate-hold-tuned",
    peaks: Annotated[
        str, typer.Option(metavar="N,…", help="Replicas that the busiest 600 s keep 85 % busy.")
    ] = "8,40,200",
    cold_starts: Annotated[
        str, typer.Option(metavar="S,…", help="Median seconds from decision to ready.")
    ] = "60,180,600",
    seeds: Annotated[
        int, typer.Option(min=1, max=100, help="Draws of arrivals and cold starts: 1 to this number.")
    ] = 3,
    jobs: Annotated[
        int, typer.Option(min=0, help="Processes; 0: one for each core. The report does not depend on it.")
    ] = 0,
    json: Annotated[
        str | None, typer.Option(metavar="FILE", help="Write every row as JSON; - is stdout, without the table.")
    ] = None,
) -> None:
    """Compare scaling policies on recorded loads with each other and with the best that was possible."""
    from sim.evaluation.evaluate import names, plan, rows  # noqa: PLC0415  # --help must not wait for numpy
    from sim.fluid.jit import compiled_before  # noqa: PLC0415
    from sim.workloads.trace import TraceError  # noqa: PLC0415

    if not compiled_before():
        typer.echo("compiling the model, once on this machine (about 60 s) …", err=True)
    found: list[Row] = []
    try:
        wanted = policies_of(policies, names())
        whole = plan(load, wanted, peaks_of(peaks), numbers_of("--cold-starts", cold_starts, 3600), seeds)
        with _progress() as told:
            found += rows(whole, jobs or os.cpu_count() or 1, told)
    except (TraceError, ValueError) as e:
        _refuse(str(e))
    _report(found, json)


@contextmanager
def _progress() -> "Iterator[Callable[[Done], None]]":
    """On a terminal a bar with the time that is left; elsewhere a line for each scenario."""
    from rich.console import Console  # noqa: PLC0415  # as above
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn  # noqa: PLC0415

    talk = Console(stderr=True, highlight=False)
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
    )
    bar = Progress(*columns, console=talk, transient=True, speed_estimate_period=1e9, disable=not talk.is_terminal)
    shown = bar.add_task("scenarios", total=None)
    finished = 0

    def told(done: "Done") -> None:
        nonlocal finished
        text = f"{done.scenarios} of {done.of_scenarios} scenarios"
        bar.update(shown, description=text, completed=done.effort_s, total=done.whole_s)
        if not talk.is_terminal and done.scenarios > finished:
            talk.print(text)
        finished = done.scenarios

    with bar:
        yield told


def _report(found: "Sequence[Row]", json: str | None) -> None:
    from rich.console import Console  # noqa: PLC0415  # as above

    from sim.evaluation.report import show, to_json  # noqa: PLC0415

    if json is None:
        show(found, Console(highlight=False, soft_wrap=True))
        return
    if json == "-":
        typer.echo(to_json(found), nl=False)
        return
    try:
        Path(json).write_text(to_json(found), encoding="utf-8")
    except OSError as e:
        _refuse(f"--json: {json}: cannot be written: {e.strerror}")
    show(found, Console(highlight=False, soft_wrap=True))
