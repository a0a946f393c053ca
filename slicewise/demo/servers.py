"""The real programs, each in a process of its own, started by the command that operators use."""

import asyncio
import json
import sys
from collections import deque
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any, Final

Event = Mapping[str, Any]
#: A program that has not stopped this long after SIGTERM is killed.
STOP_S: Final = 5.0
KEPT_LINES: Final = 40


class ServerError(RuntimeError):
    """A program that did not start, or ended before its time; carries the last lines it wrote."""


class Server:
    """`slicewise NAME …` as a child process. Its log is one JSON event a line; each is given to `heard`."""

    def __init__(self, name: str, arguments: list[str], heard: Callable[[Event], None]) -> None:
        self.name = name
        self._arguments = arguments
        self._heard = heard
        self._last: deque[str] = deque(maxlen=KEPT_LINES)
        self._process: asyncio.subprocess.Process | None = None
        self._reader: asyncio.Task[None] | None = None
        self._awaited: list[tuple[str, asyncio.Future[Event]]] = []

    @property
    def pid(self) -> int | None:
        return None if self._process is None else self._process.pid

    async def start(self, until_event: str, environment: Mapping[str, str], timeout_s: float = 30.0) -> Event:
        """Start, and wait for the log event that says that it listens. Raises ServerError if it does not come."""
        told: asyncio.Future[Event] = asyncio.get_running_loop().create_future()
        self._awaited.append((until_event, told))
        self._process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "slicewise.demo.child", self.name, *self._arguments),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.PIPE,
            env=dict(environment),
            start_new_session=True,  # Ctrl-C is ours to handle: the servers stop after the cluster around them
            limit=2**20,
        )
        self._reader = asyncio.create_task(self._read())
        try:
            return await asyncio.wait_for(told, timeout_s)
        except TimeoutError:
            await self.stop()
            raise ServerError(self._story(f"did not say {until_event!r} within {timeout_s:g} s")) from None

    def check(self) -> None:
        """Raises ServerError if the program has ended by itself."""
        if self._process is not None and self._process.returncode is not None:
            raise ServerError(self._story(f"ended with exit code {self._process.returncode}"))

    async def stop(self) -> None:
        """SIGTERM, as a kubelet does; SIGKILL if that does not help. Returns when the process is gone."""
        if self._process is None:
            return
        with suppress(ProcessLookupError):
            self._process.terminate()
        try:
            await asyncio.wait_for(self._process.wait(), STOP_S)
        except TimeoutError:
            self._process.kill()
            await self._process.wait()
        if self._reader is not None:
            await self._reader

    async def _read(self) -> None:
        assert self._process is not None  # noqa: S101  # for mypy: the task starts after the process
        assert self._process.stderr is not None  # noqa: S101  # as above
        async for line in self._process.stderr:
            self._take(line.decode(errors="replace").rstrip())
        await self._process.wait()
        for _, told in self._awaited:
            if not told.done():
                told.set_exception(ServerError(self._story(f"ended with exit code {self._process.returncode}")))

    def _take(self, line: str) -> None:
        self._last.append(line)
        try:
            event = json.loads(line)
        except ValueError:
            return  # not an event: a traceback, kept for the story
        for name, told in self._awaited:
            if event.get("event") == name and not told.done():
                told.set_result(event)
        self._heard(event)

    def _story(self, what: str) -> str:
        return "\n  ".join([f"slicewise {self.name} {' '.join(self._arguments)} {what}; it said last:", *self._last])
