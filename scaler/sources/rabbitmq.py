"""Readings from RabbitMQ, through the HTTP API of its management plugin.

A tick costs one request: for a few queues by a regular expression of their names, so that the answer is no longer than
the question; for more by listing the virtual host, 500 queues a request (measured on 1,000 queues: 0.1 s for such a
page, 0.3 s for a regular expression of 100 names). The numbers are RabbitMQ's own statistics, which it renews every 5 s
(collect_statistics_interval).
"""

import json
import re
from base64 import b64encode
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import quote

from aiohttp import ClientError, ClientResponse, ClientSession, ClientTimeout, TCPConnector

from scaler.backends import RabbitmqBackend
from scaler.signals.reading import Missing, Reading, ReadingName, Sample, reading_of
from scaler.sources import Wiring
from scaler.sources.base import SourceError
from scaler.sources.broker import Answer, BrokerSource, Question, credentials, nothing, tls_context

COLUMNS: Final = "name,state,messages_ready,messages_unacknowledged,head_message_timestamp"
FEW: Final = 20
"""Names that are looked up by a regular expression: the server tries each alternative on each of its queues."""
MAX_PATTERN: Final = 2000
"""Characters: the server's line of a request ends at 8,000, and a character may take three."""
PAGE: Final = 500
"""Queues; the most that the API gives at once (rabbitmq_mgmt_util.erl)."""
MAX_PAGES: Final = 40
MAX_BYTES: Final = 1 << 20
COUNTED: Final = frozenset({"running", "idle", "flow", "syncing"})
"""States in which a queue's numbers are of now; in others (down, crashed, minority) they are the last known."""


Json = Mapping[str, Any]


def connect(name: str, backend: RabbitmqBackend, wiring: Wiring) -> "RabbitmqSource":
    return RabbitmqSource(name, backend, timeout_s=wiring.timeout_s)


class RabbitmqSource(BrokerSource):
    """Provides `backlog` (ready), `taken` (not acknowledged) and `oldest_wait_s` where messages carry a timestamp."""

    of_backlog = frozenset({ReadingName.BACKLOG, ReadingName.TAKEN, ReadingName.OLDEST_WAIT_S})

    def __init__(self, name: str, backend: RabbitmqBackend, *, timeout_s: float = 5.0) -> None:
        super().__init__(name, backend, timeout_s=timeout_s)
        self._backend = backend
        self._session: ClientSession | None = None
        self._path = f"{backend.url.rstrip('/')}/api/queues/{quote(backend.vhost, safe='')}"

    async def _answer(self, questions: frozenset[Question], at_s: float) -> Mapping[Question, Answer]:
        names = sorted({q.place.name for q in questions})
        pattern = _pattern(names[: FEW + 1])
        few = len(names) <= FEW and len(pattern) <= MAX_PATTERN
        queues = (await self._page(1, pattern)).queues if few else await self._listed(frozenset(names))
        vhost = self._backend.vhost
        none = Missing(f"there is no such queue in virtual host {vhost!r}")
        return {
            question: Answer(
                readings=_readings(queues.get(question.place.name), none, at_s),
                asked=f"GET /api/queues/{quote(vhost, safe='')}/{quote(question.place.name, safe='')}",
            )
            for question in questions
        }

    async def _listed(self, names: frozenset[str]) -> Mapping[str, Json]:
        """Those of the virtual host's queues that have one of the names; one page of all at a time."""
        found: dict[str, Json] = {}
        number, pages = 0, 1
        while number < pages and found.keys() != names:
            number += 1
            page = await self._page(number)
            if page.count > MAX_PAGES:
                raise SourceError(f"virtual host {self._backend.vhost!r} has more than {MAX_PAGES * PAGE} queues")
            pages = page.count
            found |= {name: queue for name, queue in page.queues.items() if name in names}
        return found

    async def _page(self, number: int, pattern: str | None = None) -> "_Page":
        """Some of the queues, or of those whose names match. Raises SourceError."""
        asked = {"page": str(number), "page_size": str(PAGE), "columns": COLUMNS}
        if pattern is not None:
            asked |= {"use_regex": "true", "name": pattern}
        try:
            async with self._connected().get(self._path, params=asked, allow_redirects=False) as answer:
                if answer.status != 200:
                    raise SourceError(_refusal(answer, self._backend.vhost))
                return _parsed(await _body(answer))
        except (ClientError, OSError) as e:
            if isinstance(e, TimeoutError):
                raise
            raise SourceError(f"not reachable ({type(e).__name__}: {str(e)[:120]})") from e

    def _connected(self) -> ClientSession:
        if self._session is None:
            backend = self._backend
            user, password = credentials(backend)
            self._session = ClientSession(
                headers={"Authorization": f"Basic {b64encode(f'{user}:{password}'.encode()).decode()}"},
                connector=TCPConnector(
                    limit=1, ssl=tls_context(backend) if backend.url.startswith("https:") else False
                ),
                timeout=ClientTimeout(total=self.timeout_s),
            )
        return self._session

    async def _drop(self) -> None:
        session, self._session = self._session, None
        if session is not None:
            await session.close()


