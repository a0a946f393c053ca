"""List, then watch, for as long as the program runs: the one way by which state of the cluster enters a program.

Source: https://kubernetes.io/docs/reference/using-api/api-concepts/#efficient-detection-of-changes
"""

import asyncio
import contextlib
import json
import time
from collections.abc import AsyncIterable, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from secrets import SystemRandom
from typing import Final, Protocol

import structlog

from slicewise.process.kube import Json, KubeError

GONE: Final = 410  #: the resource version is older than what the server remembers
PAGE: Final = 500  #: objects a page of a list; what client-go's pager asks for
_CHANGES: Final = frozenset({"ADDED", "MODIFIED", "DELETED", "BOOKMARK"})
Uniform = Callable[[float, float], float]  #: a number between two numbers, at random

log: structlog.typing.FilteringBoundLogger = structlog.get_logger()


class Reader(Protocol):
    """What a watch needs of a `Kube`."""

    async def get(self, path: str, **query: str | int) -> Json: ...

    def lines(
        self, path: str, *, quiet_s: float, query: Mapping[str, str | int]
    ) -> AbstractAsyncContextManager[AsyncIterable[bytes]]: ...


class Sink(Protocol):
    """Where objects go. Calls come one after the other and must not block; an exception ends the watch."""

    def replace(self, items: Sequence[Json]) -> None:
        """All objects there are: what is not among them is gone."""

    def upsert(self, obj: Json) -> None: ...

    def delete(self, obj: Json) -> None:
        """`obj` is the last state that was seen; it is gone, or no longer selected."""


@dataclass(slots=True)
class Progress:
    """How far a watch is. `synced` is set by the first complete list and stays set."""

    synced: asyncio.Event = field(default_factory=asyncio.Event)
    lost_since_s: float | None = None  #: on the watch's clock; None while list or watch work
    why: str = ""  #: the last failure's reason
    lists: int = 0
    events: int = 0
    failures: int = 0

    def current(self, now_s: float, tolerance_s: float) -> bool:
        """Whether what the sink was told is no older than `tolerance_s`."""
        return self.synced.is_set() and (self.lost_since_s is None or now_s - self.lost_since_s <= tolerance_s)


@dataclass(frozen=True, slots=True, kw_only=True)
class Patience:
    """How long to wait for what. Bookmarks come about once a minute, so a longer silence means a dead connection."""

    quiet_s: float = 90.0  #: a watch that says nothing for so long is opened again
    life_s: tuple[float, float] = (300.0, 600.0)  #: the server ends a watch after a random time between these
    first_pause_s: float = 0.2
    longest_pause_s: float = 30.0
    uniform: Uniform = field(default_factory=lambda: SystemRandom().uniform)

    def next_pause_s(self, last_s: float) -> float:
        """Decorrelated jitter: many clients that fail together do not come back together.

        Source: https://aws.amazon.com/blogs/architecture/exponential-backoff-and-jitter/
        """
        return min(self.longest_pause_s, self.uniform(self.first_pause_s, max(self.first_pause_s, 3 * last_s)))


async def watch(
    kube: Reader,
    path: str,
    sink: Sink,
    *,
    stop: asyncio.Event,
    progress: Progress | None = None,
    selectors: Mapping[str, str] | None = None,
    patience: Patience | None = None,
    clock: Callable[[], float] = time.monotonic,
) -> None:
    """Keep `sink` equal to the objects at `path` until `stop` is set. Faults of the server are waited out, for ever.

    `selectors`: `labelSelector`, `fieldSelector`. Lists are consistent reads (no resourceVersion=0): a list from a
    lagging cache could miss what this program's predecessor wrote just before it died.
    """
    loop = _Loop(kube, path, sink, progress or Progress(), selectors or {}, patience or Patience(), clock)
    running = asyncio.create_task(loop.run(stop), name=f"watch {path}")
    stopping = asyncio.create_task(stop.wait())
    try:
        await asyncio.wait({running, stopping}, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in (running, stopping):
            task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await running


@dataclass(slots=True)
class _Loop:
    kube: Reader
    path: str
    sink: Sink
    progress: Progress
    selectors: Mapping[str, str]
    patience: Patience
    clock: Callable[[], float]
    version: str | None = None  #: resource version up to which the sink knows everything; None: list first

    async def run(self, stop: asyncio.Event) -> None:
        pause_s = 0.0
        while not stop.is_set():
            before = self.progress.events
            try:
                if self.version is None:
                    await self._list()
                await self._follow(self.version or "")
            except KubeError as e:
                if e.status == GONE:
                    log.info("watch.relist", path=self.path, why=e.message)
                    self.version = None
                else:
                    self._lost(e)
            else:
                self.progress.lost_since_s = None
            if self.progress.events > before:
                pause_s = 0.0  # something came through: this was a good connection
                continue
            pause_s = self.patience.next_pause_s(pause_s or self.patience.first_pause_s)
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(stop.wait(), pause_s)

    def _lost(self, error: KubeError) -> None:
        self.progress.failures += 1
        self.progress.why = error.reason
        if self.progress.lost_since_s is None:
            self.progress.lost_since_s = self.clock()
        log.warning("watch.lost", path=self.path, status=error.status, reason=error.reason, why=error.message)

    async def _list(self) -> None:
        items: list[Json] = []
        more = ""
        while True:
            page = await self.kube.get(self.path, limit=PAGE, **self.selectors, **({"continue": more} if more else {}))
            items += page.get("items") or []
            more = page.get("metadata", {}).get("continue") or ""
            if not more:
                break
        self.sink.replace(items)
        self.version = str(page["metadata"]["resourceVersion"])
        self.progress.lists += 1
        self.progress.lost_since_s = None
        if not self.progress.synced.is_set():
            log.info("watch.synced", path=self.path, objects=len(items))
            self.progress.synced.set()

    async def _follow(self, version: str) -> None:
        life_s = self.patience.uniform(*self.patience.life_s)
        query: dict[str, str | int] = {
            "watch": "true",
            "allowWatchBookmarks": "true",
            "resourceVersion": version,
            "timeoutSeconds": max(1, round(life_s)),
            **self.selectors,
        }
        async with self.kube.lines(self.path, quiet_s=self.patience.quiet_s, query=query) as lines:
            self.progress.lost_since_s = None
            async for line in lines:
                if line.strip():
                    self._take(line)

    def _take(self, line: bytes) -> None:
        try:
            event = json.loads(line)
            kind, obj = event["type"], event["object"]
            version = obj["metadata"]["resourceVersion"] if kind in _CHANGES else ""
        except (ValueError, KeyError, TypeError) as e:
            raise KubeError(0, "BadEvent", f"a watch of {self.path} sent {line[:80]!r}") from e
        if kind == "ERROR":
            raise KubeError(int(obj.get("code") or 0), str(obj.get("reason")), str(obj.get("message")))
        if kind not in _CHANGES:
            raise KubeError(0, "BadEvent", f"a watch of {self.path} sent an event of type {kind!r}")
        if kind == "DELETED":
            self.sink.delete(obj)
        elif kind != "BOOKMARK":
            self.sink.upsert(obj)
        self.version = version
        self.progress.events += 1
