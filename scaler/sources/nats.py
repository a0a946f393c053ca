"""Readings from NATS: what a JetStream consumer has before it, asked of the server that leads the consumer.

A tick costs one request for each consumer that is asked for, over one connection, AT_ONCE under way at a time. The
JetStream API needs the permission to publish to `$JS.API.CONSUMER.INFO.STREAM.CONSUMER` and to subscribe to `_INBOX.>`.
"""

import asyncio
import json
import re
from collections.abc import Mapping
from contextlib import suppress
from typing import Final

from nats import errors
from nats.aio.client import Client

from scaler.backends import NatsBackend
from scaler.signals.reading import Reading, ReadingName, reading_of
from scaler.sources import Wiring
from scaler.sources.base import Place, SourceError
from scaler.sources.broker import Answer, BrokerSource, Question, credentials, nothing, text_of, tls_context

AT_ONCE: Final = 64
SHARE: Final = 0.8
"""Of the source's time-out, for one answer: a consumer that has no leader gives none, and must not take all with it."""
CLOSING_S: Final = 0.5

PATIENT_ENOUGH: Final = 1
"""Further attempts to connect, in one reading; the next tick tries again."""


def connect(name: str, backend: NatsBackend, wiring: Wiring) -> "NatsSource":
    return NatsSource(name, backend, timeout_s=wiring.timeout_s)


class NatsSource(BrokerSource):
    """Provides `backlog` (num_pending) and `taken` (num_ack_pending) of a stream's consumer."""

    def __init__(self, name: str, backend: NatsBackend, *, timeout_s: float = 5.0) -> None:
        super().__init__(name, backend, timeout_s=timeout_s)
        self._backend = backend
        self._client: Client | None = None
        self._told: str | None = None  # what the server said of its own accord
        self._prefix = f"$JS.{backend.domain}.API" if backend.domain else "$JS.API"

    async def _answer(self, questions: frozenset[Question], at_s: float) -> Mapping[Question, Answer]:
        client = await self._connected()
        turns = asyncio.Semaphore(AT_ONCE)

        async def one(question: Question) -> Answer | None:
            async with turns:
                return await self._consumer(client, question.place, at_s)

        ordered = sorted(questions, key=repr)
        answers = dict(zip(ordered, await asyncio.gather(*map(one, ordered)), strict=True))
        if not client.is_connected:
            raise SourceError(f"the connection ended ({self._told or 'without a word'})")
        silence = f"no answer within {SHARE * self.timeout_s:g} s"
        if all(answer is None for answer in answers.values()):
            raise SourceError(silence)
        return {
            q: answer or nothing(f"{silence}; the consumer may have no leader now") for q, answer in answers.items()
        }

    async def _consumer(self, client: Client, place: Place, at_s: float) -> Answer | None:
        """None where nobody answers."""
        stream, consumer = place.name, place.group
        if consumer is None:
            return nothing("a stream by itself has no backlog: name the consumer in backlogGroup")
        wrong = next((name for name in (stream, consumer) if re.fullmatch(r"[^\s.*>/\\]+", name) is None), None)
        if wrong is not None:
            return nothing(f"no stream or consumer has such a name: {wrong[:80]!r}")
        asked = f"nats consumer info {stream} {consumer}"
        subject = f"{self._prefix}.CONSUMER.INFO.{stream}.{consumer}"
        try:
            answer = await client.request(subject, b"", timeout=SHARE * self.timeout_s)
        except errors.NoRespondersError:
            return nothing("JetStream is not enabled for this account, or not in this domain", asked)
        except TimeoutError:
            refused = self._told is not None and subject.lower() in self._told.lower()
            return nothing(str(self._told), asked) if refused else None
        except (errors.Error, OSError) as e:
            return nothing(f"not asked ({type(e).__name__}: {str(e)[:120]})", asked)
        return Answer(readings=_readings(answer.data, at_s), asked=asked)

    async def _connected(self) -> Client:
        self._told = None
        if self._client is not None and self._client.is_connected:
            return self._client
        await self._drop()
        client = self._client = Client()
        backend = self._backend
        user, password = credentials(backend)
        token = text_of(backend.token_file, "token_file")
        text_of(backend.credentials_file, "credentials_file")  # says so where it cannot be read
        secured = backend.ca_file or any(server.startswith("tls:") for server in backend.servers)
        try:
            await client.connect(
                servers=list(backend.servers),
                name="slicewise",
                user=user,
                password=password,
                token=token,
                user_credentials=str(backend.credentials_file) if backend.credentials_file else None,
                tls=tls_context(backend) if secured else None,
                error_cb=self._hear,
                allow_reconnect=False,  # the next tick connects anew, with credentials read anew
                max_reconnect_attempts=PATIENT_ENOUGH,
                reconnect_time_wait=0,
                connect_timeout=max(1, int(self.timeout_s)),
            )
        except (errors.Error, OSError, ValueError) as e:
            if isinstance(e, TimeoutError):
                raise
            raise SourceError(f"not reachable or refused ({self._why(e)})") from e
        return client

    async def _hear(self, e: Exception) -> None:
        self._told = f"{type(e).__name__}: {str(e)[:160]}"

    def _why(self, e: Exception) -> str:
        return self._told or type(e).__name__

    async def _drop(self) -> None:
        client, self._client = self._client, None
        if client is not None and not client.is_closed:
            with suppress(TimeoutError, OSError, errors.Error):
                async with asyncio.timeout(CLOSING_S):
                    await client.close()


def _readings(body: bytes, at_s: float) -> Mapping[str, Reading]:
    """Of the answer `io.nats.jetstream.api.v1.consumer_info_response` (nats-io/jsm.go schemas)."""
    try:
        told = json.loads(body)
        refused = told.get("error")
        if refused is not None:
            return nothing(f"JetStream: {refused['description']} (code {refused['code']})"[:160]).readings
        return {
            ReadingName.BACKLOG: reading_of(int(told["num_pending"]), at_s),
            ReadingName.TAKEN: reading_of(int(told["num_ack_pending"]), at_s),
        }
    except (ValueError, KeyError, TypeError, AttributeError):
        return nothing("the answer is not JetStream's JSON").readings
