"""The source against real Redis servers, its numbers beside redis-cli's."""

import logging
from collections.abc import Iterator
from pathlib import Path

import pytest

from scaler.signals.reading import ReadingName, Sample
from tests.e2e.parts.certificates import Certificates
from tests.e2e.parts.redis import PASSWORD, USER, Redis
from tests.e2e.parts.tools import brokers_or_skip
from tests.integration.places import backlog, fails, now_s, read, source_of, subject_of, values, why_missing, written

pytestmark = [pytest.mark.integration, pytest.mark.timeout(60)]
EVERYTHING = 2**62


@pytest.fixture
def redis(tmp_path: Path) -> Iterator[Redis]:
    brokers_or_skip("redis-server", "redis-cli")
    server = Redis(tmp_path)
    try:
        yield server.up()
    finally:
        server.kill()  # a paused one would not hear a SIGTERM


def settings_of(redis: Redis, folder: Path, **others: object) -> dict[str, object]:
    return {"kind": "redis", "url": redis.url, **written(folder, username=USER, password=PASSWORD), **others}


async def test_a_list_is_as_long_as_redis_says(redis: Redis, tmp_path: Path) -> None:
    redis.cli("RPUSH", "jobs", *range(7))
    redis.cli("RPUSH", "jobs:processing", *range(2))
    async with source_of(settings_of(redis, tmp_path, in_work="{name}:processing")) as source:
        found = await values(source, subject_of("jobs"))
        assert found[ReadingName.BACKLOG] == int(redis.cli("LLEN", "jobs")) == 7
        assert found[ReadingName.TAKEN] == int(redis.cli("LLEN", "jobs:processing")) == 2
        redis.cli("DEL", "jobs", "jobs:processing")  # what is empty does not exist
        assert await values(source, subject_of("jobs")) == {"backlog": 0, "taken": 0, "oldest_wait_s": 0}


async def test_what_was_popped_is_not_known_unless_the_settings_say_so(redis: Redis, tmp_path: Path) -> None:
    redis.cli("RPUSH", "jobs", "a")
    async with source_of(settings_of(redis, tmp_path)) as source:
        taken = (await values(source, subject_of("jobs")))[ReadingName.TAKEN]
        assert "what was popped is not seen" in str(taken)
    async with source_of(settings_of(redis, tmp_path, popped_is_done=True)) as source:
        assert (await values(source, subject_of("jobs")))[ReadingName.TAKEN] == 0


async def test_a_streams_group_lags_as_redis_says(redis: Redis, tmp_path: Path) -> None:
    at_s = now_s()
    for age_s, field in ((90, "a"), (60, "b"), (30, "c")):
        redis.cli("XADD", "tasks", f"{int((at_s - age_s) * 1000)}-0", "k", field)
    redis.cli("XGROUP", "CREATE", "tasks", "workers", "0")
    redis.cli("XREADGROUP", "GROUP", "workers", "me", "COUNT", "1", "STREAMS", "tasks", ">")
    async with source_of(settings_of(redis, tmp_path)) as source:
        (found,) = await read(source, subject_of("tasks", "workers"), at_s=at_s)
        groups = redis.cli("XINFO", "GROUPS", "tasks").split()
        assert found[ReadingName.BACKLOG] == Sample(int(groups[groups.index("lag") + 1]), at_s) == Sample(2, at_s)
        assert found[ReadingName.TAKEN] == Sample(int(groups[groups.index("pending") + 1]), at_s) == Sample(1, at_s)
        oldest = found[ReadingName.OLDEST_WAIT_S]
        assert isinstance(oldest, Sample)
        assert oldest.value == pytest.approx(90, abs=0.01)


async def test_a_lag_that_redis_does_not_know_is_computed_or_missing(redis: Redis, tmp_path: Path) -> None:
    for number in range(1, 5):
        redis.cli("XADD", "tasks", f"{number}-0", "k", "v")
    redis.cli("XGROUP", "CREATE", "tasks", "workers", "0")
    redis.cli("XREADGROUP", "GROUP", "workers", "me", "COUNT", "1", "STREAMS", "tasks", ">")
    redis.cli("XDEL", "tasks", "3-0")
    assert redis.cli("XINFO", "GROUPS", "tasks").splitlines()[-1] == "lag"  # and nothing after it: nil
    async with source_of(settings_of(redis, tmp_path)) as source:
        assert "Redis does not know the group's lag" in await why_missing(source, "tasks", "workers")
        redis.cli("XGROUP", "SETID", "tasks", "workers", "4-0")
        assert (await values(source, subject_of("tasks", "workers")))[ReadingName.BACKLOG] == 0
        redis.cli("XGROUP", "SETID", "tasks", "workers", "0-1")
        assert (await values(source, subject_of("tasks", "workers")))[ReadingName.BACKLOG] == 3


