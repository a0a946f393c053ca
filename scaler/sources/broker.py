"""What the sources of message brokers share: the places that a tick asks for, tenants' bounds, one time-out, files."""

import asyncio
import ssl
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Final

from scaler.access import Role
from scaler.backends import MessageBroker
from scaler.signals.reading import Missing, Reading, ReadingName
from scaler.sources.base import Asks, Found, Place, SourceError, Subject

SESSIONS: Final = frozenset({ReadingName.SESSIONS})


@dataclass(frozen=True, slots=True)
class Question:
    """What is asked of a place. Equal questions of a tick, from however many subjects, are one."""

    place: Place
    role: Role


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """`asked`: the commands, as a person would repeat them."""

    readings: Mapping[str, Reading]
    asked: str = ""


def nothing(why: str, asked: str = "") -> Answer:
    return Answer(readings=dict.fromkeys(ReadingName, Missing(why)), asked=asked)


class BrokerSource(ABC):
    """One broker: asks once for all subjects, and refuses places that a tenant may not name.

    A subclass answers questions about one backend and keeps one connection to it, which it makes anew after `_drop`.
    """

    of_backlog: ClassVar[frozenset[str]] = frozenset({ReadingName.BACKLOG, ReadingName.TAKEN})
    """Readings that this kind may have of a backlog."""

    def __init__(self, name: str, backend: MessageBroker, *, timeout_s: float) -> None:
        self.name = name
        self.timeout_s = timeout_s
        self._access = backend.access
        self._one_at_a_time = asyncio.Lock()

    def provides(self, subject: Subject) -> frozenset[str]:
        roles = {question.role for question in self._questions(subject)}
        return (self.of_backlog if "backlog" in roles else frozenset()) | (SESSIONS if "sessions" in roles else set())

    async def read(self, asks: Asks, at_s: float) -> Mapping[Subject, Found]:
        wanted: dict[Subject, dict[Question, Missing | None]] = {}
        for subject in asks:
            wanted[subject] = {q: self._refusal(q, subject.namespace) for q in self._questions(subject)}
        questions = frozenset(q for of in wanted.values() for q, refusal in of.items() if refusal is None)
        answers = await self._in_time(questions, at_s) if questions else {}
        return {
            subject: _found(
                names, {q: nothing(no.why) if (no := wanted[subject][q]) else answers[q] for q in wanted[subject]}
            )
            for subject, names in asks.items()
        }

    async def close(self) -> None:
        await self._drop()

    @abstractmethod
    async def _answer(self, questions: frozenset[Question], at_s: float) -> Mapping[Question, Answer]:
        """An answer to each. Raises SourceError where none can be had."""

    @abstractmethod
    async def _drop(self) -> None:
        """Ends the connection, if there is one. Does not wait for the far side, and may be called again."""

    async def _in_time(self, questions: frozenset[Question], at_s: float) -> Mapping[Question, Answer]:
        try:
            async with asyncio.timeout(self.timeout_s), self._one_at_a_time:
                return await self._answer(questions, at_s)
        except TimeoutError as e:
            await self._drop()  # its late answers would come before those to the next questions
            raise SourceError(f"no answer within {self.timeout_s:g} s") from e
        except (SourceError, asyncio.CancelledError):
            await self._drop()
            raise

    def _questions(self, subject: Subject) -> tuple[Question, ...]:
        places: tuple[tuple[Role, Place | None], ...] = (("backlog", subject.backlog), ("sessions", subject.sessions))
        return tuple(
            Question(place, role)
            for role, place in places
            if place is not None and place.backend == self.name and role in self._access.roles
        )

    def _refusal(self, question: Question, namespace: str) -> Missing | None:
        """Triggers are refused for this when they come; this is the second lock."""
        if not self._access.allows(namespace):
            return Missing(f"namespace {namespace!r} may not use this backend")
        why = self._access.refusal(question.role, question.place.name, namespace)
        return None if why is None else Missing(why)


def _found(names: frozenset[str], answers: Mapping[Question, Answer]) -> Found:
    readings: dict[str, Reading] = {}
    asked: dict[str, str] = {}
    for name in names:
        role: Role = "sessions" if name == ReadingName.SESSIONS else "backlog"
        answer = next((a for q, a in answers.items() if q.role == role), None)
        if answer is None:
            readings[name] = Missing("the trigger names nothing of this backend that has it")
            continue
        readings[name] = answer.readings.get(name, Missing("a place of this kind does not have it"))
        asked[name] = answer.asked
    return Found(readings=readings, asked=asked)


def text_of(path: Path | None, name: str) -> str | None:
    """What stands in a file of credentials. Raises SourceError, which never shows any of it."""
    if path is None:
        return None
    try:
        return path.read_text("utf-8").strip()
    except (OSError, UnicodeDecodeError) as e:
        raise SourceError(f"{name}: cannot read {path} ({type(e).__name__})") from None


def credentials(backend: MessageBroker) -> tuple[str | None, str | None]:
    """User and password as they stand in their files now. Raises SourceError."""
    user = text_of(backend.username_file, "username_file")
    return user, text_of(backend.password_file, "password_file")


def tls_context(backend: MessageBroker) -> ssl.SSLContext:
    """Verifies the server's name and certificate. Raises SourceError where a file does not fit."""
    try:
        context = ssl.create_default_context(cafile=backend.ca_file)
        if backend.certificate_file is not None:
            context.load_cert_chain(backend.certificate_file, backend.key_file)
    except (OSError, ssl.SSLError) as e:
        files = [str(path) for path in (backend.ca_file, backend.certificate_file, backend.key_file) if path]
        raise SourceError(f"TLS: cannot use {', '.join(files)} ({type(e).__name__})") from None
    return context
