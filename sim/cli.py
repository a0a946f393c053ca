"""`slicewise sim …`: stdout is the report, stderr the talk. Exit codes: 0 ran, 1 a broken promise, 2 wrong usage."""

import sys
from pathlib import Path
from typing import Annotated, NoReturn

import typer

from sim.commands import register
from sim.packing.command import pack

app = typer.Typer(
    name="slicewise sim",
    help="Rehearse policies and placement offline, with the production code.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
app.command()(pack)
register(app)


def _refuse(message: str) -> NoReturn:
    typer.echo(message, err=True)
    raise typer.Exit(2)


@app.command()
def calibrate(
    measured: Annotated[
        Path,
        typer.Argument(
            metavar="LOG_OR_TABLE",
            exists=True,
            dir_okay=False,
            help="A request log (JSON lines: input_toks, output_toks, queued_ts, first_token_ts, last_token_ts) or a "
            "table of closed-loop measurements (CSV: isl, osl, concurrency, …ttft_ms, …tpot_ms); .gz as well.",
        ),
    ],
    *,
    gpu: Annotated[str, typer.Option(help="GPU model, such as h100-80; cpu for a host's processor.")],
    model: Annotated[
        str, typer.Option(help="Language model, such as llama-3.1-70b, or the folder with a model's config.json.")
    ],
    tp: Annotated[int, typer.Option(min=1, help="GPUs that one replica runs on (tensor parallelism).")] = 1,
    precision: Annotated[
        str | None,
        typer.Option(
            help="Of the weights: bf16, fp8 or fp4; default: as the table says, or as the model is published."
        ),
    ] = None,
    where: Annotated[
        list[str] | None,
        typer.Option(metavar="COLUMN=VALUE", help="Use only the rows of a table that have this value."),
    ] = None,
    max_num_seqs: Annotated[int, typer.Option(min=1, help="The engine's own option.")] = 1024,
    max_num_batched_tokens: Annotated[int, typer.Option(min=1, help="The engine's own option.")] = 8192,
    gpu_memory_utilization: Annotated[float, typer.Option(min=0.1, max=1.0, help="The engine's own option.")] = 0.9,
    kv_blocks: Annotated[
        int | None, typer.Option(min=1, help="Blocks of the KV cache as the engine logged them; default: what fits.")
    ] = None,
    check_only: Annotated[
        bool, typer.Option("--check-only", help="Fit nothing: say how far the catalog (or a roofline) is off.")
    ] = False,
    json: Annotated[
        str | None, typer.Option(metavar="PATH", help="Write the result as JSON there; - is standard output.")
    ] = None,
    write: Annotated[
        Path | None, typer.Option(metavar="TOML", help="Write the engine there, as an entry of sim/serving/catalog.")
    ] = None,
) -> None:
    """Fit an engine's iteration times to what a real one did, and say how well they predict it."""
    from sim.calibrate import Settings  # noqa: PLC0415  # as above
    from sim.calibrate import calibrate as fit  # noqa: PLC0415
    from sim.report.calibration import as_json, as_text  # noqa: PLC0415
    from sim.serving.entry import text  # noqa: PLC0415
    from sim.serving.find import asked_for, find  # noqa: PLC0415
    from sim.serving.known import UnknownError  # noqa: PLC0415
    from sim.serving.observed import precision_in, read  # noqa: PLC0415
    from sim.workloads.trace import TraceError  # noqa: PLC0415

    only = dict(pair.partition("=")[::2] for pair in where or ())
    try:
        known = asked_for(gpu, model, tp, precision)
        if precision is None and (told := precision_in(measured, only, known)):
            known = asked_for(gpu, model, tp, told)
        memory_mib = int(known.gpu["memory_mib"])
        settings = Settings(max_num_seqs, max_num_batched_tokens, memory_mib, gpu_memory_utilization, kv_blocks)
        result = fit(find(known), read(measured, only, known), settings, check_only=check_only)
    except (UnknownError, TraceError, ValueError) as e:
        _refuse(str(e))
    if write is not None:
        write.write_text(text(result.engine), encoding="utf-8")
    if json == "-":
        sys.stdout.write(as_json(result))
        return
    if json is not None:
        Path(json).write_text(as_json(result), encoding="utf-8")
    typer.echo(as_text(result))


@app.command()
def scenarios() -> None:
    """List the scenarios that come with Slicewise; any of them can be run by its name."""
    from sim.scenario import bundled, load  # noqa: PLC0415  # as above

    for name, path in bundled().items():
        typer.echo(f"{name:<14} {load(path).yaml.about}")
