"""The source against a real Kafka, its numbers beside those of kafka-consumer-groups."""

import asyncio
import logging
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, NewTopic, RecordsToDelete

from scaler.signals.reading import Missing, ReadingName, Sample
from tests.e2e.parts.certificates import Certificates
from tests.e2e.parts.kafka import PASSWORD, USER, Kafka
from tests.e2e.parts.tools import brokers_or_skip
from tests.integration.places import backlog, fails, read, source_of, subject_of, values, why_missing, written

pytestmark = [pytest.mark.integration, pytest.mark.timeout(300)]


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    return Certificates(tmp_path_factory.mktemp("pki"))


@pytest.fixture(scope="module")
def broker(certificates: Certificates, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Kafka]:
    tools = brokers_or_skip("java", jars="kafka")
    pair = certificates.issue("kafka", common_name="localhost", hosts=("localhost", "127.0.0.1"))
    running = Kafka(tools, tmp_path_factory.mktemp("kafka"), pair)
    try:
        yield running.up()
    finally:
        running.kill()


def settings_of(broker: Kafka, **others: object) -> dict[str, object]:
    return {"kind": "kafka", "servers": [broker.servers], **others}


@asynccontextmanager
async def admin(broker: Kafka) -> AsyncIterator[Any]:
    client = AIOKafkaAdminClient(bootstrap_servers=broker.servers)
    await client.start()
    try:
        yield client
    finally:
        await client.close()


async def fill(broker: Kafka, topic: str, *messages: int) -> None:
    """A topic of as many partitions as numbers are given, with so many messages in each."""
    async with admin(broker) as client:
        await client.create_topics([NewTopic(topic, len(messages), 1)])
    async with AIOKafkaProducer(bootstrap_servers=broker.servers) as producer:
        for partition, count in enumerate(messages):
            for _ in range(count):
                await producer.send(topic, b"x", partition=partition)
        await producer.flush()


async def commit(broker: Kafka, group: str, topic: str, offsets: Mapping[int, int]) -> None:
    consumer = AIOKafkaConsumer(bootstrap_servers=broker.servers, group_id=group, enable_auto_commit=False)
    await consumer.start()
    try:
        places = {TopicPartition(topic, number): offset for number, offset in offsets.items()}
        consumer.assign(list(places))
        await consumer.commit(places)
    finally:
        await consumer.stop()


async def test_a_group_lags_as_kafka_says(broker: Kafka) -> None:
    await fill(broker, "tasks", 10, 20, 30)
    await commit(broker, "workers", "tasks", {0: 10, 1: 5, 2: 1})
    async with source_of(settings_of(broker)) as source:
        found = await values(source, subject_of("tasks", "workers"))
    assert found == {ReadingName.BACKLOG: broker.lag("workers", "tasks"), ReadingName.TAKEN: 0}
    assert found["backlog"] == 0 + 15 + 29


async def test_all_groups_and_topics_of_a_tick_are_asked_together(broker: Kafka) -> None:
    for number in range(4):
        await fill(broker, f"many-{number}", 5, 5)
        await commit(broker, f"group-{number}", f"many-{number}", {0: number, 1: 5})
    async with source_of(settings_of(broker)) as source:
        found = await read(source, *(subject_of(f"many-{number}", f"group-{number}") for number in range(4)))
    counts = [readings[ReadingName.BACKLOG] for readings in found]
    assert [reading.value for reading in counts if isinstance(reading, Sample)] == [5, 4, 3, 2]


async def test_where_nothing_is_committed_the_reset_policy_says_what_waits(broker: Kafka) -> None:
    await fill(broker, "half", 10, 20, 0)
    await commit(broker, "half", "half", {0: 4})
    async with source_of(settings_of(broker, offset_reset="earliest")) as source:
        assert await values(source, subject_of("half", "half")) == {"backlog": 26, "taken": 0}
    async with source_of(settings_of(broker, offset_reset="latest")) as source:
        assert await values(source, subject_of("half", "half")) == {"backlog": 6, "taken": 0}
    async with source_of(settings_of(broker)) as source:
        found = await backlog(source, "half", "half")
    assert isinstance(found, Sample)
    assert found.value == 6 == broker.lag("half", "half")  # Kafka's own tool leaves it out
    assert found.doubt is not None
    assert found.doubt.startswith("1 of 3 partitions are not known (partition 1: nothing is committed")


async def test_an_offset_that_retention_has_passed_follows_the_reset_policy(broker: Kafka) -> None:
    await fill(broker, "old", 10)
    await commit(broker, "old", "old", {0: 2})
    async with admin(broker) as client:
        await client.delete_records({TopicPartition("old", 0): RecordsToDelete(before_offset=6)})
    for reset, waiting in (("earliest", 4), ("latest", 0)):
        async with source_of(settings_of(broker, offset_reset=reset)) as source:
            assert await values(source, subject_of("old", "old")) == {"backlog": waiting, "taken": 0}
    async with source_of(settings_of(broker)) as source:
        assert "what is committed is not there any more" in await why_missing(source, "old", "old")


