"""What stands between the engine and each source: a time-out, and a circuit breaker that backs off."""

import asyncio
from collections.abc import Mapping
from typing import Final

import structlog

from scaler.clock import Clock
from scaler.sources.base import Asks, Found, History, Remembers, Source, SourceError, Subject, missing

log: structlog.typing.FilteringBoundLogger = structlog.get_logger()

OPENS_AFTER: Final = 3
"""Failures in a row after which a backend is left alone for a while: one may be a hiccup, three ticks are an outage."""


class Guarded:
    """Asks `source`, but not for longer than `timeout_s`, and not while it is known to be down.

    After `OPENS_AFTER` failures in a row the next question waits for `first_pause_s`, after each further failure for
    twice as long, up to `longest_pause_s`; any answer closes the circuit. Meanwhile everything is Missing with the
    reason of the last failure, so that an outage costs no time-outs.
    """

    def __init__(
        self,
        name: str,
        source: Source,
        *,
        timeout_s: float,
        clock: Clock,
        first_pause_s: float = 15.0,
        longest_pause_s: float = 120.0,
    ) -> None:
        self._name = name
        self._source = source
        self._timeout_s = timeout_s
        self._clock = clock
        self._first_pause_s = first_pause_s
        self._longest_pause_s = longest_pause_s
        self._failures = 0
        self._again_s = 0.0
        self._why = ""

    def provides(self, subject: Subject) -> frozenset[str]:
        return self._source.provides(subject)

    async def read(self, asks: Asks, at_s: float) -> Mapping[Subject, Found]:
        if self._failures >= OPENS_AFTER and (left_s := self._again_s - self._clock()) > 0:
            why = f"failed {self._failures} times in a row, asked again in {left_s:.0f} s; the last time: {self._why}"
            return missing(asks, f"backend {self._name!r}: {why}")
        try:
            async with asyncio.timeout(self._timeout_s):
                found = await self._source.read(asks, at_s)
        except TimeoutError:
            return missing(asks, self._failed(f"not read within {self._timeout_s:g} s"))
        except SourceError as e:
            return missing(asks, self._failed(str(e)))
        if self._failures >= OPENS_AFTER:
            log.info("source.recovered", backend=self._name, failures=self._failures)
        self._failures = 0
        return found

    async def history(self, asks: Asks, from_s: float, to_s: float, step_s: float) -> History:
        """Nothing, where the source has no memory or cannot be asked: then windows fill as time goes by."""
        if not isinstance(self._source, Remembers) or self._failures >= OPENS_AFTER:
            return ()
        try:
            async with asyncio.timeout(self._timeout_s):
                return await self._source.history(asks, from_s, to_s, step_s)
        except (TimeoutError, SourceError) as e:
            log.info("source.no_history", backend=self._name, why=str(e) or f"not read within {self._timeout_s:g} s")
            return ()

    async def close(self) -> None:
        await self._source.close()

    def _failed(self, why: str) -> str:
        self._failures, self._why = self._failures + 1, why
        if self._failures >= OPENS_AFTER:
            pause_s = self._first_pause_s * 2.0 ** min(self._failures - OPENS_AFTER, 30)
            self._again_s = self._clock() + min(self._longest_pause_s, pause_s)
        if self._failures == OPENS_AFTER:
            log.warning("source.down", backend=self._name, failures=self._failures, why=why)
        return f"backend {self._name!r}: {why}"
