"""Replicas by P95 latency, sized with a queueing model; the measured P95 checks the model and is never the input.

Scaling in proportion to a latency error runs away while new replicas start: latency falls late, and requests that have
not ended are not in it. The model answers from arrivals and service time, which lead.
"""

from dataclasses import dataclass
from math import log
from typing import ClassVar, Final

from scaler.policy.base import MAX_REPLICAS, NOISE, Recommendation, Step, View, replicas_for, unknown
from scaler.policy.queue import IN_FLIGHT
from scaler.signals.queueing import sojourn_quantile, sojourn_tail
from scaler.signals.reading import ReadingName, Sample

LATE_SHARE: Final = 0.05
"""P95: one request in twenty may be late."""

REACH: Final = 0.9
"""Above this share of the longest service time that could meet the target, more replicas buy next to nothing: the time
in service alone makes 5 % late at share 1."""

UTILISATION: Final = 0.8
"""Busy share of the slots where the target is out of reach; the usual ceiling for a service with short queues."""


@dataclass(frozen=True, slots=True)
class Load:
    """What the model sees; `service_s` above 0, the rest 0 or more."""

    rate_per_s: float
    service_s: float
    running: float
    waiting: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Latency:
    """The fewest replicas with P(time from arrival to end > `p95_target_s`) <= 5 % in an M/M/c queue.

    c = replicas x `slots`. Beside the model: what waits now is worked off within one target time, and what runs now
    keeps its slots.
    """

    rule: ClassVar[str] = "latency"
    p95_target_s: float
    slots: int

    @property
    def reads(self) -> frozenset[str]:
        witnesses = (ReadingName.P95_S, ReadingName.OLDEST_WAIT_S)
        return frozenset({*IN_FLIGHT, ReadingName.ARRIVALS_PER_S, ReadingName.SERVICE_S, *witnesses})

    @property
    def longest_service_s(self) -> float:
        """The mean service time above which more than 5 % are late without any wait."""
        return self.p95_target_s / log(1 / LATE_SHARE)

    def recommend(self, view: View) -> Recommendation:
        arrivals, service = view.total(ReadingName.ARRIVALS_PER_S), view.total(ReadingName.SERVICE_S)
        queue, running = view.total(ReadingName.QUEUE), view.total(ReadingName.RUNNING)
        doubts = tuple(dict.fromkeys(arrivals.doubts + queue.doubts + running.doubts))
        waiting, in_service = queue.at_least or 0.0, running.at_least or 0.0
        if (arrivals.at_least or 0.0) + waiting + in_service < NOISE:  # at rest nothing ends: no service time is known
            if arrivals.at_least is queue.at_least is running.at_least is None:
                return unknown(self.rule, view, doubts)
            step = Step(self.rule, view.current, 0, "nothing arrives, waits or runs, as far as is known")
            return Recommendation(replicas=0, steps=(step,), doubts=doubts)
        doubts += service.doubts
        if service.at_least is None or arrivals.at_least is None:
            want = max(1, replicas_for(in_service, self.slots))
            why = f"sized by what runs alone: {in_service:g} requests, {self.slots} slots a replica"
            return Recommendation(replicas=want, steps=(Step(self.rule, view.current, want, why),), doubts=doubts)
        load = Load(arrivals.at_least, max(service.at_least, NOISE), running=in_service, waiting=waiting)
        steps = self._sized(view, load)
        return Recommendation(replicas=int(steps[-1].after or 0), steps=steps, doubts=doubts)

    def _sized(self, view: View, load: Load) -> tuple[Step, ...]:
        reachable_s = min(load.service_s, REACH * self.longest_service_s)
        want = self._fewest(load.rate_per_s, reachable_s)
        late = self._late(want, load.rate_per_s, reachable_s)
        why = (
            f"{load.rate_per_s:g} arrivals/s of {load.service_s:g} s each, {self.slots} slots a replica: "
            f"{late:.2%} would end later than {self.p95_target_s:g} s"
        )
        steps = [Step(self.rule, view.current, want, why)]

        def at_least(rule: str, replicas: int, why: str) -> None:
            before = int(steps[-1].after or 0)
            if replicas > before:
                steps.append(Step(rule, before, replicas, why))

        if load.service_s > reachable_s:
            why = (
                f"p95Target {self.p95_target_s:g} s is out of reach: {load.service_s:g} s of service each, and at most "
                f"{reachable_s:.3g} s leave room for a wait; sized for {UTILISATION:.0%} busy slots"
            )
            by_use = replicas_for(load.rate_per_s * load.service_s, self.slots * UTILISATION)
            steps.append(Step("utilisation", want, max(want, by_use), why))
        servers = load.rate_per_s * load.service_s + load.waiting * load.service_s / self.p95_target_s
        why = f"{load.waiting:g} requests wait now, to be worked off within {self.p95_target_s:g} s"
        at_least("backlog", replicas_for(servers, self.slots), why)
        why = f"{load.running:g} requests run, {self.slots} slots a replica"
        at_least("in-flight", max(1, replicas_for(load.running, self.slots)), why)
        return (*steps, *self._check(view, load, int(steps[-1].after or 0)))

    def _late(self, replicas: int, rate_per_s: float, service_s: float) -> float:
        """Share of requests that end later than the target."""
        servers = replicas * self.slots
        return sojourn_tail(self.p95_target_s, arrivals_per_s=rate_per_s, service_s=service_s, servers=servers)

    def _fewest(self, rate_per_s: float, service_s: float) -> int:
        """The fewest replicas at which at most 5 % are late: doubling strides, then halving."""
        high = max(1, replicas_for(rate_per_s * service_s, self.slots))
        low, stride = high - 1, 1
        while high < MAX_REPLICAS and self._late(high, rate_per_s, service_s) > LATE_SHARE:
            low, high, stride = high, min(MAX_REPLICAS, high + stride), 2 * stride
        while high - low > 1:
            middle = (low + high) // 2
            low, high = (middle, high) if self._late(middle, rate_per_s, service_s) > LATE_SHARE else (low, middle)
        return high

    def _check(self, view: View, load: Load, want: int) -> tuple[Step, ...]:
        """Model against measurement at the replicas that run now; where requests are late, these are not lowered."""
        seen, now = _latest(view), view.current
        if seen is None or not now or load.service_s > REACH * self.longest_service_s:
            return ()
        told, late = seen[1], seen[0] > self.p95_target_s
        if late == (self._late(now, load.rate_per_s, load.service_s) > LATE_SHARE):
            return ()
        expected_s = sojourn_quantile(
            1 - LATE_SHARE, arrivals_per_s=load.rate_per_s, service_s=load.service_s, servers=now * self.slots
        )
        why = f"{told}, the model says {expected_s:.3g} s at {now} replicas"
        if late and want < now:
            return (Step("p95-check", want, now, f"{why}: not lowered while requests are late"),)
        return (Step("p95-check", want, want, why),)


def _latest(view: View) -> tuple[float, str] | None:
    """How late requests are [s], and who says so: the measured P95 or the request that has waited longest.

    The P95 is of requests that ended: under overload the late ones are still in line, and it looks well until they come
    out. None where neither is known.
    """
    p95, oldest = view.readings[ReadingName.P95_S], view.readings[ReadingName.OLDEST_WAIT_S]
    known = [(p95.value, f"P95 is {p95.value:g} s")] if isinstance(p95, Sample) else []
    if isinstance(oldest, Sample):
        known.append((oldest.value, f"a request has waited for {oldest.value:g} s"))
    return max(known, default=None)
