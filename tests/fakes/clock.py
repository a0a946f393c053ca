"""A clock that a test moves."""

import asyncio
from collections.abc import Callable


class ManualClock:
    """Seconds since the epoch; `sleep` waits until `advance` has brought its time."""

    def __init__(self, now_s: float = 0.0) -> None:
        self.now_s = now_s
        self._sleepers: list[tuple[float, asyncio.Event]] = []

    def __call__(self) -> float:
        return self.now_s

    async def sleep(self, seconds: float) -> None:
        woken = asyncio.Event()
        self._sleepers.append((self.now_s + seconds, woken))
        await woken.wait()

    async def advance(self, seconds: float) -> None:
        """Moves the clock and lets those run whom it wakes."""
        if seconds < 0:
            raise ValueError(f"time does not run backwards: advance({seconds})")
        await settle()
        self.now_s += seconds
        due = [sleeper for sleeper in self._sleepers if sleeper[0] <= self.now_s]
        self._sleepers = [sleeper for sleeper in self._sleepers if sleeper[0] > self.now_s]
        for _, woken in due:
            woken.set()
        await settle()


async def until(condition: Callable[[], bool]) -> None:
    """Waits for what other tasks and threads bring about; gives up after some ten seconds."""
    for _ in range(5000):
        if condition():
            return
        await asyncio.sleep(0.002)
    raise AssertionError("it never came")


async def settle(turns: int = 50) -> None:
    """Gives every task that can run its turns; enough for chains of awaits without I/O."""
    for _ in range(turns):
        await asyncio.sleep(0)
