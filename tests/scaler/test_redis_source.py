"""What Redis may answer: a client that a test scripts."""

import asyncio
from collections.abc import Callable, Mapping
from fnmatch import fnmatchcase
from typing import Any

import pytest
from redis import exceptions as errors

from scaler.backends import RedisBackend
from scaler.signals.reading import Missing, ReadingName, Sample
from scaler.sources.base import Place, SourceError, Subject
from scaler.sources.redis import ALIKE, RedisSource

AT_S = 1_700_000_000.0
MS = int(AT_S * 1000)


class ScriptedRedis:
    """Answers a command, written as one text, by `answers`: a value, or a function of the command."""

    def __init__(self, answers: Mapping[str, Any]) -> None:
        self.answers = answers
        self.asked: list[str] = []
        self.pipelines = 0
        self.hangs: str | None = None
        self._commands: list[str] = []

    def pipeline(self, *, transaction: bool) -> "ScriptedRedis":
        assert not transaction
        self._commands = []
        return self

    def execute_command(self, *command: str) -> None:
        self._commands.append(" ".join(command))

    async def execute(self, *, raise_on_error: bool) -> list[Any]:
        assert not raise_on_error
        if self.hangs is not None and self._commands[0].startswith(self.hangs):
            await asyncio.Event().wait()
        self.pipelines += 1
        self.asked += self._commands
        return [self._one(command) for command in self._commands]

    def _one(self, command: str) -> Any:  # noqa: ANN401  # what a server may say
        if isinstance(failure := self.answers.get("fails"), Exception):
            raise failure
        answer = self.answers.get(command, self.answers.get(command.split(maxsplit=1)[0]))
        return answer(command) if callable(answer) else answer

    async def aclose(self) -> None:
        pass


def source_of(
    answers: Mapping[str, Any],
    *,
    timeout_s: float = 5.0,
    **settings: Any,  # noqa: ANN401
) -> tuple[RedisSource, ScriptedRedis]:
    backend = RedisBackend(kind="redis", url="redis://redis", names=("*",), **settings)
    source, client = RedisSource("messages", backend, timeout_s=timeout_s), ScriptedRedis(answers)
    source._client = client  # type: ignore[assignment]
    return source, client


def subject_of(name: str, group: str | None = None, *, sessions: bool = False) -> Subject:
    place = Place(backend="messages", name=name, group=group)
    return Subject(
        namespace="agents",
        scaled_object=name,
        workload="w",
        backend="default",
        preset="vllm",
        window_s=60.0,
        max_age_s=60.0,
        backlog=None if sessions else place,
        sessions=place if sessions else None,
    )


async def values(source: RedisSource, subject: Subject) -> dict[str, float | str]:
    found = (await source.read({subject: source.provides(subject)}, AT_S))[subject].readings
    return {str(name): r.value if isinstance(r, Sample) else r.why for name, r in found.items()}


STREAM = {"length": 3, "last-generated-id": f"{MS - 1000}-0", "first-entry": (f"{MS - 9000}-0", {})}
GROUP = {"name": "workers", "last-delivered-id": f"{MS - 5000}-2", "lag": 2}
PENDING = {"pending": 1, "min": f"{MS - 8000}-0", "max": f"{MS - 8000}-0", "consumers": []}
NEXT = [(f"{MS - 4000}-0", {"k": "v"})]


def stream(**changes: Any) -> dict[str, Any]:  # noqa: ANN401  # odd answers
    answers = {"TYPE": "stream", "XINFO": _info(STREAM, [GROUP]), "XPENDING": PENDING, "XRANGE": NEXT}
    return {**answers, **changes}


def _info(stream: object, groups: object) -> Callable[[str], object]:
    return lambda command: stream if command.startswith("XINFO STREAM") else groups


