"""Clients of an OpenAI-compatible engine, bounded in number and time, and what they saw of their requests.

Answers are streamed, so that clients know when the first and the last token came.
"""

import asyncio
import heapq
import json
import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any, Final

import aiohttp
import numpy as np

from sim.streams import stream
from tests.e2e.parts.vllm import MODEL, VOCABULARY

MOST_AT_ONCE: Final = 256
TIMEOUT_S: Final = 120.0  # of one request
Door = Callable[[], AbstractContextManager[str]]  #: chooses an engine for a request, and knows when it is answered


@dataclass(frozen=True, slots=True)
class Ask:
    """One request. `at_s`: when it is sent, after the load's begin; `prompt`: token ids."""

    at_s: float
    prompt: tuple[int, ...]
    output_tokens: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """What a client saw of one request; times by `time.monotonic`, token numbers as the engine billed them."""

    sent_s: float
    first_s: float
    last_s: float
    prompt_tokens: int
    cached_tokens: int
    output_tokens: int

    @property
    def ttft_s(self) -> float:
        return self.first_s - self.sent_s

    @property
    def tpot_s(self) -> float:
        """Seconds a token after the first."""
        return (self.last_s - self.first_s) / (self.output_tokens - 1)

    @property
    def e2e_s(self) -> float:
        return self.last_s - self.sent_s


def asks(
    at_s: Iterable[float], *, prompt_tokens: tuple[int, int], output_tokens: tuple[int, int], seed: int, shared: int = 0
) -> list[Ask]:
    """A request at each time; lengths even between two bounds; the first `shared` tokens of all prompts are alike."""
    random = stream(seed, "clients")
    common = tuple(random.integers(2, VOCABULARY, shared).tolist())
    found = []
    for at in at_s:
        own = int(random.integers(prompt_tokens[0], prompt_tokens[1] + 1)) - shared
        length = int(random.integers(output_tokens[0], output_tokens[1] + 1))
        found.append(Ask(at, common + tuple(random.integers(2, VOCABULARY, own).tolist()), length))
    return found


async def open_loop(url: str, load: Sequence[Ask]) -> list[Seen]:
    """Sends each request at its time, whatever became of those before; the answers in the order of sending."""
    assert len(load) <= MOST_AT_ONCE, "nobody bounds how many of these wait at once but their number"
    async with _session() as session:
        begun_s = time.monotonic()
        return await asyncio.gather(*(_at(session, url, ask, begun_s + ask.at_s) for ask in load))


async def closed_loop(door: str | Door, load: Iterable[Ask], *, clients: int) -> list[Seen]:
    """So many clients; each sends the next request, whatever its time, when its last one is answered.

    `door`: the engine's address, or who chooses one for each request.
    """
    assert clients <= MOST_AT_ONCE
    left, seen = iter(load), list[Seen]()

    async def client(session: aiohttp.ClientSession) -> None:
        for ask in left:
            with nullcontext(door) if isinstance(door, str) else door() as url:
                seen.append(await _ask(session, url, ask))

    async with _session() as session:
        await asyncio.gather(*(client(session) for _ in range(clients)))
    return sorted(seen, key=lambda one: one.sent_s)


async def pings_s(url: str, *, every_s: float) -> list[float]:
    """How long the server takes to answer a request that costs nothing, again and again until cancelled.

    What clients' clocks run longer than the engine's is about twice that.
    """
    found = list[float]()
    async with _session() as session:
        try:
            while True:
                asked_s = time.monotonic()
                async with session.get(f"{url}/health") as answer:
                    await answer.read()
                found.append(time.monotonic() - asked_s)
                await asyncio.sleep(every_s)
        except asyncio.CancelledError:
            return found


def service_s(seen: Sequence[Seen], *, slots: int) -> list[float]:
    """How long each request was in service, by the clients' clocks alone.

    An engine with `slots` takes its requests in the order of their coming, each as soon as a slot is free.
    """
    free = [0.0] * slots
    found = []
    for one in sorted(seen, key=lambda one: one.sent_s):
        began_s = max(one.sent_s, heapq.heappop(free))
        heapq.heappush(free, one.last_s)
        found.append(one.last_s - began_s)
    return found


def quantile(values: Iterable[float], q: float) -> float:
    return float(np.quantile(list(values), q))


def _session() -> aiohttp.ClientSession:
    # A connection each: one that is kept may be closed by the server in the instant in which it is used again.
    limits = aiohttp.TCPConnector(limit=MOST_AT_ONCE, force_close=True)
    return aiohttp.ClientSession(connector=limits, timeout=aiohttp.ClientTimeout(total=TIMEOUT_S))


async def _at(session: aiohttp.ClientSession, url: str, ask: Ask, when_s: float) -> Seen:
    await asyncio.sleep(when_s - time.monotonic())
    return await _ask(session, url, ask)


async def _ask(session: aiohttp.ClientSession, url: str, ask: Ask) -> Seen:
    body = {
        "model": MODEL,
        "prompt": list(ask.prompt),
        "max_tokens": ask.output_tokens,
        "ignore_eos": True,  # the weights are random, so the answer's length has to be given
        "temperature": 0,
        "stream": True,
        "stream_options": {"include_usage": True},
    }
    sent_s = time.monotonic()
    first_s = last_s = None
    usage: dict[str, Any] | None = None
    async with session.post(f"{url}/v1/completions", json=body) as answer:
        answer.raise_for_status()
        async for line in answer.content:
            if not line.startswith(b"data: {"):
                continue
            if b'"choices":[]' in line:  # the last one: no token, but the bill
                usage = json.loads(line.removeprefix(b"data: "))["usage"]
                continue
            last_s = time.monotonic()
            first_s = first_s or last_s
    if usage is None or first_s is None or last_s is None:
        raise ConnectionError(f"{url}: the stream ended before its end")
    return Seen(
        sent_s=sent_s,
        first_s=first_s,
        last_s=last_s,
        prompt_tokens=usage["prompt_tokens"],
        cached_tokens=(usage.get("prompt_tokens_details") or {}).get("cached_tokens") or 0,
        output_tokens=usage["completion_tokens"],
    )
