"""`slicewise sim calibrate`: how fast an engine is, from what it did."""

import sys
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Literal

import typer

Measured = Annotated[
    Path,
    typer.Argument(
        metavar="LOG_OR_TABLE",
        exists=True,
        dir_okay=False,
        help="A request log (JSON lines: input_toks, output_toks and, in seconds, queued_ts, first_token_ts, "
        "last_token_ts) or a table of closed-loop measurements (CSV: isl, osl, concurrency, …ttft_ms, …tpot_ms, or _s, "
        "_us); .gz as well.",
    ),
]
Model = Annotated[
    str, typer.Option(help="Language model, such as llama-3.1-70b, or the folder with a model's config.json.")
]
Precision = Annotated[
    str | None,
    typer.Option(help="Of the weights: bf16, fp8 or fp4; default: as the table says, or as the model is published."),
]
Where = Annotated[
    list[str] | None,
    typer.Option(metavar="COLUMN=VALUE", help="Use only the rows of a table that have this value."),
]
KvBlocks = Annotated[
    int | None, typer.Option(min=1, help="Blocks of the KV cache as the engine logged them; default: what fits.")
]
CheckOnly = Annotated[
    bool, typer.Option("--check-only", help="Fit nothing: say how far the catalog (or a roofline) is off.")
]
Lengths = Annotated[
    Literal["spread", "equal"] | None,
    typer.Option(
        help="What a table's tool sent: lengths around isl and osl, or those alone; default: what fits better."
    ),
]
HeldOut = Annotated[
    bool,
    typer.Option(
        "--held-out",
        help="Fit again without each number of clients in turn (of a log, each fifth), and tell the errors of those.",
    ),
]
MaxNumSeqs = Annotated[int | None, typer.Option(min=1, help="The engine's own option; default: vLLM's for that GPU.")]
BlockSize = Annotated[
    int | None, typer.Option(min=1, help="The engine's own option, in tokens; default: vLLM's, 16, or 128 of cpu.")
]
Json = Annotated[str | None, typer.Option(metavar="PATH", help="Write the result as JSON there; - is standard output.")]
Write = Annotated[
    Path | None, typer.Option(metavar="TOML", help="Write the engine there, as an entry of sim/serving/catalog.")
]


def calibrate(
    measured: Measured,
    *,
    gpu: Annotated[str, typer.Option(help="GPU model, such as h100-80; cpu for a host's processor.")],
    model: Model,
    tp: Annotated[int, typer.Option(min=1, help="GPUs that one replica runs on (tensor parallelism).")] = 1,
    precision: Precision = None,
    where: Where = None,
    max_num_seqs: MaxNumSeqs = None,
    max_num_batched_tokens: MaxNumSeqs = None,
    gpu_memory_utilization: Annotated[float, typer.Option(min=0.1, max=1.0, help="The engine's own option.")] = 0.9,
    block_size: BlockSize = None,
    kv_blocks: KvBlocks = None,
    lengths: Lengths = None,
    check_only: CheckOnly = False,
    held_out: HeldOut = False,
    json: Json = None,
    write: Write = None,
) -> None:
    """Fit an engine's iteration times to what a real one did, and say how well they predict it."""
    from sim.calibrate import calibrate as fit  # noqa: PLC0415  # --help must not wait for numpy
    from sim.calibrate import held_out as unseen  # noqa: PLC0415
    from sim.fit import Settings  # noqa: PLC0415
    from sim.report.calibration import as_json, as_text  # noqa: PLC0415
    from sim.serving.defaults import defaults  # noqa: PLC0415
    from sim.serving.entry import text  # noqa: PLC0415
    from sim.serving.find import asked_for, find  # noqa: PLC0415
    from sim.serving.measured import precision_in, read  # noqa: PLC0415

    only = dict(pair.partition("=")[::2] for pair in where or ())
    try:
        known = asked_for(gpu, model, tp, precision)
        if precision is None and (told := precision_in(measured, only, known)):
            known = asked_for(gpu, model, tp, told)
        started = defaults(known)
        settings = Settings(
            max_num_seqs or min(started.max_num_seqs, max_num_batched_tokens or started.max_num_batched_tokens),
            max_num_batched_tokens or started.max_num_batched_tokens,
            int(known.gpu["memory_mib"]),
            gpu_memory_utilization,
            kv_blocks,
            lengths,
            block_size or started.block_size,
        )
        engine, observed = find(known), read(measured, only, known)
        result = fit(engine, observed, settings, check_only=check_only)
        if held_out:
            result = replace(result, held_out=unseen(engine, observed, replace(settings, lengths=result.lengths)))
    except ValueError as e:  # what is unknown, cannot be read or has no room says so itself
        typer.echo(str(e), err=True)
        raise typer.Exit(2) from e
    if write is not None:
        write.write_text(text(result.engine), encoding="utf-8")
    if json == "-":
        sys.stdout.write(as_json(result))
        return
    if json is not None:
        Path(json).write_text(as_json(result), encoding="utf-8")
    typer.echo(as_text(result))
