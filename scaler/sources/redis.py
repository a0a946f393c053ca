"""Readings from Redis: lists and stream groups as backlogs; sorted sets, sets, hashes and patterns of keys as sessions.

A tick costs a pipeline for the kinds of all keys, one for their sizes, two for streams, and a walk over the keys of the
database where sessions are counted by a pattern.
"""

import asyncio
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from os.path import commonprefix
from typing import Any, Final, cast

from redis import exceptions as errors
from redis.asyncio import Redis, SSLConnection
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff

from scaler.access import covers
from scaler.backends import RedisBackend
from scaler.signals.lag import StreamGroup, StreamId
from scaler.signals.reading import Missing, Reading, ReadingName, Sample, reading_of
from scaler.sources import Wiring
from scaler.sources.base import SourceError
from scaler.sources.broker import Answer, BrokerSource, Question, credentials, nothing, tls_context

SCAN_COUNT: Final = 1000
"""Keys that one SCAN looks at: about a millisecond in which Redis serves nobody else."""

WALK_SHARE: Final = 0.6
"""Of the source's time-out, for the walk over the keys: too long a one must not take lists and streams with it."""

ALIKE: Final = 16
"""Patterns of keys with the same beginning: each key that has it is held against each of them, in our event loop."""

EARLIEST_MS: Final = 1_000_000_000_000
"""2001: ids of streams below were not made from a clock."""

SIZES: Final[Mapping[str, str]] = {"list": "LLEN", "zset": "ZCARD", "set": "SCARD", "hash": "HLEN", "none": "LLEN"}
"""Kind of a key -> the command that counts it. Redis deletes what is empty: no key is an empty list."""

BACKLOGS: Final = frozenset({"list", "zset", "set", "none"})

Command = tuple[str, ...]


def connect(name: str, backend: RedisBackend, wiring: Wiring) -> "RedisSource":
    return RedisSource(name, backend, timeout_s=wiring.timeout_s)