@pytest.mark.parametrize(
    ("answers", "backlog", "taken", "oldest"),
    [
        pytest.param(stream(), 2, 1, 8, id="the oldest is pending"),
        pytest.param(
            stream(XPENDING={"pending": 0, "min": None, "max": None, "consumers": []}), 2, 0, 4, id="nothing is pending"
        ),
        pytest.param(
            stream(XPENDING={"pending": 0, "min": None, "max": None, "consumers": []}, XRANGE=[]),
            2,
            0,
            0,
            id="all done",
        ),
        pytest.param(stream(XINFO=_info(STREAM, [{**GROUP, "lag": None}])), "does not know", 1, 8, id="an unknown lag"),
        pytest.param(
            stream(XINFO=_info(STREAM, [{k: v for k, v in GROUP.items() if k != "lag"}])),
            "does not know",
            1,
            8,
            id="a Redis before 7.0 has no lag",
        ),
        pytest.param(stream(XPENDING={"pending": 1, "min": "7-0"}), 2, 1, "ids are not times", id="ids made by hand"),
        pytest.param(stream(XRANGE=errors.ResponseError("no")), 2, 1, "Redis refused: no", id="no look at the entries"),
        pytest.param(stream(XRANGE=[None]), 2, 1, "not as Redis writes it", id="entries without an id"),
        pytest.param(stream(XINFO=_info(STREAM, [])), *["the stream has no group 'workers'"] * 3, id="no group"),
        pytest.param(stream(XINFO=_info(STREAM, [{}])), *["not as Redis writes it"] * 3, id="a group without a name"),
        pytest.param(stream(XINFO=_info({}, [GROUP])), *["not as Redis writes it"] * 3, id="a stream without a length"),
        pytest.param(stream(XPENDING=errors.ResponseError("no")), *["Redis refused: no"] * 3, id="no pending entries"),
        pytest.param(stream(XINFO=errors.ResponseError("no")), *["Redis refused: no"] * 3, id="no look at the stream"),
        pytest.param({"TYPE": errors.ResponseError("no")}, *["Redis refused: no"] * 3, id="no look at the kind"),
        pytest.param({"TYPE": "ReJSON-RL"}, *["want a stream with a group"] * 3, id="a kind of some module"),
    ],
)
async def test_a_streams_group(
    answers: dict[str, Any], backlog: float | str, taken: float | str, oldest: float | str
) -> None:
    source, _ = source_of(answers)
    found = await values(source, subject_of("tasks", "workers"))
    for name, want in (("backlog", backlog), ("taken", taken), ("oldest_wait_s", oldest)):
        if isinstance(want, str):
            assert want in str(found[name])
        else:
            assert found[name] == pytest.approx(want)


@pytest.mark.parametrize(
    ("size", "why"),
    [
        pytest.param(-1, "want a finite number, 0 or more", id="negative"),
        pytest.param("many", "not a count: 'many'", id="a word"),
        pytest.param(None, "not a count: 'None'", id="nothing"),
        pytest.param(errors.ResponseError("LOADING"), "Redis refused: LOADING", id="it is still loading"),
    ],
)
async def test_what_is_no_length_is_missing(size: object, why: str) -> None:
    source, _ = source_of({"TYPE": "list", "LLEN": size}, popped_is_done=True)
    found = await values(source, subject_of("jobs"))
    assert why in str(found["backlog"])
    assert found["oldest_wait_s"] == "elements of a list have no time"


async def test_a_tick_costs_two_pipelines_however_many_lists_there_are() -> None:
    source, client = source_of({"TYPE": "list", "LLEN": 3}, in_work="{name}:work")
    subjects = [subject_of(f"jobs-{number}") for number in range(500)]
    found = await source.read({subject: frozenset({ReadingName.BACKLOG}) for subject in subjects}, AT_S)
    assert {f.readings[ReadingName.BACKLOG] for f in found.values()} == {Sample(3, AT_S)}
    assert client.pipelines == 2
    assert "LLEN jobs-7:work" in client.asked


@pytest.mark.parametrize(
    ("scores", "command"),
    [
        pytest.param("none", "ZCARD live", id="all members"),
        pytest.param("expires_s", "ZCOUNT live (1700000000.000 +inf", id="that end later"),
        pytest.param("expires_ms", "ZCOUNT live (1700000000000.000 +inf", id="that end later, in milliseconds"),
        pytest.param("seen_s", "ZCOUNT live (1699999400.000 +inf", id="seen within the last ten minutes"),
        pytest.param("seen_ms", "ZCOUNT live (1699999400000.000 +inf", id="seen, in milliseconds"),
    ],
)
async def test_which_members_of_a_sorted_set_live(scores: str, command: str) -> None:
    source, client = source_of({"TYPE": "zset", command: 5}, session_scores=scores, session_idle_s=600)
    assert await values(source, subject_of("live", sessions=True)) == {"sessions": 5}
    assert command in client.asked


async def test_a_backlog_without_the_scores_that_sessions_have() -> None:
    source, client = source_of({"TYPE": "zset", "ZCARD": 4}, session_scores="expires_s", popped_is_done=True)
    assert (await values(source, subject_of("delayed")))["backlog"] == 4
    assert client.asked == ["TYPE delayed", "ZCARD delayed"]


def scanned(pages: Mapping[str, tuple[str, list[str]]]) -> Callable[[str], object]:
    def page(command: str) -> object:
        _, cursor, _, pattern, *_ = command.split()
        following, keys = pages[cursor]
        return (int(following), [key for key in keys if fnmatchcase(key, pattern)])

    return page


