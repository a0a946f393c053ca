"""The real programs, each in a process with sockets of its own, started by the command that operators use."""

import asyncio
import json
import os
import sys
from collections import deque
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

from slicewise.demo.pace import Pace

Event = Mapping[str, Any]
#: A program that does not listen this long after its start has failed: imports on a slow laptop take seconds.
START_S: Final = 30.0
#: A program that has not stopped this long after SIGTERM is killed.
STOP_S: Final = 5.0
KEPT_LINES: Final = 40
ANY_PORT: Final = "127.0.0.1:0"


class ServerError(RuntimeError):
    """A program that did not start, or ended before its time; carries the last lines it wrote."""


class Server:
    """A Slicewise command as a child process. Its log is one JSON event a line; each is given to `heard`.

    `arguments`: of the child module. `address`: reads from an event where the program listens, None in all others.
    """

    def __init__(
        self,
        arguments: list[str],
        environment: Mapping[str, str],
        address: Callable[[Event], str | None],
        heard: Callable[[Event], None],
    ) -> None:
        self._arguments = arguments
        self._environment = environment
        self._address = address
        self._heard = heard
        self._last: deque[str] = deque(maxlen=KEPT_LINES)
        self._process: asyncio.subprocess.Process | None = None
        self._reader: asyncio.Task[None] | None = None
        self._listens: asyncio.Future[str] | None = None

    async def start(self) -> str:
        """Start; the address at which it listens. Raises ServerError if it does not come to that."""
        self._listens = asyncio.get_running_loop().create_future()
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "slicewise.demo.child", *self._arguments),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.PIPE,
            env=dict(self._environment),
            start_new_session=True,  # Ctrl-C is ours to handle: the servers stop after the loops that ask them
            limit=2**20,
        )
        self._process, self._reader = process, asyncio.create_task(self._read(process))
        try:
            return await asyncio.wait_for(asyncio.shield(self._listens), START_S)
        except TimeoutError:
            raise ServerError(self._story(f"did not listen within {START_S:g} s")) from None

    def check(self) -> None:
        """Raises ServerError if the program has ended by itself."""
        if self._process is not None and self._process.returncode is not None:
            raise ServerError(self._story(f"ended with exit code {self._process.returncode}"))

    async def stop(self) -> None:
        """SIGTERM, as a kubelet does; SIGKILL if that does not help. Returns when the process is gone."""
        if self._process is None or self._reader is None:
            return
        with suppress(ProcessLookupError):
            self._process.terminate()
        try:
            await asyncio.wait_for(self._process.wait(), STOP_S)
        except TimeoutError:
            self._process.kill()
            await self._process.wait()
        await self._reader

    async def _read(self, process: asyncio.subprocess.Process) -> None:
        if process.stderr is not None:
            async for line in process.stderr:
                self._take(line.decode(errors="replace").rstrip())
        code = await process.wait()
        if self._listens is not None and not self._listens.done():
            self._listens.set_exception(ServerError(self._story(f"ended with exit code {code}")))

    def _take(self, line: str) -> None:
        self._last.append(line)
        try:
            event = json.loads(line)
        except ValueError:
            return  # a line of a traceback: kept for the story
        if self._listens is not None and not self._listens.done() and (address := self._address(event)):
            self._listens.set_result(address)
        self._heard(event)

    def _story(self, what: str) -> str:
        return "\n  ".join([f"{' '.join(self._arguments)} {what}; it said last:", *self._last])


def scaler(pace: Pace, prometheus_url: str, kubeconfig: Path, heard: Callable[[Event], None]) -> Server:
    """The scaler lives in cluster time: only its clock differs from that of `slicewise scaler serve`."""
    settings = {
        "LISTEN": ANY_PORT,
        "METRICS_LISTEN": ANY_PORT,
        "BACKENDS": json.dumps({"default": prometheus_url}),
        "KUBECONFIG": str(kubeconfig),
        "DRAIN_S": "0",
    }
    arguments = ["paced-scaler", repr(pace.origin_s), repr(pace.speed)]
    return Server(arguments, _environment("SCALER", settings), _listens("scaler.listening", "address"), heard)


def extender(kubeconfig: Path, heard: Callable[[Event], None]) -> Server:
    """The extender is the command as shipped, in wall time: nothing that it decides depends on the cluster's speed."""
    settings = {"PORT": "0", "METRICS_PORT": "0", "KUBECONFIG": str(kubeconfig)}
    arguments = ["slicewise", "extender", "serve"]
    return Server(arguments, _environment("EXTENDER", settings), _listens("extender.listening", "verbs"), heard)


def _listens(name: str, key: str) -> Callable[[Event], str | None]:
    return lambda event: str(event[key]) if event.get("event") == name else None


def _environment(program: str, settings: Mapping[str, str]) -> dict[str, str]:
    """Ours without what would configure or colour the servers, and the settings as an operator sets them."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("SLICEWISE_")}
    return {**kept, **{f"SLICEWISE_{program}_{name}": value for name, value in settings.items()}}
