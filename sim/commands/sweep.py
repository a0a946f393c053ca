"""`slicewise sim sweep SCENARIO --vary FIELD=A,B,C`."""

from enum import StrEnum
from typing import Annotated

import typer

from sim.commands.usage import Jobs, Json, Ray, Scenario, Seeds, Trace, find, refuse, refusing, seeds_of, write


class How(StrEnum):
    GRID = "grid"
    RANDOM = "random"
    HALVING = "halving"


def sweep(
    scenario: Scenario,
    *,
    vary: Annotated[
        list[str],
        typer.Option(
            metavar="FIELD=A,B,C", help="Values, or a range LOW..HIGH for random and halving. Fields as for --set."
        ),
    ],
    method: Annotated[
        How, typer.Option(help="All combinations; random points; or all on few seeds and the best third on more.")
    ] = How.GRID,
    samples: Annotated[int, typer.Option(min=1, help="How many points, where they are drawn.")] = 32,
    target: Annotated[float, typer.Option(min=0, max=1, help="Share of requests in the SLO that is wanted.")] = 0.99,
    trace: Trace = None,
    seeds: Seeds = "0-2",
    jobs: Jobs = 1,
    ray: Ray = None,
    rows: Annotated[int, typer.Option(min=1, help="How many variants the table shows.")] = 20,
    json: Json = None,
) -> None:
    """Run many variants of a scenario, and show which of them nobody beats in both SLO and cost."""
    path = find(scenario)
    from sim.scenario import load  # noqa: PLC0415  # --help must not wait for numpy
    from sim.search import Lab, SpaceError, as_text, axis, points  # noqa: PLC0415

    with refusing():
        load(path)
        try:
            wanted = points([axis(text) for text in vary], method.value, samples, 0)
        except SpaceError as e:
            refuse(str(e))
        lab = Lab(path, trace, seeds_of(seeds), jobs, ray, lambda text: typer.echo(text, err=True))
        found = lab.sweep(wanted, method.value, target)
    if json is not None:
        write(found.to_json(), json)
    if json != "-":
        typer.echo(as_text(found, rows))
    if not found.variants:
        refuse("no variant is a scenario that can be run")