async def test_one_walk_counts_for_all_patterns_and_no_key_twice() -> None:
    pages = {"0": ("17", ["s:a:1", "s:b:1", "x"]), "17": ("3", ["s:a:1", "s:a:2"]), "3": ("0", [])}
    source, client = source_of({"DBSIZE": 5, "SCAN": scanned(pages)})
    subjects = [subject_of(name, sessions=True) for name in ("s:a:*", "s:b:*", "s:c:*", "s:*:1")]
    found = await source.read({subject: frozenset({ReadingName.SESSIONS}) for subject in subjects}, AT_S)
    assert [found[s].readings[ReadingName.SESSIONS] for s in subjects] == [Sample(n, AT_S) for n in (2, 1, 0, 2)]
    assert client.asked[1] == "SCAN 0 MATCH s:* COUNT 1000"


async def test_so_many_patterns_alike_that_the_walk_would_take_long_are_missing() -> None:
    source, _ = source_of({"DBSIZE": 1, "SCAN": (0, ["s:x"])})
    subjects = [subject_of(f"s:*{'x' * number}", sessions=True) for number in range(ALIKE + 2)]
    found = await source.read({subject: frozenset({ReadingName.SESSIONS}) for subject in subjects}, AT_S)
    counts = [found[subject].readings[ReadingName.SESSIONS] for subject in subjects]
    assert counts[:ALIKE] == [Sample(1, AT_S)] * 2 + [Sample(0, AT_S)] * (ALIKE - 2)
    assert counts[ALIKE:] == [Missing("more than 16 patterns begin as it does, up to the '*'")] * 2


async def test_a_walk_that_takes_too_long_does_not_take_the_lists_with_it() -> None:
    source, client = source_of({"TYPE": "list", "LLEN": 3, "DBSIZE": 90}, timeout_s=0.1)
    client.hangs = "SCAN"
    jobs, sessions = subject_of("jobs"), subject_of("s:*", sessions=True)
    found = await source.read({subject: source.provides(subject) for subject in (jobs, sessions)}, AT_S)
    assert found[jobs].readings[ReadingName.BACKLOG] == Sample(3, AT_S)
    assert found[sessions].readings[ReadingName.SESSIONS] == Missing("the walk over 90 keys took longer than 0.06 s")
    assert source._client is None


async def test_what_a_pattern_holds_besides_its_star_is_literal() -> None:
    source, client = source_of({"DBSIZE": 1, "SCAN": (0, ["[a]?:1"])})
    assert await values(source, subject_of("[a]?:*", sessions=True)) == {"sessions": 1}
    assert client.asked[1] == r"SCAN 0 MATCH \[a\]\?:* COUNT 1000"


@pytest.mark.parametrize(
    ("answers", "why"),
    [
        pytest.param({"DBSIZE": 1, "SCAN": (5, [])}, "did not end", id="a walk without an end"),
        pytest.param({"DBSIZE": 101}, "more than max_keys (100)", id="too many keys"),
        pytest.param({"DBSIZE": errors.ResponseError("no")}, "Redis refused: no", id="no look at the size"),
        pytest.param({"DBSIZE": 1, "SCAN": errors.ResponseError("no")}, "Redis refused: no", id="no walk"),
    ],
)
async def test_a_walk_that_does_not_succeed_is_missing(answers: dict[str, Any], why: str) -> None:
    source, _ = source_of(answers, max_keys=100)
    assert why in str((await values(source, subject_of("s:*", sessions=True)))["sessions"])


@pytest.mark.parametrize(
    ("failure", "why"),
    [
        pytest.param(
            errors.AuthenticationError("WRONGPASS me"), r"^refused our credentials \(WRONGPASS\)$", id="login"
        ),
        pytest.param(errors.TimeoutError("slow"), r"^no answer within 5 s$", id="silence"),
        pytest.param(
            errors.ConnectionError("gone"), r"^not reachable, or not Redis \(ConnectionError: gone\)$", id="gone"
        ),
        pytest.param(errors.InvalidResponse("HTTP/1.1"), r"^not reachable, or not Redis \(Inv", id="not Redis"),
    ],
)
async def test_what_ends_the_reading(failure: Exception, why: str) -> None:
    source, _ = source_of({"fails": failure})
    with pytest.raises(SourceError, match=why):
        await values(source, subject_of("jobs"))
    assert source._client is None


async def test_no_login_where_one_is_wanted() -> None:
    source, _ = source_of({"TYPE": errors.AuthenticationError("NOAUTH Authentication required.")})
    with pytest.raises(SourceError, match=r"^wants credentials \(NOAUTH\)$"):
        await values(source, subject_of("jobs"))
