"""Readings from the pods' own /metrics: no Prometheus needed. One page of each pod a tick, kept for as long as windows.

A pod that does not answer lowers the coverage; it is never 0. Pods that are gone are forgotten with all they said.
"""

import asyncio
from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import chain
from pathlib import Path
from typing import Final

import aiohttp
import structlog

from scaler.backends import ScrapeBackend
from scaler.clock import Clock
from scaler.signals.compute import Window, reading
from scaler.signals.observed import Observation, Workload
from scaler.signals.reading import Missing, Reading, Sample
from scaler.signals.recipes import RECIPES
from scaler.sources import Wiring
from scaler.sources.base import Asks, Found, PodDirectory, Source, Subject
from scaler.sources.exposition import NOBODY, Page, Whose
from scaler.sources.presets import Preset

log: structlog.typing.FilteringBoundLogger = structlog.get_logger()

AT_ONCE: Final = 64
"""Pages under way: enough to hide the network, few enough that answers are read before their time is over."""

MAX_BYTES: Final = 8 * 1024 * 1024
"""A larger page is none: vLLM's has a tenth of a megabyte, and whoever sends more has a label too many."""

ACCEPT: Final = "text/plain;version=0.0.4"


def connect(name: str, backend: ScrapeBackend, wiring: Wiring) -> Source:
    if wiring.pods is None:
        raise ValueError(f"backends.{name}: a direct scrape finds pods through the Kubernetes API")
    return ScrapeSource(name, backend, wiring.presets, wiring.pods, clock=wiring.clock, timeout_s=wiring.timeout_s)


@dataclass(frozen=True, slots=True)
class Target:
    """One page. `preset`: whose words it is written in. `of_gateway`: it tells of workloads, not of the pod."""

    namespace: str
    pod: str
    url: str
    preset: str
    of_gateway: bool


@dataclass(slots=True)
class Kept:
    """What a page said, by whom it told of, oldest first."""

    told: dict[Whose, list[Observation]] = field(default_factory=lambda: defaultdict(list))
    newest_s: float = float("-inf")

    def add(self, observations: Mapping[Whose, Observation], at_s: float, keep_s: float) -> None:
        self.newest_s = at_s
        for whose, observation in observations.items():
            self.told[whose].append(observation)
        for whose, seen in list(self.told.items()):
            seen[:] = [one for one in seen if one.at_s >= at_s - keep_s]
            if not seen:
                del self.told[whose]

    def of(self, whose: Iterable[Whose]) -> Sequence[Observation]:
        """What was told of any of `whose`, one observation a page."""
        pages: dict[float, Observation] = {}
        for one in chain.from_iterable(self.told.get(name, ()) for name in whose):
            pages[one.at_s] = _both(pages[one.at_s], one) if one.at_s in pages else one
        return [pages[at_s] for at_s in sorted(pages)]


def _both(one: Observation, other: Observation) -> Observation:
    return Observation(
        at_s=one.at_s,
        gauges={**one.gauges, **other.gauges},
        counters={**one.counters, **other.counters},
        histograms={**one.histograms, **other.histograms},
    )


