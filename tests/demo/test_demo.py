"""The demo as a stranger starts it: the real servers in processes of their own, for a few seconds."""

import asyncio
import io
import os
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from rich.console import Console

from slicewise.demo.promises import PROMISES
from slicewise.demo.show import Options, demonstrate

COMMAND = (str(Path(sys.executable).with_name("slicewise")), "demo")


@asynccontextmanager
async def demo(*arguments: str) -> AsyncIterator[asyncio.subprocess.Process]:
    process = await asyncio.create_subprocess_exec(
        *COMMAND, *arguments, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT
    )
    try:
        yield process
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


def children(pid: int) -> list[int]:
    listed = subprocess.run(["ps", "-A", "-o", "pid=,ppid="], capture_output=True, text=True, check=True).stdout
    pairs = (tuple(map(int, line.split())) for line in listed.splitlines())
    return [child for child, parent in pairs if parent == pid]


def shown(pid: int, column: str) -> str:
    asked = ["ps", "-o", f"{column}=", "-p", str(pid)]
    return subprocess.run(asked, capture_output=True, text=True, check=False).stdout.strip()


def alive(pid: int) -> bool:
    return shown(pid, "stat")[:1] not in {"", "Z"}


async def until(process: asyncio.subprocess.Process, said: str) -> str:
    """What the demo has written when `said` is among it."""
    assert process.stdout is not None
    text = ""
    while said not in text:
        line = await process.stdout.readline()
        assert line, f"the demo ended without saying {said!r}:\n{text}"
        text += line.decode()
    return text


async def rest(process: asyncio.subprocess.Process) -> str:
    assert process.stdout is not None
    return (await process.stdout.read()).decode()


@pytest.mark.parametrize("plain", [True, False], ids=["lines", "a live picture"])
async def test_a_short_run_places_pods_asks_the_scaler_and_keeps_its_promises(plain: bool) -> None:
    written = io.StringIO()
    console = Console(file=written, width=120, height=40, force_terminal=not plain, _environ={})
    wall = time.time  # noqa: TID251  # what the composition root hands in
    code = await demonstrate(Options(wall_s=4.0, plain=plain), console, wall)
    text = written.getvalue()
    assert code == 0, text
    assert "c1 -> gpu-" in text
    assert "wants 2" in text
    assert " of cluster time in " in text  # how much of it depends on how busy the machine is
    assert all(promise in text for promise in PROMISES)
    assert text.count("✓ kept") == len(PROMISES)
    assert ("\x1b[" in text) is not plain, "no terminal, no escape sequences"


async def test_ctrl_c_ends_the_run_with_its_summary_and_leaves_no_process() -> None:
    async with demo("--forever") as process:
        text = await until(process, "c1 -> gpu-")
        servers = children(process.pid)
        assert len(servers) == 2
        process.send_signal(signal.SIGINT)
        text += await rest(process)
        assert await process.wait() == 0, text
    assert "of cluster time" in text
    assert not any(map(alive, servers))


async def test_servers_end_even_when_the_demo_is_killed() -> None:
    async with demo("--seconds", "60") as process:
        await until(process, "c1 -> gpu-")
        servers = children(process.pid)
        process.kill()
        await process.wait()
    deadline_s = time.monotonic() + 20
    while any(map(alive, servers)):
        assert time.monotonic() < deadline_s, "a server outlived the demo by 20 s"
        await asyncio.sleep(0.1)


@pytest.mark.parametrize("victim", ["scaler", "extender"])
async def test_a_server_that_dies_ends_the_run_with_exit_code_1_and_its_last_words(victim: str) -> None:
    async with demo("--seconds", "60") as process:
        await until(process, "c1 -> gpu-")
        (pid,) = (pid for pid in children(process.pid) if victim in shown(pid, "args"))
        os.kill(pid, signal.SIGKILL)
        text = await rest(process)
        assert await process.wait() == 1, text
    assert "ended with exit code -9" in text
    assert f"{victim}.listening" in text
