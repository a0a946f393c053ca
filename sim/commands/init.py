"""`slicewise sim init PRESET --gpu GPU`."""

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from sim.commands.usage import refuse


class Preset(StrEnum):
    CHAT = "chat"
    CODE = "code"
    AGENT = "agent"


class GpuKind(StrEnum):
    A100 = "a100"
    H100 = "h100"
    L40S = "l40s"


def init(
    preset: Annotated[Preset, typer.Argument(help="What is served.")],
    *,
    gpu: Annotated[
        GpuKind, typer.Option(help="On which GPU: halves of A100s, whole H100s, whole L40S.")
    ] = GpuKind.A100,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", metavar="FILE", help="Write it there, where there is none yet.")
    ] = None,
) -> None:
    """Write a scenario that runs, to begin with."""
    from sim.presets import scenario  # noqa: PLC0415  # --help must not wait

    text = scenario(preset.value, gpu.value)
    if output is None:
        typer.echo(text, nl=False)
        return
    try:
        with output.open("x", encoding="utf-8") as file:
            file.write(text)
    except OSError as e:
        refuse(f"--output: {output}: cannot be written: {e.strerror}")
    typer.echo(f"slicewise sim run {output}", err=True)