class ScrapeSource:
    """`timeout_s`: for all pages of a tick together, so that silent pods cost no more than one of them."""

    def __init__(
        self,
        name: str,
        backend: ScrapeBackend,
        presets: Mapping[str, Preset],
        pods: PodDirectory,
        *,
        clock: Clock,
        timeout_s: float = 5.0,
        max_bytes: int = MAX_BYTES,
    ) -> None:
        self._name = name
        self._backend = backend
        self._presets = presets
        self._directory = pods
        self._clock = clock
        self._timeout_s = timeout_s
        self._max_bytes = max_bytes
        self._pages: dict[tuple[str, bool], Page] = {}
        self._kept: dict[Target, Kept] = {}
        self._keep_s = 0.0
        self._session: aiohttp.ClientSession | None = None
        self._reading = asyncio.Lock()

    def provides(self, subject: Subject) -> frozenset[str]:
        if subject.backend != self._name:
            return frozenset()
        preset = self._presets[subject.preset]
        return frozenset(name for name in RECIPES if preset.ways(name))

    async def read(self, asks: Asks, at_s: float) -> Mapping[Subject, Found]:
        async with self._reading:  # a trigger's first evaluation may come while a tick is under way
            targets = {subject: self._targets(subject) for subject in asks}
            wanted = {
                target
                for of_subject in targets.values()
                if not isinstance(of_subject, Missing)
                for target in of_subject
            }
            self._keep_s = max(self._keep_s, *(subject.window_s + subject.max_age_s for subject in asks))
            await self._scrape(wanted)
            self._forget(wanted)
        now_s = max(at_s, self._clock())
        return {subject: self._found(subject, names, targets[subject], now_s) for subject, names in asks.items()}

    async def close(self) -> None:
        if self._session is not None:
            await self._session.close()

    def _targets(self, subject: Subject) -> Collection[Target] | Missing:
        """The pages that tell of `subject`."""
        gateway, preset = self._backend.gateway, self._presets[subject.preset]
        found: list[Target] = []
        if preset.scope == "pod" and preset.quantities:
            if subject.workload is None:
                return Missing("the workload's name is not known")
            pods = self._directory.pods(subject.namespace, subject.workload)
            if isinstance(pods, Missing):
                return pods
            port, path = self._backend.port or preset.port, self._backend.path or preset.path
            found += [
                Target(subject.namespace, pod.name, _url(pod.ip, port, path), subject.preset, of_gateway=False)
                for pod in pods
                if pod.ip is not None and not pod.terminating
            ]
        elif gateway is None:
            return Missing(f"preset {subject.preset!r} tells of a gateway, and backends.{self._name} names none")
        if gateway is not None:
            pods = self._directory.pods(gateway.namespace, gateway.workload)
            if isinstance(pods, Missing):
                return pods
            found += [
                Target(
                    gateway.namespace,
                    pod.name,
                    _url(pod.ip, gateway.port, gateway.path),
                    subject.preset,
                    of_gateway=True,
                )
                for pod in pods
                if pod.ip is not None and not pod.terminating
            ]
        return found

    async def _scrape(self, wanted: Collection[Target]) -> None:
        """Asks those first that have waited longest, so that what time does not suffice for is not always the same."""
        if self._session is None:
            connector = aiohttp.TCPConnector(limit=AT_ONCE, ttl_dns_cache=0)
            self._session = aiohttp.ClientSession(connector=connector, trust_env=False, auto_decompress=False)
        headers = {"Accept": ACCEPT, "Accept-Encoding": "identity", **_token(self._backend.token_file)}
        free = asyncio.Semaphore(AT_ONCE)
        in_line = sorted(wanted, key=lambda t: (self._kept[t].newest_s if t in self._kept else float("-inf"), t.url))

        async def one(target: Target, session: aiohttp.ClientSession) -> None:
            async with free:
                page = await self._page(session, target, headers)
            if page is not None:
                at_s = self._clock()
                told = self._pages_of(target).observations(page, at_s)
                self._kept.setdefault(target, Kept()).add(told, at_s, self._keep_s)

        tasks = [asyncio.create_task(one(target, self._session)) for target in in_line]
        if tasks:
            _, late = await asyncio.wait(tasks, timeout=self._timeout_s)
            for task in late:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _page(self, session: aiohttp.ClientSession, target: Target, headers: Mapping[str, str]) -> str | None:
        """The text, None where there is none; a redirect is not followed: it would lead to whom nobody named."""
        try:
            async with session.get(target.url, headers=headers, allow_redirects=False) as answer:
                if answer.status != 200:
                    log.debug("scrape.refused", pod=target.pod, status=answer.status)
                    return None
                page = await answer.content.read(self._max_bytes + 1)
                while len(page) <= self._max_bytes and (more := await answer.content.read(self._max_bytes + 1)):
                    page += more
        except (aiohttp.ClientError, OSError, ValueError) as e:
            log.debug("scrape.not_read", pod=target.pod, why=type(e).__name__)
            return None
        if len(page) > self._max_bytes:
            log.warning("scrape.too_large", pod=target.pod, namespace=target.namespace, max_bytes=self._max_bytes)
            return None
        return page.decode("utf-8", errors="replace")

    def _pages_of(self, target: Target) -> Page:
        key = (target.preset, target.of_gateway)
        if key not in self._pages:
            self._pages[key] = Page(self._presets[target.preset], of_gateway=target.of_gateway)
        return self._pages[key]

    def _forget(self, wanted: Collection[Target]) -> None:
        """Pages that nobody asks for any more; they count for nothing as soon as their pod is gone."""
        since_s = self._clock() - self._keep_s
        self._kept = {t: kept for t, kept in self._kept.items() if t in wanted or kept.newest_s >= since_s}

    def _found(
        self, subject: Subject, names: frozenset[str], targets: Collection[Target] | Missing, now_s: float
    ) -> Found:
        if isinstance(targets, Missing):
            return Found(readings=dict.fromkeys(names, targets))
        preset = self._presets[subject.preset]
        whose = [("", subject.workload or ""), (subject.namespace, subject.workload or "")]
        seen = {
            of_gateway: {
                t.pod: self._kept[t].of(whose if of_gateway else [NOBODY]) if t in self._kept else ()
                for t in targets
                if t.of_gateway == of_gateway
            }
            for of_gateway in (False, True)
        }
        pods = seen[preset.scope == "gateway"]
        workload = Workload(pods=pods, gateways=seen[True], lazy=preset.lazy, up=preset.up)
        window = Window(now_s, subject.window_s, subject.max_age_s, subject.slo_s)
        readings = {name: reading(preset.ways(name), workload, window) for name in sorted(names)}
        if preset.scope == "gateway":
            readings = {name: _of_no_pods(found) for name, found in readings.items()}
        asked = ", ".join(sorted(target.url for target in targets)[:3]) + (", …" if len(targets) > 3 else "")
        return Found(readings=readings, asked=dict.fromkeys(sorted(names), f"GET {asked}" if targets else "no pod"))


def _of_no_pods(found: Reading) -> Reading:
    """How many gateways told says nothing about how many pods there are."""
    return replace(found, pods=None) if isinstance(found, Sample) else found


def _url(ip: str, port: int, path: str) -> str:
    return f"http://[{ip}]:{port}{path}" if ":" in ip else f"http://{ip}:{port}{path}"


def _token(file: Path | None) -> Mapping[str, str]:
    return {} if file is None else {"Authorization": f"Bearer {file.read_text().strip()}"}