class RedisSource(BrokerSource):
    """Provides `backlog`, `taken` and `oldest_wait_s` of streams and lists, and `sessions`."""

    of_backlog = frozenset({ReadingName.BACKLOG, ReadingName.TAKEN, ReadingName.OLDEST_WAIT_S})

    def __init__(self, name: str, backend: RedisBackend, *, timeout_s: float = 5.0) -> None:
        super().__init__(name, backend, timeout_s=timeout_s)
        self._backend = backend
        self._client: Redis | None = None

    async def _answer(self, questions: frozenset[Question], at_s: float) -> Mapping[Question, Answer]:
        patterns = sorted({q.place.name for q in questions if _is_pattern(q)})
        plain = sorted((q for q in questions if not _is_pattern(q)), key=repr)
        answers = await self._of_keys(plain, at_s)
        counts = await self._walked(patterns) if patterns else {}
        for question in questions - set(plain):
            count = counts[question.place.name]
            reading = count if isinstance(count, Missing) else Sample(count, at_s)
            answers[question] = Answer(
                readings={ReadingName.SESSIONS: reading}, asked=f"SCAN 0 MATCH {question.place.name}"
            )
        return answers

    async def _of_keys(self, questions: Sequence[Question], at_s: float) -> dict[Question, Answer]:
        kinds = dict(zip(questions, await self._ask([("TYPE", q.place.name) for q in questions]), strict=True))
        answers: dict[Question, Answer] = {}
        commands: dict[Question, Sequence[Command]] = {}
        streams: list[Question] = []
        for question, kind in kinds.items():
            if isinstance(kind, Missing):
                answers[question] = nothing(kind.why, f"TYPE {question.place.name}")
            elif question.role == "backlog" and kind == "stream":
                streams.append(question)
            elif isinstance(counts := self._counts(question, kind, at_s), Missing):
                answers[question] = nothing(counts.why, f"TYPE {question.place.name}")
            else:
                commands[question] = counts
        told = iter(await self._ask([command for counts in commands.values() for command in counts]))
        for question, counts in commands.items():
            sizes = [_count(size, at_s) for size in islice(told, len(counts))]
            asked = "; ".join(" ".join(map(str, command)) for command in counts)
            answers[question] = Answer(readings=self._sized(question, sizes, at_s), asked=asked)
        return answers | await self._of_streams(streams, at_s)

    def _counts(self, question: Question, kind: str, at_s: float) -> Sequence[Command] | Missing:
        """The commands that count what lives or waits at a key of this kind, and what is in work if a list has it."""
        key, group, in_work = question.place.name, question.place.group, self._backend.in_work
        if question.role == "sessions":
            if kind in {"set", "hash"}:
                return [(SIZES[kind], key)]
            if kind in {"zset", "none"}:
                return [self._live(key, at_s)]
            return Missing(f"want a sorted set, a set, a hash or a pattern of keys with a '*'; it is a {kind}")
        if group is not None:
            what = "there is no such key" if kind == "none" else f"it is a {kind}"
            return Missing(f"want a stream with a group {group!r}; {what}")
        if kind not in BACKLOGS:
            return Missing(f"want a list or a stream; it is a {kind}")
        waiting = (SIZES[kind], key)
        return [waiting] if in_work is None else [waiting, ("LLEN", in_work.replace("{name}", key))]

    def _sized(self, question: Question, sizes: Sequence[Reading], at_s: float) -> Mapping[str, Reading]:
        if question.role == "sessions":
            return {ReadingName.SESSIONS: sizes[0]}
        waiting, *in_work = sizes
        if not in_work and self._backend.popped_is_done:
            in_work = [Sample(0.0, at_s)]
        unseen = "what was popped is not seen: say in the backend's settings in_work or popped_is_done"
        empty = isinstance(waiting, Sample) and waiting.value == 0
        return {
            ReadingName.BACKLOG: waiting,
            ReadingName.TAKEN: in_work[0] if in_work else Missing(unseen),
            ReadingName.OLDEST_WAIT_S: Sample(0.0, at_s) if empty else Missing("elements of a list have no time"),
        }

    def _live(self, key: str, at_s: float) -> Command:
        """Members of a sorted set that are not over."""
        backend = self._backend
        if backend.session_scores == "none":
            return ("ZCARD", key)
        unit = 1000.0 if backend.session_scores.endswith("_ms") else 1.0
        since_s = at_s - backend.session_idle_s if backend.session_scores.startswith("seen") else at_s
        return ("ZCOUNT", key, f"({since_s * unit:.3f}", "+inf")

    async def _of_streams(self, questions: Sequence[Question], at_s: float) -> dict[Question, Answer]:
        answers = {
            q: nothing("a stream keeps its entries after they are read: name the group in backlogGroup")
            for q in questions
            if q.place.group is None
        }
        named = {q: q.place.group for q in questions if q.place.group is not None}
        commands: list[Command] = []
        for q, group in named.items():
            key = q.place.name
            commands += [("XINFO STREAM", key), ("XINFO GROUPS", key), ("XPENDING", key, group)]
        told = iter(await self._ask(commands))
        groups: dict[Question, Group] = {}
        asked = {q: f"XINFO GROUPS {q.place.name}; XPENDING {q.place.name} {group}" for q, group in named.items()}
        for question, name in named.items():
            found = _group(name, list(islice(told, 3)))
            if isinstance(found, Missing):
                answers[question] = nothing(found.why, asked[question])
            else:
                groups[question] = found
        after: list[Command] = [
            ("XRANGE", q.place.name, f"({ms}-{number}", "+", "COUNT", "1")
            for q, (ms, number) in ((q, found.place.delivered) for q, found in groups.items())
        ]
        for (question, found), undelivered in zip(groups.items(), await self._ask(after), strict=True):
            lag = found.place.undelivered()
            readings: dict[str, Reading] = {
                ReadingName.BACKLOG: lag if isinstance(lag, Missing) else _count(lag, at_s),
                ReadingName.TAKEN: _count(found.pending, at_s),
                ReadingName.OLDEST_WAIT_S: _oldest(found.oldest, undelivered, at_s),
            }
            answers[question] = Answer(readings=readings, asked=asked[question])
        return answers

    async def _walked(self, patterns: Sequence[str]) -> Mapping[str, int | Missing]:
        """How many keys there are of each pattern; keys whose time is over are not."""
        size, *_ = await self._ask([("DBSIZE",)])
        if isinstance(size, Missing) or size > self._backend.max_keys:
            why = f"the database holds {size} keys, more than max_keys ({self._backend.max_keys})"
            why += "; keep the sessions in a sorted set, or raise it"
            return dict.fromkeys(patterns, size if isinstance(size, Missing) else Missing(why))
        limit_s = WALK_SHARE * self.timeout_s
        try:
            async with asyncio.timeout(limit_s):
                return await self._walk(patterns)
        except TimeoutError:
            await self._drop()  # its late answer would come before the next
            return dict.fromkeys(patterns, Missing(f"the walk over {size} keys took longer than {limit_s:g} s"))

    async def _walk(self, patterns: Sequence[str]) -> Mapping[str, int | Missing]:
        tally = _Tally(patterns)
        heads = [pattern.partition("*")[0] for pattern in patterns]
        match = _glob(commonprefix(heads))  # noqa: RUF071  # of texts, not of paths
        cursor, looks = "0", 0
        while cursor != "0" or looks == 0:
            answer, *_ = await self._ask([("SCAN", cursor, "MATCH", match, "COUNT", str(SCAN_COUNT))])
            if isinstance(answer, Missing):
                return dict.fromkeys(patterns, answer)
            cursor = str(answer[0])
            tally.add(answer[1])
            looks += 1
            if looks > 2 * self._backend.max_keys // SCAN_COUNT + 2:  # it grows faster than we walk
                return dict.fromkeys(patterns, Missing("the walk over the keys did not end"))
        return tally.counts

    async def _ask(self, commands: Sequence[Command]) -> list[Any]:
        """The answers in one pipeline; Missing where Redis refuses one. Raises SourceError where it does not answer."""
        if not commands:
            return []
        if self._client is None:
            self._client = self._connected()
        try:
            pipeline = self._client.pipeline(transaction=False)
            for command in commands:
                pipeline.execute_command(*command)
            answers = await pipeline.execute(raise_on_error=False)
        except errors.AuthenticationError as e:
            raise SourceError(f"refused our credentials ({_code(e)})") from None
        except errors.TimeoutError as e:
            raise TimeoutError from e
        except (errors.RedisError, OSError) as e:
            raise SourceError(f"not reachable, or not Redis ({type(e).__name__}: {str(e)[:120]})") from e
        for answer in answers:
            if isinstance(answer, errors.AuthenticationError):
                raise SourceError(f"wants credentials ({_code(answer)})")
        return [Missing(f"Redis refused: {str(a)[:120]}") if isinstance(a, Exception) else a for a in answers]

    def _connected(self) -> Redis:
        backend = self._backend
        user, password = credentials(backend)
        options: dict[str, Any] = {}
        if backend.encrypted:
            tls_context(backend)  # says what is wrong with the files
            options = {
                "connection_class": SSLConnection,
                "ssl_ca_certs": backend.ca_file and str(backend.ca_file),
                "ssl_certfile": backend.certificate_file and str(backend.certificate_file),
                "ssl_keyfile": backend.key_file and str(backend.key_file),
            }
        return Redis.from_url(
            backend.url,
            username=user,
            password=password,
            decode_responses=True,
            encoding_errors="replace",  # of payloads we look only at the ids
            max_connections=1,
            socket_timeout=self.timeout_s,
            socket_connect_timeout=self.timeout_s,
            retry=Retry(NoBackoff(), 0),  # the next tick asks again
            **options,
        )

    async def _drop(self) -> None:
        client, self._client = self._client, None
        if client is not None:
            await client.aclose()


