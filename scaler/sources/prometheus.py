"""Readings from Prometheus, through prometheus-api-client in threads off the event loop."""

import asyncio
import re
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from ipaddress import ip_address
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import structlog
from prometheus_api_client import PrometheusConnect
from prometheus_api_client.exceptions import PrometheusApiClientException
from requests import PreparedRequest, RequestException, Session, Timeout
from requests.auth import AuthBase
from urllib3.util.retry import Retry

from scaler.backends import PrometheusBackend
from scaler.signals.reading import Missing, Reading, Sample, reading_of
from scaler.sources import Wiring
from scaler.sources.base import Asks, Found, Source, Subject
from scaler.sources.once import Once, Patience
from scaler.sources.presets import Preset, Question, newest_query, seen_query

log: structlog.typing.FilteringBoundLogger = structlog.get_logger()


def connect(name: str, backend: PrometheusBackend, wiring: Wiring) -> Source:
    return PrometheusSource(name, backend, wiring.presets, timeout_s=wiring.timeout_s, threads=wiring.at_once)


class PrometheusSource:
    """Asks each question of a tick once, whoever wants the answer."""

    def __init__(
        self,
        name: str,
        backend: PrometheusBackend,
        presets: Mapping[str, Preset],
        *,
        timeout_s: float = 5.0,
        threads: int = 8,
    ) -> None:
        self._name = name
        self._presets = presets
        self._timeout_s = timeout_s
        self._connections = {name: _connect(backend, timeout_s)}
        self._threads = ThreadPoolExecutor(threads, thread_name_prefix="prometheus")
        self._asked = Once[tuple[str, str], Reading]()
        self._free = asyncio.Semaphore(threads)
        self._patience = Patience(limit=threads)

    def provides(self, subject: Subject) -> frozenset[str]:
        return frozenset(self._presets[subject.preset].readings) if subject.backend == self._name else frozenset()

    async def read(self, asks: Asks, at_s: float) -> Mapping[Subject, Found]:
        found = await asyncio.gather(*(self._read(names, subject, at_s) for subject, names in asks.items()))
        return dict(zip(asks, found, strict=True))

    async def _read(self, names: frozenset[str], subject: Subject, at_s: float) -> Found:
        if subject.workload is None:
            return Found(readings={name: Missing("the workload's name is not known") for name in names})
        preset = self._presets[subject.preset]
        ordered = sorted(names)
        readings = await asyncio.gather(*(self._reading(name, preset, subject, at_s) for name in ordered))
        return Found(readings=dict(zip(ordered, readings, strict=True)))

    async def close(self) -> None:
        await self._asked.close()
        for connection in self._connections.values():
            connection.close()
        self._threads.shutdown(wait=False, cancel_futures=True)

    async def _reading(self, name: str, preset: Preset, subject: Subject, at_s: float) -> Reading:
        """The first question that yields a value; else the reason of the last."""
        reading: Reading = Missing(f"preset {subject.preset!r} has no query for it")
        for question in preset.questions(name):
            reading = await self._answer(question, subject, at_s)
            if isinstance(reading, Sample):
                return reading
        return reading

    async def _answer(self, question: Question, subject: Subject, at_s: float) -> Reading:
        value = self._ask(subject.backend, question.text(subject), at_s)
        if question.series is None:
            return await value
        reading, seen, newest = await asyncio.gather(
            value,
            self._ask(subject.backend, seen_query(question.series, subject), at_s),
            self._ask(subject.backend, newest_query(question.series, subject), at_s),
        )
        if isinstance(reading, Missing):
            return reading
        pods = int(seen.value) if isinstance(seen, Sample) else 0
        taken_s = min(at_s, newest.value) if isinstance(newest, Sample) else at_s
        return replace(reading, at_s=taken_s, pods=pods)

    async def _ask(self, backend: str, query: str, at_s: float) -> Reading:
        return await self._asked.get((backend, query), at_s, lambda: self._in_turn(backend, query, at_s))

    async def _in_turn(self, backend: str, query: str, at_s: float) -> Reading:
        async with self._free:  # the time-out is for the answer, not for the wait in our own line
            if self._patience.ended(backend, at_s):
                why = f"left {self._patience.limit} other questions of this instant unanswered, so it was not asked"
                return Missing(f"backend {backend!r}: {why}")
            return await self._fetch(backend, query, at_s)

    async def _fetch(self, backend: str, query: str, at_s: float) -> Reading:
        connection = self._connections[backend]
        # Prometheus gives up when we do; the socket's own time-out is per read, hence the second one around the thread.
        params = {"time": f"{at_s:.3f}", "timeout": f"{self._timeout_s:g}s"}
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(self._timeout_s):
                answer = await loop.run_in_executor(self._threads, lambda: connection.custom_query(query, params))
        except (TimeoutError, Timeout):
            self._patience.silence(backend, at_s)
            return Missing(f"backend {backend!r}: no answer within {self._timeout_s:g} s")
        except PrometheusApiClientException as e:
            log.debug("prometheus.refused", backend=backend, query=query, why=str(e)[:500])
            status = re.search(r"HTTP Status Code (\d+)", str(e))
            return Missing(f"backend {backend!r}: answered with HTTP status {status[1] if status else 'unknown'}")
        except (RequestException, OSError) as e:
            log.debug("prometheus.unreachable", backend=backend, why=str(e)[:500])
            return Missing(f"backend {backend!r}: not reachable ({type(e).__name__})")
        except (ValueError, KeyError, TypeError) as e:
            log.debug("prometheus.garbled", backend=backend, query=query, why=repr(e)[:500])
            return Missing(f"backend {backend!r}: the answer is not Prometheus's JSON")
        return one_value(answer, at_s)


def one_value(answer: Any, at_s: float) -> Reading:  # noqa: ANN401  # JSON from outside: anything at all
    """The reading in an instant vector's `result`, which has to hold exactly one series."""
    if not isinstance(answer, list):
        return Missing("the answer is not a vector")
    if not answer:
        return Missing("no series")
    if len(answer) > 1:
        return Missing(f"{len(answer)} series; want one")
    try:
        _, text = answer[0]["value"]
        value = float(text)
    except (ValueError, KeyError, TypeError):
        return Missing("the answer is not a vector of one number")
    return reading_of(value, at_s)


class _TokenFile(AuthBase):
    """A bearer token that may be rotated."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def __call__(self, request: PreparedRequest) -> PreparedRequest:
        request.headers["Authorization"] = f"Bearer {self._path.read_text().strip()}"
        return request


def _connect(backend: PrometheusBackend, timeout_s: float) -> Any:  # noqa: ANN401  # prometheus-api-client has no types
    session = Session()
    session.verify = str(backend.ca_file) if backend.ca_file else True
    # As Go's clients do: a proxy from the environment is never asked for loopback addresses.
    session.trust_env = not _is_loopback(backend.url)
    auth = _TokenFile(backend.token_file) if backend.token_file else None
    no_retry = Retry(total=0)  # the next tick asks again; a retry now would only be late
    return PrometheusConnect(url=backend.url.rstrip("/"), retry=no_retry, auth=auth, session=session, timeout=timeout_s)


def _is_loopback(url: str) -> bool:
    host = urlsplit(url).hostname or ""
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
