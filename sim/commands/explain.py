"""`slicewise sim explain SCENARIO --at T`."""

from typing import Annotated

import typer

from sim.commands.usage import Json, Scenario, Set, Trace, find, refuse, refusing, say_if_compiling, write


def explain(
    scenario: Scenario,
    *,
    at: Annotated[str, typer.Option(metavar="19m30s", help="The simulated instant.")],
    trace: Trace = None,
    seed: Annotated[int, typer.Option(min=0, help="As in the run that is to be explained.")] = 0,
    changes: Set = None,
    json: Json = None,
) -> None:
    """Tell why there were so many replicas at one instant: readings, steps, KEDA, HPA, pods."""
    path = find(scenario)
    from sim.changes import parse  # noqa: PLC0415  # --help must not wait for numpy
    from sim.run import EngineKind, load  # noqa: PLC0415
    from sim.story import TooLateError, as_text, tell  # noqa: PLC0415
    from sim.units import seconds  # noqa: PLC0415

    try:
        at_s = seconds(at)
    except ValueError as e:
        refuse(f"--at: {e} (got {at!r})")
    with refusing():
        loaded = load(path, parse(changes or ()))
        say_if_compiling()
        try:
            story = tell(loaded, seed, trace, at_s, EngineKind.COMPILED)
        except TooLateError as e:
            refuse(str(e))
    if json is not None:
        write(story.to_json(), json)
    if json != "-":
        typer.echo(as_text(story))