def _is_pattern(question: Question) -> bool:
    return question.role == "sessions" and "*" in question.place.name


def _count(value: object, at_s: float) -> Reading:
    if isinstance(value, Missing):
        return value
    return reading_of(value, at_s) if isinstance(value, int) else Missing(f"not a count: {str(value)[:40]!r}")


class _Tally:
    """Counts keys by pattern, each key once. A key is held against the patterns that begin as it does, not all."""

    def __init__(self, patterns: Sequence[str]) -> None:
        self.counts: dict[str, int | Missing] = dict.fromkeys(patterns, 0)
        self._seen: set[str] = set()  # SCAN may say a key twice
        self._by_head: defaultdict[str, list[str]] = defaultdict(list)
        for pattern in patterns:
            alike = self._by_head[pattern.partition("*")[0]]
            if len(alike) < ALIKE:
                alike.append(pattern)
            else:
                why = f"more than {ALIKE} patterns begin as it does, up to the '*'"
                self.counts[pattern] = Missing(why)
        self._lengths = sorted({len(head) for head in self._by_head})

    def add(self, keys: Iterable[str]) -> None:
        for key in keys:
            if key in self._seen:
                continue
            self._seen.add(key)
            for length in self._lengths:
                for pattern in self._by_head.get(key[:length], ()):
                    if covers(pattern, key):
                        self.counts[pattern] = cast(int, self.counts[pattern]) + 1