async def test_a_group_that_nobody_knows(broker: Kafka) -> None:
    await fill(broker, "fresh", 3)
    async with source_of(settings_of(broker, offset_reset="earliest")) as source:
        assert await values(source, subject_of("fresh", "first")) == {"backlog": 3, "taken": 0}  # before its first pod
    for others in ({"offset_reset": "latest"}, {}):
        async with source_of(settings_of(broker, **others)) as source:
            assert "know no such group" in await why_missing(source, "fresh", "first")


async def test_a_topic_that_is_not_there_is_missing_and_not_made(broker: Kafka) -> None:
    async with source_of(settings_of(broker, offset_reset="earliest")) as source:
        assert await why_missing(source, "gone", "workers") == "there is no such topic"
        await fill(broker, "deleted", 3)
        assert await values(source, subject_of("deleted", "workers")) == {"backlog": 3, "taken": 0}
        async with admin(broker) as client:
            await client.delete_topics(["deleted"])
        assert await why_missing(source, "deleted", "workers") == "there is no such topic"
        assert "more than max_partitions" not in await why_missing(source, "gone", "workers")
    listed = broker.tool("org.apache.kafka.tools.TopicCommand", "--bootstrap-server", broker.servers, "--list")
    assert "gone" not in listed.split()


async def test_what_cannot_be_asked_is_missing(broker: Kafka) -> None:
    await fill(broker, "wide", 0, 0, 0)
    async with source_of(settings_of(broker, max_partitions=2)) as source:
        assert "3 partitions, more than max_partitions (2)" in await why_missing(source, "wide", "workers")
        assert "name the group in backlogGroup" in await why_missing(source, "wide")
        assert "INVALID_TOPIC" in await why_missing(source, "not/a/topic", "workers")


@pytest.mark.parametrize("sasl", ["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"])
async def test_logins(
    broker: Kafka, certificates: Certificates, tmp_path: Path, caplog: pytest.LogCaptureFixture, *, sasl: str
) -> None:
    caplog.set_level(logging.DEBUG)
    by_tls = sasl != "PLAIN"
    address = [broker.sasl_tls if by_tls else broker.sasl]
    secured = {"tls": True, "ca_file": str(certificates.ca)} if by_tls else {}
    login = {"servers": address, "sasl": sasl, **secured, **written(tmp_path, username=USER, password="not this one")}
    async with source_of(settings_of(broker, **login)) as source:
        why = await fails(source, subject_of("gone", "workers"))
        assert "refused our credentials (SaslAuthenticationFailed)" in why
        assert "not this one" not in why
        written(tmp_path, password=PASSWORD)
        assert await why_missing(source, "gone", "workers") == "there is no such topic"
    assert "not this one" not in caplog.text
    assert PASSWORD not in caplog.text


async def test_by_tls_the_broker_must_be_who_it_says(broker: Kafka, tmp_path: Path) -> None:
    files = written(tmp_path, username=USER, password=PASSWORD)
    login = {"servers": [broker.sasl_tls], "sasl": "SCRAM-SHA-256", "tls": True, **files}
    async with source_of(settings_of(broker, **login)) as source:
        assert "CERTIFICATE_VERIFY_FAILED" in await fails(source, subject_of("gone", "workers"))


async def test_a_broker_that_says_nothing_is_given_up_and_asked_anew(broker: Kafka) -> None:
    await fill(broker, "quiet", 2)
    async with source_of(settings_of(broker, offset_reset="earliest"), timeout_s=1.0) as source:
        await backlog(source, "quiet", "workers")
        broker.pause()
        try:
            assert "no answer within" in await fails(source, subject_of("quiet", "workers"))
            assert "no answer within" in await fails(source, subject_of("quiet", "workers"))
        finally:
            broker.resume()
        assert await values(source, subject_of("quiet", "workers")) == {"backlog": 2, "taken": 0}


async def test_a_broker_that_is_down_comes_back_after_a_restart(broker: Kafka) -> None:
    await fill(broker, "kept", 7)
    await commit(broker, "kept", "kept", {0: 3})
    async with source_of(settings_of(broker)) as source:
        assert await values(source, subject_of("kept", "kept")) == {"backlog": 4, "taken": 0}
        broker.kill()
        assert "not reachable" in await fails(source, subject_of("kept", "kept"))
        broker.up()
        found: Sample | Missing = Missing("not asked")
        for _ in range(20):  # the group's coordinator reads its log first
            found = await backlog(source, "kept", "kept")
            if isinstance(found, Sample):
                break
            await asyncio.sleep(0.5)
        assert found == Sample(4, found.at_s if isinstance(found, Sample) else 0.0)
    assert broker.lag("kept", "kept") == 4
