"""What a Kafka cluster may answer: connections that a test scripts, so that a cluster has brokers that fail."""

import asyncio
from collections.abc import Callable
from typing import Any

import pytest
from aiokafka import errors
from aiokafka.protocol.admin import ListGroupsRequest, ListGroupsResponse_v1
from aiokafka.protocol.commit import OffsetFetchRequest, OffsetFetchResponse_v3
from aiokafka.protocol.coordination import FindCoordinatorRequest, FindCoordinatorResponse_v1
from aiokafka.protocol.metadata import MetadataRequest, MetadataResponse_v5
from aiokafka.protocol.offset import OffsetRequest, OffsetResponse_v3

from scaler.backends import KafkaBackend
from scaler.signals.reading import Missing, Reading, ReadingName, Sample
from scaler.sources import kafka_cluster
from scaler.sources.base import Place, SourceError, Subject
from scaler.sources.kafka import KafkaSource
from scaler.sources.kafka_cluster import EARLIEST

AT_S = 1000.0
TOPIC, GROUP = "tasks", "workers"
NO_LEADER = -1


class Brokers:
    """Three brokers, b1 to b3. The topic has a partition for each of `leaders`, with 10 messages of which 4 are done.

    `coordinator`: who leads the group. `down`, `hangs`: brokers that refuse connections, or say nothing. `codes`: by
    kind of request, errors that are said once each.
    """

    def __init__(self, *leaders: int) -> None:
        self.leaders = leaders
        self.coordinator = 1
        self.topic_code = 0
        self.groups: list[tuple[str, str]] = []
        self.committed: int = 4
        self.down: set[str] = set()
        self.hangs: set[str] = set()
        self.codes: dict[str, list[int]] = {}
        self.sent: list[tuple[str, str]] = []
        self.opened: list[str] = []
        self.refuses: Exception | None = None

    async def open(self, host: str, port: int, **_: object) -> "Connection":
        assert port == 9092
        self.opened.append(host)
        if host in self.down:
            raise ConnectionRefusedError(111, "refused")
        if self.refuses is not None:
            raise self.refuses
        return Connection(host, self)

    def code(self, kind: str) -> int:
        codes = self.codes.get(kind, [])
        return codes.pop(0) if codes else 0

    def metadata(self, request: Any) -> Any:  # noqa: ANN401  # messages are untyped
        assert request._allow_auto_topic_creation is False
        nodes = [(number, f"b{number}", 9092, None) for number in (1, 2, 3)]
        partitions: list[Any] = [(0, number, leader, [], [], []) for number, leader in enumerate(self.leaders)]
        return MetadataResponse_v5(0, nodes, "cluster", 1, [(self.topic_code, TOPIC, False, partitions)])

    def coordinators(self, _: object) -> Any:  # noqa: ANN401
        code = self.code("coordinator")
        return FindCoordinatorResponse_v1(0, code, None, self.coordinator, "", 0)

    def offset_fetch(self, request: Any) -> Any:  # noqa: ANN401
        code, of_partition = self.code("commit"), self.code("commit of a partition")
        ((topic, numbers),) = request._partitions
        offsets = [(number, self.committed, "", of_partition if number == 0 else 0) for number in numbers]
        return OffsetFetchResponse_v3(0, [(topic, offsets)], code)

    def offsets(self, request: Any) -> Any:  # noqa: ANN401
        ((topic, asked),) = request._topics
        code = self.code("offsets")
        told = [(number, code, -1, 0 if which == EARLIEST else 10) for number, which in asked]
        return OffsetResponse_v3(0, [(topic, told)])

    def listed(self, _: object) -> Any:  # noqa: ANN401
        return ListGroupsResponse_v1(0, self.code("groups"), self.groups)


ANSWERS: dict[type, Callable[[Brokers, Any], Any]] = {
    MetadataRequest: Brokers.metadata,
    FindCoordinatorRequest: Brokers.coordinators,
    OffsetFetchRequest: Brokers.offset_fetch,
    OffsetRequest: Brokers.offsets,
    ListGroupsRequest: Brokers.listed,
}


class Connection:
    def __init__(self, host: str, brokers: Brokers) -> None:
        self._host, self._brokers = host, brokers
        self._open = True

    def connected(self) -> bool:
        return self._open

    def close(self) -> None:
        self._open = False

    async def send(self, request: object) -> Any:  # noqa: ANN401
        self._brokers.sent.append((self._host, type(request).__name__))
        if self._host in self._brokers.down:
            raise errors.KafkaConnectionError("closed")
        if self._host in self._brokers.hangs:
            raise TimeoutError
        await asyncio.sleep(0)
        return ANSWERS[type(request)](self._brokers, request)