@dataclass(frozen=True, slots=True)
class _Page:
    """`queues`: by name; `count`: of pages, this one included."""

    queues: Mapping[str, Json]
    count: int


def _pattern(names: Sequence[str]) -> str:
    """A regular expression that matches `names` and nothing else."""
    literal = (re.sub(r"([^A-Za-z0-9_])", r"\\\1", name) for name in names)
    return f"^({'|'.join(literal)})$"


def _refusal(answer: ClientResponse, vhost: str) -> str:
    if answer.status in {401, 403}:
        return f"refused our credentials (HTTP status {answer.status})"
    if answer.status == 404:
        return f"has no virtual host {vhost!r}, or no management API at this url (HTTP status 404)"
    return f"answered with HTTP status {answer.status}"


async def _body(answer: ClientResponse) -> bytes:
    body = await answer.content.read(MAX_BYTES + 1)
    while len(body) <= MAX_BYTES and (more := await answer.content.read(MAX_BYTES + 1 - len(body))):
        body += more
    if len(body) > MAX_BYTES:
        raise SourceError(f"the answer is longer than {MAX_BYTES} bytes")
    return body


def _parsed(body: bytes) -> _Page:
    try:
        told = json.loads(body)
        return _Page({str(queue["name"]): queue for queue in told["items"]}, int(told["page_count"]))
    except (ValueError, KeyError, TypeError) as e:
        raise SourceError("the answer is not the management API's JSON") from e


def _readings(queue: Json | None, none: Missing, at_s: float) -> Mapping[str, Reading]:
    if queue is None:
        return nothing(none.why).readings
    state = queue.get("state", "running")
    if state not in COUNTED:
        return nothing(f"the queue is {str(state)[:20]}: its numbers are not of now").readings
    ready = _count(queue.get("messages_ready"), at_s)
    taken = _count(queue.get("messages_unacknowledged"), at_s)
    oldest: Reading = Missing("the oldest message carries no timestamp")
    first_s = queue.get("head_message_timestamp")
    if isinstance(first_s, int) and not isinstance(first_s, bool):
        oldest = reading_of(max(0.0, at_s - first_s), at_s)
    elif isinstance(ready, Missing) or isinstance(taken, Missing):
        oldest = Missing("whether messages wait is not known")
    elif ready.value + taken.value == 0:
        oldest = Sample(0.0, at_s)
    return {ReadingName.BACKLOG: ready, ReadingName.TAKEN: taken, ReadingName.OLDEST_WAIT_S: oldest}


def _count(value: object, at_s: float) -> Reading:
    if value is None:
        return Missing("RabbitMQ has no statistics of the queue yet")
    if isinstance(value, bool) or not isinstance(value, int):
        return Missing(f"not a count: {str(value)[:40]!r}")
    return reading_of(value, at_s)
