"""`slicewise extender serve`: the composition root. The only place that makes clients, reads clocks, starts servers."""

import asyncio
import contextlib
import gc
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Final

import structlog
import typer
import uvloop
from pydantic import ValidationError
from rich.console import Console

from extender import advise as advice
from extender import binding
from extender.http import Service
from extender.kube import Clock, Watches
from extender.ledger import Ledger, ObjectError
from extender.obs import Obs, State
from extender.placement.advice import MOST_EVICTIONS, MOST_TRIES, Rules
from extender.serving import ListenError, listen, serving
from extender.settings import PREFIX, Settings
from extender.survey import Objects, survey
from extender.warm import warm_up
from slicewise.process.kube import Kube, KubeError
from slicewise.process.logs import configure
from slicewise.process.shutdown import repeat, stop_on_signals
from slicewise.process.tls import ReloadingContext

WALL: Final = time.time
EXPIRE_EVERY_S: Final = 5.0
TLS_EVERY_S: Final = 10.0

log: structlog.typing.FilteringBoundLogger = structlog.get_logger()

app = typer.Typer(
    add_completion=False,
    pretty_exceptions_enable=False,
    no_args_is_help=True,
    help="The kube-scheduler extender: which GPU slice each pod gets.",
)


@app.callback()
def _root() -> None: ...


@dataclass(frozen=True, slots=True)
class Urls:
    """Where a running extender listens."""

    verbs: str
    metrics: str


@contextlib.asynccontextmanager
async def running(
    settings: Settings, stop: asyncio.Event, *, wall: Clock = WALL, when_synced: Callable[[], None] = lambda: None
) -> AsyncIterator[Urls]:
    """An extender while the block runs. It is reachable at once, and ready when its watches are synced.

    Raises KubeError without usable credentials, ListenError for a taken address, OSError for broken certificates.
    """
    context = None if settings.certificates is None else ReloadingContext(settings.certificates)
    ledger = _ledger(settings)
    watches = Watches(ledger, wall)
    obs = Obs()
    obs.registry.register(State(ledger, watches.progress, wall, time.monotonic))
    async with contextlib.AsyncExitStack() as stack:
        kube = await stack.enter_async_context(Kube.connect(settings.kubeconfig, timeout_s=settings.api_timeout_s))
        binder = binding.Binder(
            api=kube,
            ledger=ledger,
            waiting=watches.pods.waiting,
            now_s=wall,
            mono_s=time.monotonic,
            deadline_s=settings.bind_deadline_s,
            tell=obs.tell,
        )
        service = Service(
            ledger=ledger,
            binder=binder,
            obs=obs,
            settings=settings,
            now_s=wall,
            mono_s=time.perf_counter,
            why_not_ready=lambda: watches.why_not_ready(time.monotonic(), settings.watch_lost_s),
        )
        sockets = [
            stack.enter_context(listen(settings.host, settings.port)),
            stack.enter_context(listen(settings.metrics_host, settings.metrics_port)),
        ]
        tasks = await stack.enter_async_context(asyncio.TaskGroup())
        tasks.create_task(_watch(watches, kube, settings, stop))
        settling = asyncio.create_task(_settle(watches, when_synced))
        stack.callback(settling.cancel)
        tasks.create_task(repeat(lambda: _expire(ledger, obs, wall()), every_s=EXPIRE_EVERY_S, stop=stop))
        if context is not None:
            tasks.create_task(repeat(context.reload, every_s=TLS_EVERY_S, stop=stop))
        stack.push_async_callback(binder.close)
        urls = Urls(
            await stack.enter_async_context(
                serving(service.verbs(), sockets[0], None if context is None else context.context)
            ),
            await stack.enter_async_context(serving(service.health(), sockets[1])),
        )
        log.info("extender.listening", verbs=urls.verbs, metrics=urls.metrics)
        try:
            yield urls
        finally:
            stop.set()


def _ledger(settings: Settings) -> Ledger:
    return Ledger(
        stale_after_s=settings.stale_after_s,
        assume_ttl_s=settings.assume_ttl_s,
        scorer=settings.scorer,
        savings=settings.savings,
        reserves=settings.reserves,
    )


def _expire(ledger: Ledger, obs: Obs, now_s: float) -> None:
    for holding in ledger.expire(now_s):
        obs.expired(uid=holding.uid, pod=holding.key, node=holding.node)


async def _watch(watches: Watches, kube: Kube, settings: Settings, stop: asyncio.Event) -> None:
    """What the watches bring is decided upon: a compiled scorer is compiled before. Meanwhile nobody says "ready"."""
    await asyncio.to_thread(warm_up, settings.scorer)
    await watches.run(kube, settings.lease_namespace, stop)


async def _settle(watches: Watches, then: Callable[[], None]) -> None:
    for progress in watches.progress.values():
        await progress.synced.wait()
    then()


def _spare_the_collector() -> None:
    """The first full lists are the bulk of all objects: Python's collector need not walk them again and again.

    At 5,000 nodes this took the slowest filter calls from 23 ms to 5.
    """
    gc.collect()
    gc.freeze()


async def _serve(settings: Settings) -> None:
    stop = stop_on_signals()
    async with running(settings, stop, when_synced=_spare_the_collector):
        await stop.wait()
        log.info("extender.stopping")


