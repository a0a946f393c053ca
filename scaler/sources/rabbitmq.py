"""Readings from RabbitMQ, through the HTTP API of its management plugin.

A tick costs one request for all queues that are asked for (or one for each few dozen): the server looks them up by a
regular expression, so that the answer is no longer than the question. The numbers are RabbitMQ's own statistics, which
it renews every 5 s (collect_statistics_interval).
"""

import json
import re
from base64 import b64encode
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final
from urllib.parse import quote

from aiohttp import ClientError, ClientResponse, ClientSession, ClientTimeout, TCPConnector

from scaler.backends import RabbitmqBackend
from scaler.signals.reading import Missing, Reading, ReadingName, Sample, reading_of
from scaler.sources import Wiring
from scaler.sources.base import SourceError
from scaler.sources.broker import Answer, BrokerSource, Question, credentials, nothing, tls_context

COLUMNS: Final = "name,state,messages_ready,messages_unacknowledged,head_message_timestamp"
MAX_PATTERN: Final = 3000
"""Characters: the server's line of a request ends at 8,000, and a character may take three."""
PAGE: Final = 500
"""Queues; the most that the API gives at once (rabbitmq_mgmt_util.erl)."""
MAX_BYTES: Final = 1 << 20
COUNTED: Final = frozenset({"running", "idle", "flow", "syncing"})
"""States in which a queue's numbers are of now; in others (down, crashed, minority) they are the last known."""


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
        queues: dict[str, Mapping[str, Any]] = {}
        for pattern in _patterns(sorted({q.place.name for q in questions})):
            queues |= await self._queues(pattern)
        vhost = self._backend.vhost
        none = Missing(f"there is no such queue in virtual host {vhost!r}")
        return {
            question: Answer(
                readings=_readings(queues.get(question.place.name), none, at_s),
                asked=f"GET /api/queues/{quote(vhost, safe='')}/{quote(question.place.name, safe='')}",
            )
            for question in questions
        }

    async def _queues(self, pattern: str) -> Mapping[str, Mapping[str, Any]]:
        """The queues whose names match, by name. Raises SourceError."""
        asked = {"page": "1", "page_size": str(PAGE), "use_regex": "true", "name": pattern, "columns": COLUMNS}
        try:
            async with self._connected().get(self._path, params=asked, allow_redirects=False) as answer:
                if answer.status != 200:
                    raise SourceError(_refusal(answer, self._backend.vhost))
                return _by_name(await _body(answer))
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


def _patterns(names: Sequence[str]) -> Iterator[str]:
    """Regular expressions that match `names` and nothing else, each short enough for a request."""
    part: list[str] = []
    length = 0
    for name in names:
        written = re.sub(r"([^A-Za-z0-9_])", r"\\\1", name)
        if part and (length + len(written) > MAX_PATTERN or len(part) == PAGE):
            yield f"^({'|'.join(part)})$"
            part, length = [], 0
        part.append(written)
        length += len(written) + 1
    yield f"^({'|'.join(part)})$"


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


def _by_name(body: bytes) -> Mapping[str, Mapping[str, Any]]:
    try:
        return {str(queue["name"]): queue for queue in json.loads(body)["items"]}
    except (ValueError, KeyError, TypeError) as e:
        raise SourceError("the answer is not the management API's JSON") from e


def _readings(queue: Mapping[str, Any] | None, none: Missing, at_s: float) -> Mapping[str, Reading]:
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
