"""From the options to the exit code: stand everything up, show the run as a picture or as lines, sum it up."""

import asyncio
import bisect
import itertools
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from typing import Final

from rich.console import Console
from rich.live import Live

from slicewise.demo.pace import Clock
from slicewise.demo.plain import PlainView
from slicewise.demo.run import DAY_S, MAPPING, SPEED, Demo, Span, play, standing
from slicewise.demo.scene import Line
from slicewise.demo.servers import ServerError
from slicewise.demo.stage import KEPT_LINES
from slicewise.demo.summary import Summary, rendered
from slicewise.demo.view import picture
from slicewise.process.shutdown import stop_on_signals

#: Seed of the first day; later ones count on.
FIRST_SEED: Final = 7


@dataclass(frozen=True, slots=True)
class Options:
    """`wall_s`: length of the run, None: until somebody stops it. `plain`: lines instead of a picture."""

    wall_s: float | None
    plain: bool


async def demonstrate(options: Options, console: Console, wall: Clock) -> int:
    """0: all promises kept; 1: one was broken, or a server failed."""
    stop = stop_on_signals()
    console.print(f"Starting the scaler and the extender on loopback. {MAPPING}. Ctrl-C ends the run.", soft_wrap=True)
    endless = options.wall_s is None
    length_s = DAY_S if options.wall_s is None else options.wall_s * SPEED
    for day in itertools.count():
        span = Span(length_s, endless=endless, seed=FIRST_SEED + day)
        code = await _run(span, console, wall, stop, plain=options.plain)
        if code or stop.is_set() or not endless:
            return code
    raise AssertionError("days do not end")


async def _run(span: Span, console: Console, wall: Clock, stop: asyncio.Event, *, plain: bool) -> int:
    lines = PlainView(lambda text: console.print(text, markup=False, highlight=False, soft_wrap=True))
    told: deque[Line] = deque(maxlen=KEPT_LINES)

    def tell(line: Line) -> None:
        """The loops tell what they did when they are through, so a line may come after one that is a little younger."""
        at_s = max(line.at_s, told[-1].at_s) if told else line.at_s
        told.append(replace(line, at_s=at_s))
        if plain:
            lines.tell(told[-1])

    try:
        async with standing(wall, span, tell) as demo:
            demo.stage.lines = told
            began_s = wall()
            faults = await _played(demo, stop, console, lines, plain=plain)
            summary = summed_up(demo, faults, wall() - began_s)
    except ServerError as e:
        console.print(str(e), style="red", markup=False, highlight=False, soft_wrap=True)
        return 1
    console.print(rendered(summary))
    return 0 if summary.kept else 1


async def _played(demo: Demo, stop: asyncio.Event, console: Console, lines: PlainView, *, plain: bool) -> list[str]:
    """What the run shows, and the faults of the servers that ended it."""
    live = Live(console=console, screen=True, auto_refresh=False, transient=True)
    frame: AbstractContextManager[object] = nullcontext() if plain else live

    def show() -> None:
        scene = demo.stage.scene()
        if plain:
            lines.show(scene)
        else:
            live.update(picture(scene, console.width, console.height), refresh=True)

    faults: list[str] = []
    with frame:
        try:
            await play(demo, stop, show)
        except* ServerError as failed:
            faults = [str(e) for e in failed.exceptions]
    if not plain:
        console.print(
            picture(demo.stage.scene(), console.width, min(console.height, 40)), height=min(console.height, 40)
        )
    return faults


def summed_up(demo: Demo, faults: list[str], wall_s: float) -> Summary:
    return Summary(
        cluster_s=demo.world.now_s,
        wall_s=wall_s,
        facts=list(facts(demo)),
        breaches=demo.breaches,
        states=demo.auditor.states,
        server_faults=faults,
    )


def facts(demo: Demo) -> Iterator[tuple[str, str]]:
    stage, serving, scaled, calls = demo.stage, demo.world.serving, demo.autoscaler, demo.scheduler.calls
    yield "sessions", f"{serving.peak_sessions} at the peak, {serving.sessions()} now"
    ready = started(stage.ready)
    yield "replicas", f"{min(ready)} to {max(ready)} ready; scaled up {scaled.ups} times, down {scaled.downs} times"
    yield "latency", latency(sorted(serving.latencies_s().tolist()), stage.p95_target_s)
    mean = sum(stage.allocated) / max(1, len(stage.allocated))
    yield "GPU slices", f"{max(stage.slices, default=0)} at the peak; {mean:.0%} of GPU memory allocated on average"
    asked = f"{scaled.calls} GetMetrics calls, {scaled.errors} errors"
    yield "scaler", f"{demo.told.decisions} decisions from {demo.source.queries:,} queries; {asked}"
    verbs = ", ".join(f"{calls[verb]} {verb}" for verb in ("filter", "prioritize", "bind", "preempt"))
    yield "extender", f"called for {verbs}"
    yield "pods", f"{demo.scheduler.bound} bound, {demo.scheduler.evicted} evicted to make room for more important ones"


def started(ready: Sequence[float | None]) -> list[int]:
    """Counts from the first on that is not 0: before that the first pods are on their cold start."""
    counts = [int(count or 0) for count in ready]
    first = next((i for i, count in enumerate(counts) if count), len(counts))
    return counts[first:] or [0]


def latency(turns_s: list[float], target_s: float) -> str:
    """P95 and SLO attainment of all turns, sorted."""
    if not turns_s:
        return "no turn has ended"
    in_time = bisect.bisect_right(turns_s, target_s) / len(turns_s)
    p95_s = turns_s[int(len(turns_s) * 0.95)]
    return f"P95 {p95_s:.1f} s; {in_time:.1%} of {len(turns_s):,} turns within {target_s:g} s"
