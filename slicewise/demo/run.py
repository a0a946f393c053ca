"""The run: a simulated cluster, two real servers, and the loops that let them talk until the time is over."""

import asyncio
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Final

import aiohttp
import grpc
import yaml

from scaler.sources.base import Subject
from scaler.sources.cluster import PROVIDES
from scaler.sources.presets import load as load_presets
from scaler.trigger import Trigger
from sim.cluster.scaledobject import ScaledObject
from slicewise.demo.autoscaler import Autoscaler
from slicewise.demo.cluster import heartbeat, populate
from slicewise.demo.kube_api import KubeApi
from slicewise.demo.kube_scheduler import KubeScheduler
from slicewise.demo.kube_store import Store
from slicewise.demo.metric_source import MetricSource
from slicewise.demo.pace import Clock, Pace
from slicewise.demo.promises import Breach, Json
from slicewise.demo.queries import Answers
from slicewise.demo.scene import Line
from slicewise.demo.servers import Server, extender, scaler
from slicewise.demo.serving import Serving, load_of
from slicewise.demo.stage import Stage
from slicewise.demo.tags import Tags
from slicewise.demo.told import Told
from slicewise.demo.world import Auditor, World

#: Cluster seconds a wall second.
SPEED: Final = 30.0
#: A run without an end is a sequence of days of so many cluster seconds, 24 minutes on the wall each: the sessions of a
#: whole day are drawn before it begins.
DAY_S: Final = 43_200.0
#: Cluster seconds that the simulated part moves at once.
STEP_S: Final = 0.5
#: Wall seconds between two rounds of each loop.
WORLD_EVERY_S: Final = 0.05
ASK_EVERY_S: Final = 0.1
SHOW_EVERY_S: Final = 0.2
HEARTBEAT_EVERY_S: Final = 5.0
MAPPING: Final = f"1 s here = {SPEED:g} s in the cluster, and on the scaler's clock"


@dataclass(frozen=True, slots=True)
class Span:
    """How long a run takes, in cluster seconds. `endless`: another one follows, so its end is not shown."""

    length_s: float
    endless: bool
    seed: int


@dataclass(slots=True)
class Demo:
    """What lives as long as a run."""

    pace: Pace
    span: Span
    store: Store
    world: World
    stage: Stage
    told: Told
    auditor: Auditor
    autoscaler: Autoscaler
    scheduler: KubeScheduler
    servers: tuple[Server, ...]
    source: MetricSource
    breaches: list[Breach]

    def now_s(self) -> float:
        """Cluster seconds since the story began."""
        return min(self.pace() - self.world.epoch_s, self.span.length_s)

    def over(self) -> bool:
        return self.now_s() >= self.span.length_s

    async def move(self) -> None:
        """Bring the simulated part up to now, and look at every state that it went through.

        In small steps, with the sockets served between them: the scaler's queries must not wait for the engines.
        """
        until_s = self.now_s()
        while self.world.now_s < until_s:
            self.world.advance(min(until_s, self.world.now_s + STEP_S))
            await asyncio.sleep(0)
        self.told.changes()
        self.auditor.audit()
        self.stage.sample()


def read_scaled_object() -> Json:
    text = (files("slicewise.demo") / "scaledobject.yaml").read_text("utf-8")
    document: Json = yaml.safe_load(text)
    return document


def subject_of(document: Json) -> tuple[Subject, Trigger]:
    """What the scaler will ask about, and the numbers that it decides by."""
    trigger = Trigger.parse(document["spec"]["triggers"][0]["metadata"])
    subject = Subject(
        namespace=document["metadata"]["namespace"],
        scaled_object=document["metadata"]["name"],
        workload=document["spec"]["scaleTargetRef"]["name"],
        backend=trigger.backend,
        preset=trigger.preset,
        window_s=trigger.window_s,
        max_age_s=trigger.max_age_s,
    )
    return subject, trigger


@asynccontextmanager
async def standing(wall: Clock, span: Span, told_to: Callable[[Line], None]) -> AsyncIterator[Demo]:
    """The cluster, then the servers; they stop in the opposite order. Raises ServerError if one does not start."""
    async with AsyncExitStack() as stack:
        pace = Pace(wall, wall(), SPEED)
        store = Store(now_s=wall)
        document = read_scaled_object()
        subject, trigger = subject_of(document)
        populate(store, document, wall())
        turns = await asyncio.to_thread(load_of, span.length_s, span.seed)
        world = World(store, Serving(turns), span.seed)
        api = await stack.enter_async_context(KubeApi(store))
        answers = Answers(world, subject, trigger.wanted() - PROVIDES, load_presets())
        source = await stack.enter_async_context(MetricSource(pace, answers.answer))
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="slicewise-demo-")))
        kubeconfig = folder / "kubeconfig"
        kubeconfig.write_text(api.kubeconfig())

        tags = Tags()
        told = Told(store, told_to, tags, lambda: world.now_s)
        servers = scaler(pace, source.url, kubeconfig, told.scaler), extender(kubeconfig, told.extender)
        for server in servers:
            stack.push_async_callback(server.stop)
        grpc_address, verbs_url = await asyncio.gather(*(server.start() for server in servers))

        document["spec"]["triggers"][0]["metadata"]["scalerAddress"] = grpc_address
        channel = await stack.enter_async_context(grpc.aio.insecure_channel(grpc_address))
        session = await stack.enter_async_context(aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=5)))
        autoscaler = Autoscaler(store, ScaledObject.model_validate(document), channel, told_to)
        scheduler = KubeScheduler(store, verbs_url, session, told_to, tags.said)
        ports = [address.rsplit(":", 1)[-1] for address in (grpc_address, verbs_url)]
        endpoints = "loopback: scaler :{} gRPC, extender :{} HTTP".format(*ports)
        shown_s = None if span.endless else span.length_s
        stage = Stage(world, tags, autoscaler, trigger.p95_target_s or 0.0, SPEED, shown_s, endpoints, MAPPING)
        breaches: list[Breach] = []
        yield Demo(
            pace=pace,
            span=span,
            store=store,
            world=world,
            stage=stage,
            told=told,
            autoscaler=autoscaler,
            scheduler=scheduler,
            servers=servers,
            source=source,
            auditor=Auditor(store, breaches.append),
            breaches=breaches,
        )


async def play(demo: Demo, stop: asyncio.Event, show: Callable[[], None]) -> None:
    """Run the loops until the time is over, somebody stops it, or a server ends by itself (then ServerError)."""
    ended = asyncio.Event()
    demo.world.epoch_s = demo.pace()

    async def move() -> None:
        await demo.move()
        for server in demo.servers:
            server.check()
        if demo.over() or stop.is_set():
            ended.set()

    async def shown() -> None:
        show()

    async def beat() -> None:
        heartbeat(demo.store, demo.pace.wall())

    async with asyncio.TaskGroup() as loops:
        for act, every_s in (
            (move, WORLD_EVERY_S),
            (lambda: demo.scheduler.step(demo.world.now_s), ASK_EVERY_S),
            (lambda: demo.autoscaler.step(demo.world.now_s), ASK_EVERY_S),
            (beat, HEARTBEAT_EVERY_S),
            (shown, SHOW_EVERY_S),
        ):
            loops.create_task(_every(every_s, act, ended))


async def _every(seconds: float, act: Callable[[], Awaitable[None]], ended: asyncio.Event) -> None:
    while not ended.is_set():
        await act()
        with suppress(TimeoutError):
            await asyncio.wait_for(ended.wait(), seconds)
