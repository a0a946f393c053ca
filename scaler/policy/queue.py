"""Replicas by requests: those that wait and those in service, as items or as seconds of work.

The queue alone reads 0 when every replica is perfectly loaded, and would then scale in; what is in service is demand
as much as what waits.
"""

from dataclasses import dataclass
from typing import ClassVar

from scaler.policy.base import Recommendation, View, recommend, replicas_for, unknown
from scaler.signals.reading import ReadingName
from scaler.signals.signal import Signal

IN_FLIGHT = (ReadingName.QUEUE, ReadingName.RUNNING)
MESSAGES = (ReadingName.BACKLOG, ReadingName.TAKEN)
"""The same of a message queue: what waits there, and what its consumers have taken and not done."""


@dataclass(frozen=True, slots=True, kw_only=True)
class QueueItems:
    """ceil((waiting + in service) / `per_replica`). `of`: the readings of both."""

    rule: ClassVar[str] = "queue"
    per_replica: float
    of: tuple[str, str] = IN_FLIGHT

    @property
    def reads(self) -> frozenset[str]:
        return frozenset(self.of)

    def recommend(self, view: View) -> Recommendation:
        in_flight = view.total(*self.of)
        if in_flight.at_least is None:
            return unknown(self.rule, view, in_flight.doubts)
        want = replicas_for(in_flight.at_least, self.per_replica)
        why = f"{in_flight.at_least:g} requests wait or run, {self.per_replica:g} a replica"
        return recommend(self.rule, view, in_flight, want, why)


@dataclass(frozen=True, slots=True, kw_only=True)
class QueueSeconds:
    """Slots for all that runs, and as many more as work off the queue within `work_s`.

    ceil((in service + waiting x service time / work_s) / slots).
    `of`: the readings of what waits and of what is served.
    """

    rule: ClassVar[str] = "queue"
    work_s: float
    slots: int
    of: tuple[str, str] = IN_FLIGHT

    @property
    def reads(self) -> frozenset[str]:
        return frozenset({*self.of, ReadingName.SERVICE_S})

    def recommend(self, view: View) -> Recommendation:
        queue, running = (view.total(name) for name in self.of)
        doubts = queue.doubts + running.doubts
        if queue.at_least is None and running.at_least is None:
            return unknown(self.rule, view, doubts)
        waiting, in_service = queue.at_least or 0.0, running.at_least or 0.0
        servers, why = in_service, f"{in_service:g} requests run"
        if waiting > 0:
            service = view.total(ReadingName.SERVICE_S)
            doubts += service.doubts
            if service.at_least is None:
                servers, why = servers + 1, f"{why}, {waiting:g} wait, for how long is not known"
            else:
                servers += waiting * service.at_least / self.work_s
                each = f"{service.at_least:g} s of work each"
                why = f"{why}, {waiting:g} wait with {each}, {self.work_s:g} s to work it off"
        want = replicas_for(servers, self.slots)
        return recommend(self.rule, view, Signal(servers, doubts), want, f"{why}, {self.slots} slots a replica")
