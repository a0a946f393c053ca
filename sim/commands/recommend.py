"""`slicewise sim recommend SCENARIO`. Exit codes: 0 found, 1 nothing that was tried keeps the target, 2 wrong usage."""

from typing import Annotated

import typer

from sim.commands.sweep import How
from sim.commands.usage import Jobs, Json, Ray, Scenario, Seeds, Trace, find, refuse, refusing, seeds_of, write


def recommend(
    scenario: Scenario,
    *,
    target: Annotated[float, typer.Option(min=0, max=1, help="Share of requests in the SLO that is wanted.")] = 0.99,
    vary: Annotated[
        list[str] | None,
        typer.Option(
            metavar="FIELD=A,B,C",
            help="What to try. Without it: half to twice each target of the trigger, and stabilizationDown.",
        ),
    ] = None,
    trace: Trace = None,
    seeds: Seeds = "0-2",
    jobs: Jobs = 1,
    ray: Ray = None,
    output: Annotated[
        str, typer.Option("--output", "-o", metavar="FILE", help="The YAML; - is standard output.")
    ] = "-",
    json: Json = None,
) -> None:
    """Find the ScaledObject that keeps the SLO for the fewest GPU hours; out comes its YAML, the table on stderr."""
    path = find(scenario)
    from sim.recommendation import axes, manifest  # noqa: PLC0415  # --help must not wait for numpy
    from sim.scenario import load  # noqa: PLC0415
    from sim.search import Lab, SpaceError, as_text, axis, points  # noqa: PLC0415

    if json == "-" and output == "-":
        refuse("--json - and the YAML on standard output: give one of them a file")
    with refusing():
        _ = load(path).yaml.keda
        try:
            wanted = points([axis(v) for v in vary] if vary else axes(path), How.HALVING.value, 64, 0)
        except SpaceError as e:
            refuse(str(e))
        numbers = seeds_of(seeds)
        lab = Lab(path, trace, numbers, jobs, ray, lambda text: typer.echo(text, err=True))
        found = lab.sweep([(), *wanted], How.HALVING.value, target)
    best = found.best
    if best is None:
        refuse("no variant is a scenario that can be run")
    typer.echo(as_text(found, 12), err=True)
    if json is not None:
        write(found.to_json(), json)
    write(manifest(path, found, best, numbers), output)
    if best.score(target)[0] > 0:
        typer.echo(f"nothing that was tried keeps {target:g}; this is what comes nearest", err=True)
        raise typer.Exit(1)
