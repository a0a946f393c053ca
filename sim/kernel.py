"""The event queue: one total order for everything that happens outside the engines."""

from dataclasses import dataclass, field
from enum import IntEnum
from heapq import heappop, heappush
from itertools import count
from typing import Generic, TypeVar

Event = TypeVar("Event")


class Rank(IntEnum):
    """Who goes first at one instant. Engines are advanced to an instant before any of these happens there."""

    POD = 0  #: a pod changes state: bound, started, ready, killed
    SCRAPE = 1  #: Prometheus scrapes what the engines show now
    SCALER = 2  #: the scaler's own tick reads what was scraped
    KEDA = 3  #: KEDA polls the scaler
    HPA = 4  #: the HPA asks KEDA's metrics server
    SCHEDULER = 5  #: kube-scheduler works on its queue
    REPORT = 6  #: a row of the report's time line


@dataclass(slots=True)
class Kernel(Generic[Event]):
    """Events in the order of (time, rank, sequence); sequence breaks ties in the order of scheduling."""

    now_s: float = 0.0
    _queue: list[tuple[float, Rank, int, Event]] = field(default_factory=list)
    _sequence: "count[int]" = field(default_factory=count)

    def at(self, time_s: float, rank: Rank, event: Event) -> None:
        if not time_s >= self.now_s:  # also refuses NaN
            raise ValueError(f"an event at {time_s} s would lie before the present, {self.now_s} s: {event}")
        heappush(self._queue, (time_s, rank, next(self._sequence), event))

    def next_s(self) -> float | None:
        """When the next event is due; None when there is none."""
        return self._queue[0][0] if self._queue else None

    def pop(self) -> Event:
        """The next event; the present moves to its time. `IndexError` when the queue is empty."""
        self.now_s, _, _, event = heappop(self._queue)
        return event
