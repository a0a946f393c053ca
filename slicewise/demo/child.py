"""`python -m slicewise.demo.child …`: one of the servers, as a process that ends when its parent does.

The parent holds the other end of our standard input. When it closes, because the parent ended in whatever way, even by
SIGKILL, we ask ourselves to stop as a kubelet would: SIGTERM, then the program's own orderly shutdown.
"""

import asyncio
import os
import signal
import sys
import threading
import time
from typing import Final

from slicewise.demo.pace import Pace

USAGE: Final = "usage: child slicewise ARGUMENTS… | child paced-scaler ORIGIN_S SPEED"


def end_with_parent() -> None:
    def wait() -> None:
        while os.read(0, 1024):  # not sys.stdin: its lock must not be held when the interpreter ends
            pass
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=wait, name="end-with-parent", daemon=True).start()


async def serve_paced_scaler(pace: Pace) -> None:
    """What `slicewise scaler serve` does, with the cluster's clock where that has the wall's."""
    from scaler.server import serving  # noqa: PLC0415  # one child needs the scaler, the other must not wait for it
    from scaler.settings import Settings  # noqa: PLC0415  # as above
    from slicewise.process import logs  # noqa: PLC0415  # as above
    from slicewise.process.kube import Kube  # noqa: PLC0415  # as above
    from slicewise.process.shutdown import stop_on_signals  # noqa: PLC0415  # as above

    settings = Settings.load()
    logs.configure(settings.log_format, settings.log_level)
    stop = stop_on_signals()

    async def sleep(cluster_s: float) -> None:
        await asyncio.sleep(pace.wall_s(cluster_s))

    async with (
        Kube.connect(settings.kubeconfig) as kube,
        serving(settings, kube=kube, clock=pace, sleep=sleep),
    ):
        await stop.wait()


def main(arguments: list[str]) -> None:
    end_with_parent()
    match arguments:
        case ["slicewise", *rest]:
            from slicewise.cli import app  # noqa: PLC0415  # as above

            app(args=rest, prog_name="slicewise")
        case ["paced-scaler", origin_s, speed]:
            wall = time.time  # noqa: TID251  # this is a process of its own: its composition root reads the wall's clock
            asyncio.run(serve_paced_scaler(Pace(wall, float(origin_s), float(speed))))
        case _:
            sys.exit(USAGE)


if __name__ == "__main__":
    main(sys.argv[1:])
