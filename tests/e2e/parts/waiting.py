"""Waiting for what other processes do, and looking at them again and again meanwhile."""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypeVar

import httpx

from tests.e2e.parts.client import ApiError

T = TypeVar("T")
NOT_YET = (httpx.TransportError, ApiError, ConnectionError)  #: a far side that does not answer yet, or not now


class TooLateError(AssertionError):
    """What was waited for did not come by its deadline."""


def wait_for(what: str, probe: Callable[[], T], *, within_s: float, every_s: float = 0.2) -> T:
    """The first true answer of `probe`. Raises TooLateError with what was seen last."""
    deadline_s = time.monotonic() + within_s
    while True:
        seen: object
        try:
            answer = probe()
            if answer:
                return answer
            seen = answer
        except NOT_YET as e:
            seen = e
        if time.monotonic() > deadline_s:
            raise TooLateError(f"{what}: not within {within_s:g} s; seen last: {seen!r}")
        time.sleep(every_s)


@contextmanager
def repeatedly(look: Callable[[], None], *, every_s: float) -> Iterator[None]:
    """Calls `look` in a thread for as long as the block runs, and a last time when it ends: how it ended is seen too.

    An error of its own comes out at the end.
    """
    stop = threading.Event()
    errors: list[Exception] = []

    def walk() -> None:
        over = False
        while not over:
            over = stop.wait(every_s)
            try:
                look()
            except NOT_YET:
                continue  # the API server is busy; the next look is near
            except Exception as e:  # noqa: BLE001  # a thread has nobody else to tell
                errors.append(e)
                return

    thread = threading.Thread(target=walk)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()
    if errors:
        raise errors[0]
