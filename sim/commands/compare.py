"""`slicewise sim compare A B`. Exit codes: 0 no regression, 1 a regression, 2 wrong usage."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from sim.commands.usage import Jobs, Json, Ray, Seeds, Set, Trace, UsageError, find, refuse, refusing, seeds_of, write

if TYPE_CHECKING:
    from sim.changes import Changes

    Side = tuple[Path, Changes]


def compare(
    a: Annotated[str, typer.Argument(metavar="A", help="A scenario, or a bundled one's name: what you have.")],
    b: Annotated[
        str | None, typer.Argument(metavar="[B]", help="What you want instead. Without it: A with what --set changes.")
    ] = None,
    *,
    changes: Set = None,
    trace: Trace = None,
    seeds: Seeds = "0-9",
    jobs: Jobs = 1,
    ray: Ray = None,
    level: Annotated[float, typer.Option(min=0.5, max=0.999, help="Confidence of the intervals.")] = 0.95,
    judge: Annotated[
        str, typer.Option(metavar="A,B,…", help="Measures of which a change for the worse ends with exit code 1.")
    ] = "attainment,gpu_hours,sessions_broken",
    margin: Annotated[float, typer.Option(min=0, help="Let pass what is worse by so many per cent.")] = 0.0,
    json: Json = None,
) -> None:
    """Run two scenarios on the same loads, seed by seed, and say what the difference is and how sure that is."""
    from sim.comparison import LoadsDifferError, as_text  # noqa: PLC0415  # --help must not wait for numpy
    from sim.comparison import compare as compared  # noqa: PLC0415
    from sim.jobs import Job, reports  # noqa: PLC0415
    from sim.measures import MEASURES  # noqa: PLC0415

    judged = [name.strip() for name in judge.split(",") if name.strip()]
    if unknown := [name for name in judged if name not in MEASURES]:
        refuse(f"--judge: no such measure: {', '.join(unknown)}; there are {', '.join(MEASURES)}")
    with refusing():
        first, second, name = _sides(find(a), b, changes or [])
        both = [job for seed in seeds_of(seeds, 2) for job in (Job(*first, seed, trace), Job(*second, seed, trace))]
        found = list(reports(both, jobs, ray))
    try:
        result = compared(
            (first[0].name, name), list(zip(found[::2], found[1::2], strict=True)), level, judged, margin / 100
        )
    except LoadsDifferError as e:
        refuse(str(e))
    if json is not None:
        write(result.to_json(), json)
    if json != "-":
        typer.echo(as_text(result, {name: measure.about for name, measure in MEASURES.items()}))
    if result.regressions:
        raise typer.Exit(1)


def _sides(a: Path, b: str | None, sets: list[str]) -> tuple["Side", "Side", str]:
    """A and B, both checked, and what to call B."""
    from sim.changes import parse, short  # noqa: PLC0415  # as above
    from sim.scenario import load  # noqa: PLC0415

    changes, other = parse(sets), a if b is None else find(b)
    if b is None and not changes:
        raise UsageError("want a second scenario, or --set FIELD=VALUE for what B changes in A")
    load(a)
    load(other, changes)
    name = " ".join([other.name, *(f"{short(field)}={text}" for field, text in changes)])
    return (a, ()), (other, changes), name
