"""How a program is asked to stop: SIGTERM from the kubelet, SIGINT from a person."""

import asyncio
import signal


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
