"""A child process of the tests: a log file of its own, readiness with a deadline, ended by its own pid."""

import os
import signal
import socket
import ssl
import subprocess
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Self

import httpx

from tests.e2e.parts.waiting import wait_for

LOOPBACK: Final = "127.0.0.1"


def _ports() -> Iterator[int]:
    # Below the ephemeral range (32768…): no client can be given our port between our look and our use.
    start = 20_000 + os.getpid() * 61 % 10_000
    for port in [*range(start, 32_000), *range(20_000, start)]:
        with socket.socket() as probe:
            try:
                probe.bind((LOOPBACK, port))
            except OSError:
                continue
        yield port


_PORTS: Final = _ports()


def free_port() -> int:
    """A loopback port that nobody listens on; never the same twice in one run."""
    return next(_PORTS)


@dataclass(slots=True, kw_only=True)
class Process:
    """One program. `start` and `kill` may alternate: the log goes on in the same file."""

    name: str
    argv: Sequence[str | Path]
    logs: Path
    env: Mapping[str, str] = field(default_factory=dict)
    _child: subprocess.Popen[bytes] | None = None

    @property
    def log(self) -> Path:
        return self.logs / f"{self.name}.log"

    @property
    def running(self) -> bool:
        return self._child is not None and self._child.poll() is None

    def start(self) -> Self:
        assert not self.running, f"{self.name} runs already"
        with self.log.open("ab") as log:
            self._child = subprocess.Popen(
                [str(arg) for arg in self.argv],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                env={"PATH": os.environ["PATH"], "HOME": os.environ.get("HOME", "/"), **self.env},
                start_new_session=True,  # an interrupted run stops its parts in order, not all at once
            )
        return self

    def wait_ready(self, probe: Callable[[], object], *, within_s: float = 60.0) -> Self:
        """Waits until `probe` is true; a process that ends instead is an error with the end of its log."""

        def ready_or_dead() -> bool:
            if not self.running:
                assert self._child is not None, f"{self.name} was never started"
                raise AssertionError(
                    f"{self.name} ended with {self._child.returncode}; {self.log} ends:\n{self.tail()}"
                )
            return bool(probe())

        wait_for(f"{self.name} ready (log: {self.log})", ready_or_dead, within_s=within_s)
        return self

    def kill(self) -> None:
        """SIGKILL: no time for a last word."""
        if self._child is not None:
            self._child.kill()
            self._child.wait()

    def pause(self) -> None:
        """SIGSTOP: from now on it answers nobody, its sockets stay open."""
        assert self._child is not None
        self._child.send_signal(signal.SIGSTOP)
        # Until its last thread has heard of it, one of them may still answer.
        os.waitid(os.P_PID, self._child.pid, os.WSTOPPED | os.WEXITED | os.WNOWAIT)

    def resume(self) -> None:
        assert self._child is not None
        self._child.send_signal(signal.SIGCONT)

    def stop(self, *, grace_s: float = 10.0) -> int | None:
        """SIGTERM, then SIGKILL after `grace_s`. Returns the exit status, None if it never ran."""
        if self._child is None:
            return None
        self._child.terminate()
        try:
            return self._child.wait(grace_s)
        except subprocess.TimeoutExpired:
            self._child.kill()
            return self._child.wait()

    def tail(self, lines: int = 30) -> str:
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-lines:])


def answers(url: str, *, ca: Path | None = None) -> Callable[[], bool]:
    """A probe: does `url` answer with 200?"""

    context = ssl.create_default_context(cafile=ca)

    def probe() -> bool:
        return httpx.get(url, verify=context, timeout=2.0).status_code == httpx.codes.OK

    return probe