@dataclass(frozen=True, slots=True)
class Group:
    """A stream's group. `pending`: entries delivered and not acknowledged; `oldest`: the first of them."""

    place: StreamGroup
    pending: int
    oldest: StreamId | None


def _group(name: str, told: Sequence[Any]) -> Group | Missing:
    """Of the answers to XINFO STREAM, XINFO GROUPS and XPENDING."""
    stream, groups, pending = told
    for answer in (stream, groups):
        if isinstance(answer, Missing):
            return answer
    try:
        group = next((group for group in groups if group["name"] == name), None)
        if group is None:
            return Missing(f"the stream has no group {name!r}")
        if isinstance(pending, Missing):
            return pending
        first, lag = stream["first-entry"], group.get("lag")
        place = StreamGroup(
            length=int(stream["length"]),
            first=_parsed(first[0]) if first else None,
            last=_parsed(stream["last-generated-id"]),
            delivered=_parsed(group["last-delivered-id"]),
            lag=None if lag is None else int(lag),
        )
        count, oldest = int(pending["pending"]), pending["min"]
    except (KeyError, IndexError, TypeError, ValueError) as e:
        return Missing(f"the answer is not as Redis writes it ({type(e).__name__}: {str(e)[:40]})")
    return Group(place, count, _parsed(oldest) if oldest else None)


def _oldest(pending: StreamId | None, undelivered: Any, at_s: float) -> Reading:  # noqa: ANN401  # an answer
    """How long the oldest entry that is not done has been in the stream, by its id."""
    if isinstance(undelivered, Missing):
        return undelivered
    try:
        ids = [_parsed(entry[0]) for entry in undelivered]
    except (IndexError, TypeError, ValueError):
        return Missing("the answer is not as Redis writes it")
    added_ms = min((ms for ms, _ in [*ids, *([pending] if pending else [])]), default=None)
    if added_ms is None:
        return Sample(0.0, at_s)
    if added_ms < EARLIEST_MS:
        return Missing("the stream's ids are not times")
    return Sample(max(0.0, at_s - added_ms / 1000), at_s)


def _parsed(text: str) -> StreamId:
    milliseconds, _, number = text.partition("-")
    return int(milliseconds), int(number)


def _glob(head: str) -> str:
    """Redis' pattern for whatever begins with `head`."""
    return "".join(f"\\{c}" if c in "*?[]^\\" else c for c in head) + "*"


def _code(e: Exception) -> str:
    """WRONGPASS, NOAUTH …: what follows may name the user."""
    return str(e).partition(" ")[0][:40]
