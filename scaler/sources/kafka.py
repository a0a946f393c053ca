"""Readings from Kafka: how far a consumer group is behind the ends of a topic's partitions.

A tick costs one Metadata request for all topics, one OffsetFetch a group and two ListOffsets a broker; groups and
brokers are asked all at once. Committed offsets come before the ends: a lag may be read a little too high, never too
low.
"""

import asyncio
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from scaler.backends import KafkaBackend
from scaler.signals.lag import Partition, group_lag
from scaler.signals.reading import Missing, Reading, ReadingName, Sample
from scaler.sources import Wiring
from scaler.sources.broker import Answer, BrokerSource, Question, nothing
from scaler.sources.kafka_cluster import EARLIEST, LATEST, Cluster, Numbered, Partitions


def connect(name: str, backend: KafkaBackend, wiring: Wiring) -> "KafkaSource":
    return KafkaSource(name, backend, timeout_s=wiring.timeout_s)


class KafkaSource(BrokerSource):
    """Provides `backlog`, the messages that the group has not committed, and `taken`.

    Kafka does not tell messages that wait from those in work: both are not committed, hence in the backlog, and what is
    taken beyond it is 0.
    """

    def __init__(self, name: str, backend: KafkaBackend, *, timeout_s: float = 5.0) -> None:
        super().__init__(name, backend, timeout_s=timeout_s)
        self._reset = backend.offset_reset
        self._cluster = Cluster(backend, timeout_s=timeout_s)

    async def _answer(self, questions: frozenset[Question], at_s: float) -> Mapping[Question, Answer]:
        asked = {q: q.place.group for q in questions if q.place.group is not None}
        topics = await self._cluster.leaders({q.place.name for q in asked}) if asked else {}
        led = {
            (topic, number): leader
            for topic, partitions in topics.items()
            if not isinstance(partitions, Missing)
            for number, leader in partitions.items()
            if not isinstance(leader, Missing)
        }
        positions = await self._positions(asked, led)
        known = await self._known(set(asked.values()), positions)
        answers = dict.fromkeys(questions, nothing("a topic by itself has no backlog: name the group in backlogGroup"))
        for question, group in asked.items():
            topic = question.place.name
            lag = self._lag(positions, known[group], at_s, topic=topic, leaders=topics[topic], group=group)
            nothing_more = lag if isinstance(lag, Missing) else Sample(0.0, at_s)
            answers[question] = Answer(
                readings={ReadingName.BACKLOG: lag, ReadingName.TAKEN: nothing_more},
                asked=f"kafka-consumer-groups --describe --group {group} | grep {topic}",
            )
        return answers

    async def _positions(self, asked: Mapping[Question, str], led: Mapping[Numbered, int]) -> "_Positions":
        topics: dict[str, set[str]] = {}
        for question, group in asked.items():
            topics.setdefault(group, set()).add(question.place.name)
        parts = {group: [part for part in led if part[0] in names] for group, names in topics.items()}
        groups = [group for group, partitions in parts.items() if partitions]
        committed = await asyncio.gather(*(self._cluster.committed(group, parts[group]) for group in groups))
        starts, ends = await asyncio.gather(self._cluster.offsets(led, EARLIEST), self._cluster.offsets(led, LATEST))
        return _Positions(committed=dict(zip(groups, committed, strict=True)), starts=starts, ends=ends)

    async def _known(self, groups: Iterable[str], positions: "_Positions") -> Mapping[str, bool | Missing]:
        """Whether the brokers have heard of each group: of those with a position they have."""
        known: dict[str, bool | Missing] = {group: positions.any_of(group) for group in groups}
        doubtful = sorted(group for group, has_position in known.items() if not has_position)
        return known | dict(zip(doubtful, await asyncio.gather(*map(self._cluster.knows, doubtful)), strict=True))

    def _lag(
        self,
        positions: "_Positions",
        known: bool | Missing,
        at_s: float,
        *,
        topic: str,
        leaders: Partitions | Missing,
        group: str,
    ) -> Reading:
        if isinstance(leaders, Missing):
            return leaders
        if isinstance(known, Missing):
            return known
        partitions = {
            number: leader if isinstance(leader, Missing) else positions.of(group, (topic, number))
            for number, leader in leaders.items()
        }
        return group_lag(partitions, self._reset, known=known, at_s=at_s)

    async def _drop(self) -> None:
        await self._cluster.close()


@dataclass(frozen=True, slots=True, kw_only=True)
class _Positions:
    """`committed`: by group."""

    committed: Mapping[str, Mapping[Numbered, int | Missing | None]]
    starts: Mapping[Numbered, int | Missing]
    ends: Mapping[Numbered, int | Missing]

    def any_of(self, group: str) -> bool:
        return any(isinstance(offset, int) for offset in self.committed.get(group, {}).values())

    def of(self, group: str, partition: Numbered) -> Partition | Missing:
        start, end = self.starts[partition], self.ends[partition]
        committed = self.committed[group].get(partition)
        if isinstance(start, Missing):
            return start
        if isinstance(end, Missing):
            return end
        return committed if isinstance(committed, Missing) else Partition(start=start, end=end, committed=committed)
