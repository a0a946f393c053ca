"""How a program is asked to stop: SIGTERM from the kubelet, SIGINT from a person."""

import asyncio
import contextlib
import signal
from collections.abc import Callable


def stop_on_signals() -> asyncio.Event:
    """An event that the first SIGTERM or SIGINT sets; a second one ends the process the hard way.

    Call it inside the running loop that shall stop.
    """
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()

    def ask(which: signal.Signals) -> None:
        stop.set()
        loop.remove_signal_handler(which)

    for which in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(which, ask, which)
    return stop


async def repeat(act: Callable[[], object], *, every_s: float, stop: asyncio.Event) -> None:
    """Call `act` every `every_s`, first after that time, until `stop` is set."""
    while True:
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(stop.wait(), every_s)
        if stop.is_set():
            return
        act()