@app.command()
def serve(
    *,
    host: Annotated[str | None, typer.Option(help="Address of the verbs. Default: 127.0.0.1.")] = None,
    port: Annotated[int | None, typer.Option(help="Port of the verbs; 0: a free one. Default: 8888.")] = None,
    metrics_host: Annotated[
        str | None, typer.Option(help="Address of /healthz, /readyz, /metrics. Default: 127.0.0.1.")
    ] = None,
    metrics_port: Annotated[int | None, typer.Option(help="Their port; 0: a free one. Default: 8081.")] = None,
    kubeconfig: Annotated[
        Path | None, typer.Option(help="How to reach the API server. Default: the pod's ServiceAccount, $KUBECONFIG.")
    ] = None,
    log_format: Annotated[str | None, typer.Option(help="json or text. Default: json.")] = None,
    log_level: Annotated[str | None, typer.Option(help="debug, info, warning or error. Default: info.")] = None,
) -> None:
    """Serve filter, prioritize, bind and preempt to a kube-scheduler until SIGTERM.

    Every setting, these and the rarer ones, can also be given as an environment variable SLICEWISE_EXTENDER_NAME:
    see `slicewise extender settings`.
    """
    try:
        settings = Settings.of(
            host=host,
            port=port,
            metrics_host=metrics_host,
            metrics_port=metrics_port,
            kubeconfig=kubeconfig,
            log_format=log_format,
            log_level=log_level,
        )
    except ValidationError as e:
        for fault in e.errors():
            name = ".".join(map(str, fault["loc"]))
            typer.echo(f"slicewise extender: {name or 'settings'}: {fault['msg']} (got {fault['input']!r})", err=True)
        raise typer.Exit(2) from e
    configure(settings.log_format, settings.log_level)
    try:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(_serve(settings))
    except (KubeError, ListenError, OSError) as e:
        typer.echo(f"slicewise extender: {e}", err=True)
        raise typer.Exit(2) from e


@app.command()
def advise(
    *,
    want: Annotated[
        list[str] | None,
        typer.Option(
            metavar="WHAT[=COUNT]",
            help="A profile (3g.40gb), a memory (20Gi) or `whole`; again for a mix. Default: the pods that wait now.",
        ),
    ] = None,
    defragment: Annotated[
        float | None,
        typer.Option(metavar="SLICES", min=0.01, help="Memory slices by which fragmentation must fall."),
    ] = None,
    priority: Annotated[int, typer.Option(help="Of --want and --defragment: pods above it stay.")] = 0,
    tenant: Annotated[str, typer.Option(help="Of --want.")] = "default",
    gpu_model: Annotated[str | None, typer.Option(help="Of --want, such as a100-80. Default: any.")] = None,
    allow_sessions: Annotated[bool, typer.Option(help="Propose pods that have live sessions, too.")] = False,
    evictions: Annotated[int, typer.Option(min=1, max=MOST_EVICTIONS, help="Most in one proposal.")] = MOST_EVICTIONS,
    proposals: Annotated[int, typer.Option(min=1, max=20, help="How many to look for.")] = 3,
    tries: Annotated[int, typer.Option(min=1, max=100_000, help="Sets to try at most.")] = MOST_TRIES,
    state: Annotated[
        Path | None, typer.Option(help="Saved by `kubectl get nodes,pods,pdb,leases -A -o json`; no API is asked.")
    ] = None,
    kubeconfig: Annotated[Path | None, typer.Option(help="As for `serve`.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Which few evictions would make room, with gain and cost. Tells only: nothing is evicted, nothing is written.

    Exit codes: 0 there are proposals or nothing is needed, 1 nothing helps, 2 wrong usage or no answer of the API.
    """
    rules = Rules(
        priority=priority,
        allow_sessions=allow_sessions,
        evictions=evictions,
        proposals=proposals,
        less=defragment or 0.0,
        tries=tries,
    )
    configure("text", "error")
    try:
        demands = advice.demands(want or (), advice.Hypothetical(priority, tenant, gpu_model))
        chosen = Settings.of(kubeconfig=kubeconfig)
        objects, now_s = asyncio.run(_objects(chosen, state))
        found = survey(objects, now_s, _ledger(chosen))
    except (advice.AdviseError, ValidationError, KubeError, ObjectError) as e:
        typer.echo(f"slicewise extender: {e}", err=True)
        raise typer.Exit(2) from e
    told = found.for_demands(demands, rules) if demands or rules.less else found.for_waiting(rules)
    if as_json:
        typer.echo(advice.as_json(told, found.notes))
    else:
        advice.show(told, found.notes, Console(highlight=False))
    if not any(one.proposals or not one.needed for one in told):
        raise typer.Exit(1)


async def _objects(chosen: Settings, state: Path | None) -> tuple[Objects, float]:
    if state is not None:
        return advice.load(state, chosen.lease_namespace)
    async with Kube.connect(chosen.kubeconfig, timeout_s=chosen.api_timeout_s) as kube:
        return await advice.fetch(kube, chosen.lease_namespace), WALL()


@app.command()
def settings() -> None:
    """List every setting with its environment variable, its default and why."""
    for name, field in Settings.model_fields.items():
        typer.echo(f"{PREFIX}{name.upper()}  (default: {field.default})\n    {field.description}")


if __name__ == "__main__":
    app(prog_name="slicewise extender")
