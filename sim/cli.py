"""`slicewise sim …`: stdout is the report, stderr the talk. Exit codes: 0 ran, 1 a broken promise, 2 wrong usage."""

import sys
from enum import StrEnum
from pathlib import Path
from typing import Annotated, NoReturn

import typer

from sim.evaluation.command import evaluate
from sim.migpack.command import mig
from sim.packing.command import pack

app = typer.Typer(
    name="slicewise sim",
    help="Rehearse policies and placement offline, with the production code.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
app.command()(pack)
app.command()(mig)
app.command()(evaluate)


class Engine(StrEnum):
    """Both give the same report; `reference` is plain Python, slow, and there to be compared with."""

    COMPILED = "compiled"
    REFERENCE = "reference"


def _refuse(message: str) -> NoReturn:
    typer.echo(message, err=True)
    raise typer.Exit(2)


def _find(scenario: str) -> Path:
    """A path, or the name of a bundled scenario."""
    from sim.scenario import bundled  # noqa: PLC0415  # --help must not wait for numpy

    path = Path(scenario)
    if path.is_file():
        return path
    known = bundled()
    if scenario in known:
        return known[scenario]
    _refuse(f"no such scenario: {scenario}; give a YAML file, or one of the bundled: {', '.join(known)}")


@app.command()
def run(
    scenario: Annotated[
        str, typer.Argument(metavar="SCENARIO", help="A scenario file (YAML), or the name of a bundled scenario.")
    ],
    *,
    trace: Annotated[
        Path | None,
        typer.Option(exists=True, dir_okay=False, help="Recorded load (CSV or CSV.gz), for scenarios that replay one."),
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="Same seed, same report, byte for byte.")] = 0,
    json: Annotated[
        bool, typer.Option("--json", help="Print the whole report as JSON instead of the summary.")
    ] = False,
    changes: Annotated[int, typer.Option(min=0, help="How many scale events the summary lists.")] = 12,
    engine: Annotated[Engine, typer.Option(help="Which of the two engines serves; their reports are equal.")] = (
        Engine.COMPILED
    ),
) -> None:
    """Run a scenario: load, scaler, KEDA, HPA, scheduler, nodes and engines on one clock."""
    path = _find(scenario)
    from rich.console import Console  # noqa: PLC0415  # as above

    from sim.cluster.placed import EngineFitError  # noqa: PLC0415
    from sim.report.terminal import show  # noqa: PLC0415
    from sim.run import EngineKind, load, simulate  # noqa: PLC0415
    from sim.serving.jit import compiled_before  # noqa: PLC0415
    from sim.strict import ConfigError  # noqa: PLC0415
    from sim.workloads.trace import TraceError  # noqa: PLC0415

    if engine is Engine.COMPILED and not compiled_before():
        typer.echo("compiling the engine, once on this machine (about 20 s) …", err=True)
    try:
        report = simulate(load(path), seed=seed, trace=trace, engine=EngineKind(engine.value))
    except (ConfigError, TraceError, EngineFitError) as e:
        _refuse(str(e))
    if json:
        sys.stdout.write(report.to_json())
    else:
        show(report, Console(highlight=False), changes)
    if not report.kept_its_promises:
        broken = ", ".join(p.name for p in report.promises if not p.kept)
        typer.echo(f"broken promises: {broken}", err=True)
        raise typer.Exit(1)


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
    gpu: Annotated[str, typer.Option(help="GPU model, such as h100-80.")],
    model: Annotated[str, typer.Option(help="Language model, such as llama-3.1-70b.")],
    tp: Annotated[int, typer.Option(min=1, help="GPUs that one replica runs on (tensor parallelism).")] = 1,
    precision: Annotated[str, typer.Option(help="Of the weights: bf16, fp8 or fp4.")] = "bf16",
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
) -> None:
    """Fit an engine's iteration times to what a real one did, and say how well they predict it."""
    from sim.calibrate import Settings  # noqa: PLC0415  # as above
    from sim.calibrate import calibrate as fit  # noqa: PLC0415
    from sim.report.calibration import as_json, as_text  # noqa: PLC0415
    from sim.serving.observed import read  # noqa: PLC0415
    from sim.serving.roofline import UnknownError, find, specs  # noqa: PLC0415
    from sim.workloads.trace import TraceError  # noqa: PLC0415

    only = dict(pair.partition("=")[::2] for pair in where or ())
    try:
        engine = find(gpu, model, tp, precision)
        memory_mib = int(specs("gpus")[gpu]["memory_mib"])
        settings = Settings(max_num_seqs, max_num_batched_tokens, memory_mib, gpu_memory_utilization, kv_blocks)
        result = fit(engine, read(measured, only), settings, check_only=check_only)
    except (UnknownError, TraceError, ValueError) as e:
        _refuse(str(e))
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