async def test_only_sessions_that_are_not_over_are_counted(redis: Redis, tmp_path: Path) -> None:
    assert redis.cli("DEBUG", "SET-ACTIVE-EXPIRE", "0") == "OK"  # what is over stays until somebody looks at it
    at_s = now_s()
    redis.cli("ZADD", "live", at_s + 60, "a", at_s + 90, "b", at_s - 1, "over")
    redis.cli("SADD", "members", "a", "b", "c")
    redis.cli("HSET", "table", "a", "1", "b", "2")
    for number in range(40):
        redis.cli("SET", f"session:agents:{number}", "x", "PX", 60_000 if number < 25 else 1)
        redis.cli("SET", f"session:other:{number}", "x")
    wanted = {"live": 2, "members": 3, "table": 2, "session:agents:*": 25, "session:*:1": 2, "none": 0, "none:*": 0}
    async with source_of(settings_of(redis, tmp_path, session_scores="expires_s")) as source:
        subjects = [subject_of(name, role="sessions") for name in wanted]
        found = await read(source, *subjects, at_s=at_s)
    counts = [readings[ReadingName.SESSIONS] for readings in found]
    assert counts == [Sample(count, at_s) for count in wanted.values()]
    assert len(redis.cli("KEYS", "session:agents:*").split()) == 25


async def test_a_database_too_large_to_walk_over_is_missing(redis: Redis, tmp_path: Path) -> None:
    redis.cli("MSET", *(part for number in range(20) for part in (f"session:{number}", "x")))
    async with source_of(settings_of(redis, tmp_path, max_keys=19)) as source:
        found = await values(source, subject_of("session:*", role="sessions"))
    assert "holds 20 keys, more than max_keys (19)" in str(found[ReadingName.SESSIONS])


@pytest.mark.parametrize(
    ("name", "group", "why"),
    [
        pytest.param("gone", "workers", "there is no such key", id="a stream that does not exist"),
        pytest.param("tasks", "gone", "the stream has no group 'gone'", id="a group that does not exist"),
        pytest.param("tasks", None, "name the group in backlogGroup", id="a stream without a group"),
        pytest.param("text", None, "it is a string", id="a key of another kind"),
        pytest.param("text", "workers", "it is a string", id="a key of another kind for a group"),
    ],
)
async def test_what_is_not_there_is_missing(
    redis: Redis, tmp_path: Path, name: str, group: str | None, why: str
) -> None:
    redis.cli("XADD", "tasks", "*", "k", "v")
    redis.cli("SET", "text", "x")
    async with source_of(settings_of(redis, tmp_path)) as source:
        assert why in await why_missing(source, name, group)


async def test_a_command_that_the_user_may_not_give_is_missing(redis: Redis, tmp_path: Path) -> None:
    redis.cli("RPUSH", "jobs", "a")
    redis.cli("ACL", "SETUSER", USER, "-llen")
    async with source_of(settings_of(redis, tmp_path)) as source:
        assert "no permissions to run the 'llen' command" in await why_missing(source, "jobs")


async def test_wrong_credentials_are_said_and_not_shown(
    redis: Redis, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    settings = {**settings_of(redis, tmp_path), **written(tmp_path, password="not this one")}
    async with source_of(settings) as source:
        why = await fails(source, subject_of("jobs"))
        assert "refused our credentials (" in why
        assert "not this one" not in why
        written(tmp_path, password=PASSWORD)  # renewed: read again for the next connection
        redis.cli("RPUSH", "jobs", "a")
        assert (await values(source, subject_of("jobs")))[ReadingName.BACKLOG] == 1
    assert "not this one" not in caplog.text
    assert PASSWORD not in caplog.text


async def test_a_server_that_is_down_comes_back_after_a_restart(redis: Redis, tmp_path: Path) -> None:
    redis.cli("RPUSH", "jobs", "a", "b")
    async with source_of(settings_of(redis, tmp_path)) as source:
        assert (await values(source, subject_of("jobs")))[ReadingName.BACKLOG] == 2
        redis.kill()
        assert "not reachable" in await fails(source, subject_of("jobs"))
        redis.up()
        assert (await values(source, subject_of("jobs")))[ReadingName.BACKLOG] == 2


async def test_a_server_that_says_nothing_is_given_up_and_asked_anew(redis: Redis, tmp_path: Path) -> None:
    redis.cli("RPUSH", "jobs", "a")
    async with source_of(settings_of(redis, tmp_path), timeout_s=0.5) as source:
        await backlog(source, "jobs")
        redis.pause()
        assert await fails(source, subject_of("jobs")) == "no answer within 0.5 s"
        assert await fails(source, subject_of("jobs")) == "no answer within 0.5 s"  # at the connection, now
        redis.resume()
        assert (await values(source, subject_of("jobs")))[ReadingName.BACKLOG] == 1


async def test_by_tls_the_server_must_be_who_it_says(tmp_path: Path) -> None:
    brokers_or_skip("redis-server", "redis-cli")
    certificates = Certificates(tmp_path / "pki")
    pair = certificates.issue("redis", common_name="localhost", hosts=("localhost", "127.0.0.1"))
    server = Redis(tmp_path, tls=pair, ca=certificates.ca)
    try:
        server.up().cli("RPUSH", "jobs", "a")
        async with source_of(settings_of(server, tmp_path, ca_file=str(certificates.ca))) as source:
            assert (await values(source, subject_of("jobs")))[ReadingName.BACKLOG] == 1
        async with source_of(settings_of(server, tmp_path)) as source:
            assert "CERTIFICATE_VERIFY_FAILED" in await fails(source, subject_of("jobs"))
    finally:
        server.kill()
