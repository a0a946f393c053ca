"""`slicewise sim mig …`: rows on stdout, the talk on stderr."""

import json as encoder
from collections.abc import Iterator
from dataclasses import asdict
from typing import Annotated, Final

import typer

_RANGE: Final = "want a number or a range such as 1-20"


def _listed(text: str) -> list[str]:
    return [part.strip() for part in text.split(",") if part.strip()]


def _seeds(text: str) -> list[int]:
    found: list[int] = []
    for part in _listed(text):
        first, _, last = part.partition("-")
        if not first.isdecimal() or not (last or first).isdecimal() or int(last or first) < int(first):
            raise typer.BadParameter(f"--seeds {part!r}: {_RANGE}")
        found.extend(range(int(first), int(last or first) + 1))
    return found


def mig(
    *,
    gpus: Annotated[int, typer.Option(min=1, help="GPUs of the fleet, one on a node. Without --fixed only.")] = 100,
    model: Annotated[str, typer.Option(help="GPU model of the catalog.")] = "a100-80",
    mix: Annotated[str, typer.Option(help="Mixes, by comma: uniform, skew-small, skew-big, bimodal; or all.")] = "all",
    load: Annotated[float, typer.Option(min=0.01, max=10, help="Memory slices asked for, as a part of all.")] = 1.0,
    scorers: Annotated[str, typer.Option(help="Scorers, by comma; the *-told ones know the true mix.")] = (
        "fgd-told,slice-value"
    ),
    seeds: Annotated[str, typer.Option(help="Seeds and ranges of seeds, by comma. Same seed, same demands.")] = "1-5",
    fixed: Annotated[
        int, typer.Option(min=0, help="So many pods that never leave, against the fewest GPUs; 0: with departures.")
    ] = 0,
    json: Annotated[bool, typer.Option("--json", help="Print the rows as JSON instead of the means.")] = False,
) -> None:
    """Pack MIG slices: Poisson arrivals, lost if nothing fits; or a fixed set of pods on as few GPUs as possible."""
    from sim.migpack.lab import CONTESTANTS, Row, fixed_set, with_departures  # noqa: PLC0415  # --help is fast
    from sim.migpack.mixes import MIXES, MixError, Workload  # noqa: PLC0415
    from sim.migpack.report import table  # noqa: PLC0415

    mixes = list(MIXES) if mix == "all" else _listed(mix)
    wanted = _listed(scorers)
    unknown = [f"--mix {m!r}: want {', '.join(MIXES)} or all" for m in mixes if m not in MIXES]
    unknown += [f"--scorers {s!r}: want some of {', '.join(CONTESTANTS)}" for s in wanted if s not in CONTESTANTS]
    if unknown:
        raise typer.BadParameter("; ".join(unknown))
    try:
        works = [Workload.of(model, m) for m in mixes]
    except MixError as e:
        raise typer.BadParameter(str(e)) from e

    def rows() -> Iterator[Row]:
        for work in works:
            for seed in _seeds(seeds):
                for scorer in wanted:
                    yield (
                        fixed_set(work, scorer, seed, fixed)
                        if fixed
                        else with_departures(work, scorer, seed, gpus, load)
                    )

    found = list(rows())
    typer.echo(encoder.dumps({"results": [asdict(r) for r in found]}, indent=1) if json else table(found))
