"""uvicorn as a part of a program that has its own signals, its own sockets and other work to do."""

import asyncio
import contextlib
import socket
import ssl
from collections.abc import AsyncIterator, Iterator

import uvicorn
from starlette.applications import Starlette


class ListenError(OSError):
    """An address that cannot be listened on."""


class _Server(uvicorn.Server):
    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """The program listens to signals, not each of its servers."""
        yield


def listen(host: str, port: int) -> socket.socket:
    """A socket that listens; port 0 takes a free one. Raises ListenError."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host, port), family=family, backlog=1024)
    except OSError as e:
        raise ListenError(f"cannot listen on {host}:{port}: {e.strerror or e}") from e


@contextlib.asynccontextmanager
async def serving(app: Starlette, on: socket.socket, context: ssl.SSLContext | None = None) -> AsyncIterator[str]:
    """Serve while the block runs; its value is the URL. At the end, requests in flight are answered first."""
    config = uvicorn.Config(
        app,
        http="httptools",
        ws="none",
        lifespan="off",
        log_config=None,
        access_log=False,
        server_header=False,
        date_header=False,
        proxy_headers=False,  # who asks is who connects: a header must not make a stranger local
        # Longer than a Go client keeps an idle connection (90 s): it must never send into one that we just closed.
        timeout_keep_alive=120,
        timeout_graceful_shutdown=5,
        ssl_context_factory=None if context is None else lambda *_: context,
    )
    server = _Server(config)
    task = asyncio.create_task(server.serve(sockets=[on]))
    try:
        host, port = on.getsockname()[:2]
        yield f"{'http' if context is None else 'https'}://{f'[{host}]' if ':' in host else host}:{port}"
    finally:
        server.should_exit = True
        await task
