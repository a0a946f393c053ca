"""How many messages of a log a consumer group has before it, from positions in the log."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, Literal

from scaler.signals.reading import Missing, Reading, Sample

Reset = Literal["earliest", "latest"]
"""Where a group begins in a partition in which it has no position (Kafka's auto.offset.reset)."""

SHOWN: Final = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Partition:
    """Offsets in one partition.

    `start`: of the oldest message kept; `end`: of the next message to come; `committed`: of the next message that the
    group will take, None where it has committed nothing.
    """

    start: int
    end: int
    committed: int | None

    def waiting(self, reset: Reset | None) -> int | Missing:
        """Messages from the group's position to the end.

        A position outside of what is kept counts for nothing, as it does for a consumer: retention has deleted what
        stood there, or the topic was made anew.
        """
        if self.committed is not None and self.start <= self.committed <= self.end:
            return self.end - self.committed
        if self.start == self.end:
            return 0
        if reset is None:
            position = "nothing is committed" if self.committed is None else "what is committed is not there any more"
            return Missing(f"{position}, and the backend's offset_reset does not say where the group then begins")
        return self.end - self.start if reset == "earliest" else 0


def group_lag(
    partitions: Mapping[int, Partition | Missing], reset: Reset | None, *, known: bool, at_s: float
) -> Reading:
    """A group's messages over all partitions of a topic; with a doubt where some of them are not known.

    `known`: whether the brokers have heard of the group. One that nobody has heard of and that begins at the end would
    have no lag for ever, and so would a name with a typing error: that is missing, not 0.
    """
    if not partitions:
        return Missing("the topic has no partitions")
    if not known and reset != "earliest":
        return Missing("the brokers know no such group: nobody is in it, and nothing is committed")
    waiting: list[int] = []
    unknown: list[str] = []
    for number, partition in sorted(partitions.items()):
        count = partition if isinstance(partition, Missing) else partition.waiting(reset)
        if isinstance(count, Missing):
            unknown.append(f"partition {number}: {count.why}")
        else:
            waiting.append(count)
    if not unknown:
        return Sample(sum(waiting), at_s)
    more = f"; and {len(unknown) - SHOWN} more" if len(unknown) > SHOWN else ""
    why = f"{len(unknown)} of {len(partitions)} partitions are not known ({'; '.join(unknown[:SHOWN])}{more})"
    return Sample(sum(waiting), at_s, doubt=why) if waiting else Missing(why)


StreamId = tuple[int, int]
"""Of an entry in a Redis stream: milliseconds since 1970 when it was added, number within the millisecond."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StreamGroup:
    """A group's place in a Redis stream, as XINFO STREAM and XINFO GROUPS tell it.

    `length`: entries in the stream; `first`: id of the oldest, None in an empty stream; `last`: id of the newest that
    ever was; `delivered`: id of the last that the group got; `lag`: Redis' own count of those not delivered yet, None
    where it does not know it: entries were deleted from the middle, the group's position was set by hand, or Redis is
    older than 7.0 (redis.io/commands/xinfo-groups).
    """

    length: int
    first: StreamId | None
    last: StreamId
    delivered: StreamId
    lag: int | None

    def undelivered(self) -> int | Missing:
        """Entries that the group has not got yet; computed where Redis' own count is lacking, if it can be."""
        if self.lag is not None:
            return self.lag
        if self.first is None or self.delivered >= self.last:
            return 0
        if self.delivered < self.first:
            return self.length
        return Missing(
            "Redis does not know the group's lag (entries were deleted from the stream, or the group's position was "
            f"set); at most {self.length} entries wait"
        )
