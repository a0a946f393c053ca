"""Waiting for what another process does: a probe, a deadline, and what was seen last when the deadline passes."""

import time
from collections.abc import Callable
from typing import TypeVar

import httpx

from tests.e2e.parts.client import ApiError

T = TypeVar("T")


class TooLateError(AssertionError):
    """What was waited for did not come by its deadline."""


def wait_for(what: str, probe: Callable[[], T], *, within_s: float, every_s: float = 0.2) -> T:
    """The first true answer of `probe`. Far sides that do not answer yet count as «not yet»."""
    deadline_s = time.monotonic() + within_s
    while True:
        seen: object
        try:
            answer = probe()
            if answer:
                return answer
            seen = answer
        except (httpx.TransportError, ApiError, ConnectionError) as e:
            seen = e
        if time.monotonic() > deadline_s:
            raise TooLateError(f"{what}: not within {within_s:g} s; seen last: {seen!r}")
        time.sleep(every_s)