@pytest.fixture
def brokers(monkeypatch: pytest.MonkeyPatch) -> Brokers:
    brokers = Brokers(1, 2, 3)
    monkeypatch.setattr(kafka_cluster, "create_conn", brokers.open)
    return brokers


def source_of(**settings: Any) -> KafkaSource:  # noqa: ANN401
    backend = KafkaBackend(kind="kafka", servers=("b1:9092", "b2:9092"), names=("*",), **settings)
    return KafkaSource("messages", backend, timeout_s=5.0)


async def lag(source: KafkaSource, group: str | None = GROUP, topic: str = TOPIC) -> Reading:
    subject = Subject(
        namespace="agents",
        scaled_object="w",
        workload="w",
        backend="default",
        preset="vllm",
        window_s=60.0,
        max_age_s=60.0,
        backlog=Place(backend="messages", name=topic, group=group),
    )
    readings = (await source.read({subject: source.provides(subject)}, AT_S))[subject].readings
    backlog, taken = readings[ReadingName.BACKLOG], readings[ReadingName.TAKEN]
    assert taken == (backlog if isinstance(backlog, Missing) else Sample(0, AT_S))
    return backlog


def doubt(reading: Reading) -> str:
    assert isinstance(reading, Sample)
    return reading.doubt or ""


async def test_each_broker_is_asked_for_the_partitions_that_it_leads(brokers: Brokers) -> None:
    source = source_of()
    assert await lag(source) == Sample(18, AT_S)
    assert sorted(host for host, kind in brokers.sent if kind == "OffsetRequest") == [
        "b1",
        "b1",
        "b2",
        "b2",
        "b3",
        "b3",
    ]
    before = len(brokers.sent)
    assert await lag(source) == Sample(18, AT_S)
    assert sorted(brokers.opened) == ["b1", "b2", "b3"]  # connections are kept
    assert "FindCoordinatorRequest" not in {kind for _, kind in brokers.sent[before:]}  # and so is who leads the group
    await source.close()


async def test_a_partition_without_a_leader_leaves_a_doubt(brokers: Brokers) -> None:
    brokers.leaders = (1, NO_LEADER, 3)
    found = await lag(source_of())
    assert isinstance(found, Sample)
    assert (found.value, doubt(found)) == (12, "1 of 3 partitions are not known (partition 1: it has no leader now)")


async def test_a_broker_that_is_down_costs_its_partitions_alone(brokers: Brokers) -> None:
    brokers.down = {"b3"}
    found = await lag(source_of())
    assert isinstance(found, Sample)
    assert found.value == 12
    assert "partition 2: its leader, broker 3, was not asked: not reachable (ConnectionRefusedError" in doubt(found)


async def test_a_broker_that_hangs_is_asked_over_a_new_connection(brokers: Brokers) -> None:
    source = source_of()
    brokers.hangs = {"b2"}
    assert "broker 2, was not asked: no answer within 4 s" in doubt(await lag(source))
    brokers.hangs = set()
    assert await lag(source) == Sample(18, AT_S)
    assert brokers.opened.count("b2") > brokers.opened.count("b3")


async def test_a_broker_that_hangs_costs_one_time_out_a_reading_and_is_asked_last(brokers: Brokers) -> None:
    source = source_of()
    brokers.hangs, brokers.coordinator = {"b1"}, 2
    for _ in range(2):
        brokers.sent.clear()
        assert "partition 0: its leader, broker 1, was not asked" in doubt(await lag(source))
        assert [host for host, _ in brokers.sent].count("b1") <= 2  # two offsets at once, or who leads
    assert brokers.sent[0] == ("b2", "MetadataRequest")


async def test_the_first_server_may_be_down(brokers: Brokers) -> None:
    brokers.down, brokers.leaders, brokers.coordinator = {"b1"}, (2, 2, 3), 2
    assert await lag(source_of()) == Sample(18, AT_S)


async def test_a_cluster_that_is_down_says_what_each_server_said(brokers: Brokers) -> None:
    brokers.down = {"b1", "b2", "b3"}
    with pytest.raises(SourceError, match=r"^b1:9092: not reachable \(ConnectionRefused.*; b2:9092: not reachable"):
        await lag(source_of())


@pytest.mark.parametrize(
    ("refusal", "why"),
    [
        pytest.param(
            errors.SaslAuthenticationFailed("bad"), "refused our credentials (SaslAuth", id="a wrong password"
        ),
        pytest.param(errors.UnsupportedSaslMechanismError("x"), "refused our credentials (Unsupp", id="no such login"),
        pytest.param(errors.IncompatibleBrokerVersion("old"), "not reachable (Incompat", id="a broker of old"),
        pytest.param(AssertionError("5 < 3"), "does not speak Kafka as we do (AssertionError: 5 < 3)", id="no Kafka"),
        pytest.param(TimeoutError(), "no answer within 4 s", id="silence"),
    ],
)
async def test_what_ends_the_reading(brokers: Brokers, refusal: Exception, why: str) -> None:
    brokers.refuses = refusal
    with pytest.raises(SourceError) as failure:
        await lag(source_of())
    assert why in str(failure.value)


