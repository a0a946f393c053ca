"""`slicewise sim trace stats|convert|generate`: loads by themselves, without a cluster."""

import sys
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from sim.commands.usage import Json, UsageError, refuse, refusing, write

if TYPE_CHECKING:
    from sim.serving.turns import Turns

trace = typer.Typer(name="trace", help="Look at loads, convert them, and make some.", no_args_is_help=True)

Kind = Annotated[str, typer.Option("--kind", help="What the file is, as a scenario's workload.kind says; auto looks.")]
Options = Annotated[
    list[str] | None,
    typer.Option(
        "--set", metavar="FIELD=VALUE", help="A field of the workload, as in a scenario: speed=2. Repeatable."
    ),
]
Duration = Annotated[str, typer.Option(metavar="1h", help="As much of it, from its begin.")]
Source = Annotated[Path, typer.Argument(exists=True, dir_okay=False, help="The trace; .gz as well.")]


class Form(StrEnum):
    JSONL = "jsonl"
    CSV = "csv"


@trace.command()
def stats(
    source: Source, *, kind: Kind = "auto", options: Options = None, duration: Duration = "30d", json: Json = None
) -> None:
    """Rates, burstiness, lengths, sessions and prefix reuse of a recorded load."""
    from sim.statistics import as_text, of  # noqa: PLC0415  # --help must not wait for numpy
    from sim.workloads import mooncake  # noqa: PLC0415
    from sim.workloads.recognise import kind_of  # noqa: PLC0415

    with refusing():
        found = kind_of(source) if kind == "auto" else kind
        turns = _turns(found, source, options, duration, 0)
        statistics = of(turns, mooncake.block_reuse(source) if found == "mooncake" else None)
    if json is not None:
        write(statistics.to_json(), json)
    if json != "-":
        typer.echo(f"{source.name}: {found}\n{as_text(statistics)}")


@trace.command()
def convert(
    source: Source,
    *,
    kind: Kind = "auto",
    options: Options = None,
    duration: Duration = "30d",
    form: Annotated[Form, typer.Option("--to", help="Our own form, as JSON lines or as CSV.")] = Form.JSONL,
    seed: Annotated[int, typer.Option(min=0, help="For kinds that know rates alone.")] = 0,
    output: Annotated[str, typer.Option("--output", "-o", metavar="FILE", help="- is standard output.")] = "-",
) -> None:
    """Any recorded load in our own form: one turn a line, which a scenario reads with workload.kind: turns."""
    from sim.workloads.recognise import kind_of  # noqa: PLC0415  # as above

    with refusing():
        turns = _turns(kind_of(source) if kind == "auto" else kind, source, options, duration, seed)
    _write(turns, form, output)


@trace.command()
def generate(
    kind: Annotated[str, typer.Argument(help="A workload that needs no trace, such as agents, bursts, diurnal.")],
    *,
    options: Options = None,
    duration: Duration = "1h",
    form: Annotated[Form, typer.Option("--to", help="Our own form, as JSON lines or as CSV.")] = Form.JSONL,
    seed: Annotated[int, typer.Option(min=0, help="Same seed, same load, byte for byte.")] = 0,
    output: Annotated[str, typer.Option("--output", "-o", metavar="FILE", help="- is standard output.")] = "-",
) -> None:
    """Make a load from a generator. --set takes YAML: --set 'sessions=[{at: 0m, perMinute: 4}]'."""
    with refusing():
        turns = _turns(kind, None, options, duration, seed)
    _write(turns, form, output)


def _turns(kind: str, source: Path | None, options: list[str] | None, duration: str, seed: int) -> "Turns":
    """Raises `UsageError`, `ConfigError`, `TraceError`."""
    import yaml  # noqa: PLC0415  # as above

    from sim.strict import check, parse  # noqa: PLC0415
    from sim.units import seconds  # noqa: PLC0415
    from sim.workloads import WORKLOADS  # noqa: PLC0415

    fitting = [name for name, w in WORKLOADS.items() if w.needs_trace == (source is not None)]
    if kind not in fitting:
        raise UsageError(f"no such kind here: {kind}; want one of {', '.join(fitting)}")
    fields: dict[str, Any] = {"kind": kind}
    for pair in options or ():
        field, equals, text = pair.partition("=")
        if not equals:
            raise UsageError(f"--set: want FIELD=VALUE (got {pair!r})")
        fields[field] = yaml.safe_load(text)
    config = check(WORKLOADS[kind].config, parse(yaml.safe_dump(fields, sort_keys=False), "--set")[0])
    try:
        duration_s = seconds(duration)
    except ValueError as e:
        raise UsageError(f"--duration: {e} (got {duration!r})") from e
    return WORKLOADS[kind].turns(config, seed, duration_s, source)


def _write(turns: "Turns", form: Form, output: str) -> None:
    from sim.workloads.turns import write as write_turns  # noqa: PLC0415  # as above

    if output == "-":
        write_turns(turns, sys.stdout, form.value)
        return
    try:
        with Path(output).open("w", encoding="utf-8", newline="") as file:
            write_turns(turns, file, form.value)
    except OSError as e:
        refuse(f"--output: {output}: cannot be written: {e.strerror}")
