"""`slicewise sim replay RECORDING --scaled-object FILE`. Exit codes: 0 the same, 1 differences, 2 wrong usage."""

from pathlib import Path
from typing import Annotated

import typer

from sim.commands.usage import Json, refuse, refusing, write


def replay(
    recording: Annotated[
        Path,
        typer.Argument(
            exists=True, dir_okay=False, help="The log of `slicewise scaler serve` as JSON lines; .gz as well."
        ),
    ],
    *,
    scaled_object: Annotated[
        Path, typer.Option(exists=True, dir_okay=False, metavar="FILE", help="The manifest, as it is today.")
    ],
    sync_period: Annotated[str, typer.Option(help="--horizontal-pod-autoscaler-sync-period of that cluster.")] = "15s",
    tick: Annotated[str, typer.Option(help="How often that scaler evaluated.")] = "15s",
    delay: Annotated[str, typer.Option(help="How long after its instant a decision was there.")] = "1s",
    differences: Annotated[int, typer.Option(min=0, help="How many differences are told in full.")] = 5,
    json: Json = None,
) -> None:
    """Put a live run through today's policy and placement, and the stand-ins for KEDA and the HPA: is it the same?"""
    from sim.controllers import Pace  # noqa: PLC0415
    from sim.recording import read  # noqa: PLC0415  # --help must not wait for numpy
    from sim.replay import NotRecordedError, as_text  # noqa: PLC0415
    from sim.replay import replay as replayed  # noqa: PLC0415
    from sim.scenario import manifest  # noqa: PLC0415
    from sim.units import seconds  # noqa: PLC0415

    try:
        pace = Pace(sync_period_s=seconds(sync_period), tick_s=seconds(tick), delay_s=seconds(delay))
    except ValueError as e:
        refuse(f"--sync-period, --tick, --delay: {e}")
    with refusing():
        object_, triggers = manifest(scaled_object)
        try:
            found = replayed(read(recording), object_, triggers, pace)
        except NotRecordedError as e:
            refuse(str(e))
    if json is not None:
        write(found.to_json(), json)
    if json != "-":
        typer.echo(as_text(found, differences))
    if not found.same:
        raise typer.Exit(1)