@pytest.mark.parametrize(
    ("code", "why"),
    [
        pytest.param(3, "there is no such topic", id="unknown"),
        pytest.param(29, "the brokers say TOPIC_AUTHORIZATION_FAILED of this topic", id="not ours to look at"),
    ],
)
async def test_a_topic_that_cannot_be_seen_is_missing(brokers: Brokers, code: int, why: str) -> None:
    brokers.topic_code = code
    assert await lag(source_of(offset_reset="earliest")) == Missing(why)


async def test_a_topic_of_too_many_partitions_is_missing(brokers: Brokers) -> None:
    assert await lag(source_of(max_partitions=2)) == Missing("the topic has 3 partitions, more than max_partitions (2)")


async def test_a_topic_that_the_answer_leaves_out_is_missing(brokers: Brokers) -> None:
    assert await lag(source_of(), topic="other") == Missing("the brokers do not speak of this topic")


async def test_no_group(brokers: Brokers) -> None:
    found = await lag(source_of(), group=None)
    assert found == Missing("a topic by itself has no backlog: name the group in backlogGroup")
    assert brokers.sent == []


@pytest.mark.parametrize(
    ("codes", "lag_of"),
    [
        pytest.param([16], 18, id="the coordinator has moved: the new one is asked"),
        pytest.param([14, 14], "the group's coordinator says COORDINATOR_LOAD_IN_PROGRESS", id="it is still loading"),
        pytest.param([30], "the group's coordinator says GROUP_AUTHORIZATION_FAILED", id="not ours to look at"),
    ],
)
async def test_what_a_coordinator_says(brokers: Brokers, codes: list[int], lag_of: float | str) -> None:
    brokers.codes = {"commit": codes, "groups": list(codes)}
    found = await lag(source_of())
    if isinstance(lag_of, str):
        assert isinstance(found, Missing)
    else:
        assert found == Sample(lag_of, AT_S)


async def test_a_group_without_a_coordinator_is_missing(brokers: Brokers) -> None:
    brokers.codes = {"coordinator": [15, 15]}
    found = await lag(source_of())
    assert isinstance(found, Missing)
    assert found.why.startswith("the group has no coordinator now (")


async def test_a_coordinator_that_is_down_is_missing_and_looked_up_again(brokers: Brokers) -> None:
    brokers.coordinator, brokers.leaders = 3, (1, 2, 2)
    source = source_of()
    brokers.down = {"b3"}
    found = await lag(source)
    assert isinstance(found, Missing)
    assert "the group's coordinator was not asked: not reachable" in found.why
    brokers.coordinator = 2
    assert await lag(source) == Sample(18, AT_S)


async def test_an_error_of_one_partition_leaves_a_doubt(brokers: Brokers) -> None:
    brokers.codes = {"commit of a partition": [45]}
    assert "partition 0: its coordinator says" in doubt(await lag(source_of()))
    brokers.codes = {"offsets": [6]}
    assert "its leader says NOT_LEADER_FOR_PARTITION" in doubt(await lag(source_of()))


@pytest.mark.parametrize(
    ("groups", "reset", "lag_of"),
    [
        pytest.param([], "earliest", Sample(30, AT_S), id="a group that nobody knows, from the start"),
        pytest.param([], "latest", None, id="a group that nobody knows, from the end"),
        pytest.param([(GROUP, "consumer")], "latest", Sample(0, AT_S), id="a group that has joined, from the end"),
        pytest.param([(GROUP, "consumer")], None, None, id="a group that has joined, of an unknown policy"),
    ],
)
async def test_a_group_that_has_committed_nothing(
    brokers: Brokers, groups: list[tuple[str, str]], reset: str | None, lag_of: Reading | None
) -> None:
    brokers.committed, brokers.groups = -1, groups
    found = await lag(source_of(offset_reset=reset))
    assert found == lag_of if lag_of is not None else isinstance(found, Missing)


async def test_whether_a_group_is_known_may_not_be_known(brokers: Brokers) -> None:
    brokers.committed, brokers.codes = -1, {"groups": [31]}
    found = await lag(source_of(offset_reset="earliest"))
    assert found == Missing("the group's coordinator says CLUSTER_AUTHORIZATION_FAILED")


async def test_addresses_of_version_6() -> None:
    assert kafka_cluster._address("::1", 9092) == "[::1]:9092"
