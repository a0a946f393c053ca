"""From a message in a real broker to the answer that KEDA gets: trigger, settings, source, decision."""

from collections.abc import Iterator
from pathlib import Path

import grpc
import pytest

from tests.e2e.parts.redis import PASSWORD, USER, Redis
from tests.e2e.parts.tools import brokers_or_skip
from tests.integration.places import written
from tests.scaler.serving import Served, ask, house, ref, refused

pytestmark = [pytest.mark.integration, pytest.mark.timeout(120)]
KEYS = {
    "scalerAddress": "scaler:9090",
    "queuePerReplica": "4",
    "backlogBackend": "tasks",
    "backlogName": "agents.tasks",
    "sessionsPerReplica": "2",
    "sessionsBackend": "tasks",
    "sessionsKey": "agents.session.*",
    "stabilizationDown": "0s",
}


@pytest.fixture
def redis(tmp_path: Path) -> Iterator[Redis]:
    brokers_or_skip("redis-server", "redis-cli")
    server = Redis(tmp_path)
    try:
        yield server.up()
    finally:
        server.kill()


def backends(redis: Redis, folder: Path) -> dict[str, object]:
    login = written(folder, username=USER, password=PASSWORD)
    tasks = {"kind": "redis", "url": redis.url, "names": ["{namespace}.*"], "in_work": "{name}.processing", **login}
    return {"tasks": {**tasks, "namespaces": ["agents"]}}


async def replicas(served: Served, **others: str) -> float:
    """The answer for a trigger that has not been seen before: what is in the broker now."""
    answer = await served.keda.GetMetrics(ask({**KEYS, **others}))
    return float(answer.metricValues[0].metricValueFloat)


async def test_messages_taken_messages_and_sessions_each_ask_for_replicas(redis: Redis, tmp_path: Path) -> None:
    async with house(backends=backends(redis, tmp_path)) as served:
        redis.cli("RPUSH", "agents.tasks", *range(9))
        redis.cli("RPUSH", "agents.tasks.processing", *range(4))
        assert await replicas(served, maxReplicas="101") == 4  # 13 messages, 4 a replica
        for number in range(11):
            redis.cli("SET", f"agents.session.{number}", "x")
        assert await replicas(served, maxReplicas="102") == 6  # 11 sessions, 2 a replica


async def test_a_broker_that_is_gone_lowers_nothing(redis: Redis, tmp_path: Path) -> None:
    async with house(backends=backends(redis, tmp_path), first_answer_s=10.0) as served:
        assert await replicas(served, maxReplicas="101") == 0  # nothing waits, nobody is there
        redis.kill()
        assert await replicas(served, maxReplicas="102") == 3  # what runs


async def test_a_name_of_another_tenant_is_refused_with_the_rule(redis: Redis, tmp_path: Path) -> None:
    async with house(backends=backends(redis, tmp_path)) as served:
        code, why = await refused(served.keda.IsActive(ref({**KEYS, "backlogName": "eval.tasks"})))
        assert code == grpc.StatusCode.INVALID_ARGUMENT
        assert "trigger metadata 'backlogName': namespace 'agents' may name agents.* there (got 'eval.tasks')" in why
        code, why = await refused(served.keda.IsActive(ref(KEYS, namespace="eval")))
        assert code == grpc.StatusCode.INVALID_ARGUMENT
        assert "for namespace 'eval' this server knows none (got 'tasks')" in why
