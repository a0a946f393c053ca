"""What the extender says of itself: its metrics, and one event for each thing that it did."""

from collections import Counter as Tally
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict
from typing import Final

import structlog
from prometheus_client import CollectorRegistry, Counter, GCCollector, Histogram, PlatformCollector, ProcessCollector
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from extender.binding import Request, Result, Unbound
from extender.ledger import Ledger
from extender.placement.allocation import said
from extender.placement.fleet import Fleet
from extender.placement.masks import tables
from extender.placement.reserve import KEPT, Limit
from extender.verbs import Scored
from slicewise.process.watch import Progress

#: Seconds. Filter stops the whole scheduler while it runs, so the low end is fine.
BUCKETS_S: Final = (0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0)
SPACE: Final = "slicewise_extender"
PROBLEMS_EVERY_S: Final = 60.0
Clock = Callable[[], float]

log: structlog.typing.FilteringBoundLogger = structlog.get_logger()


class State(Collector):
    """Gauges read from the ledger when they are asked for: nothing is counted twice, nothing drifts."""

    def __init__(self, ledger: Ledger, watches: Mapping[str, Progress], now_s: Clock, mono_s: Clock) -> None:
        self._ledger = ledger
        self._watches = watches
        self._now_s = now_s
        self._mono_s = mono_s
        self._problems = 0
        self._counted_s = float("-inf")

    def collect(self) -> Iterator[Metric]:
        held: Tally[tuple[str, str]] = Tally()
        for holding in self._ledger.holdings():
            held.update((grant.mode, holding.phase) for grant in holding.allocation.grants())
        allocations = GaugeMetricFamily(
            f"{SPACE}_allocations", "Slices, shares and whole GPUs that pods hold.", labels=["mode", "phase"]
        )
        for labels, count in sorted(held.items()):
            allocations.add_metric(labels, count)
        yield allocations
        free = GaugeMetricFamily(
            f"{SPACE}_free_slices", "How many more of each MIG profile fit, each asked for alone.", labels=["profile"]
        )
        for profile, count in sorted(free_slices(self._ledger.fleet).items()):
            free.add_metric([profile], count)
        yield free
        yield from self._reserved()
        warm = "Weights and sessions that are known to be warm, each on each node."
        yield GaugeMetricFamily(f"{SPACE}_warm_keys", warm, len(self._ledger.warmth))
        problems = "Contradictions that a person should look at; see /debug/state."
        yield GaugeMetricFamily(f"{SPACE}_problems", problems, self._count_problems())
        nodes = "Nodes with an inventory that can be read."
        yield GaugeMetricFamily(f"{SPACE}_nodes", nodes, len(self._ledger.fleet.slots))
        stale = "Of these, nodes whose agent has been silent for too long."
        yield GaugeMetricFamily(f"{SPACE}_stale_nodes", stale, self._count_stale())
        yield from self._watched()

    def _reserved(self) -> Iterator[Metric]:
        room = GaugeMetricFamily(
            f"{SPACE}_reserved_room", "How many more of a reserve's slices fit now.", labels=["reserve", "priority"]
        )
        size = GaugeMetricFamily(
            f"{SPACE}_reserved_slices", "How many of them are kept.", labels=["reserve", "priority"]
        )
        since_s = self._now_s() - self._ledger.stale_after_s
        for reserve in self._ledger.reserves:
            limit = Limit.of(reserve, self._ledger.fleet, since_s)
            labels = [str(reserve.shape), str(reserve.priority)]
            room.add_metric(labels, int(limit.room.sum()))
            size.add_metric(labels, reserve.count)
        if self._ledger.reserves:
            yield room
            yield size

    def _count_problems(self) -> int:
        """At most once a minute: it walks all nodes, tens of milliseconds at 5,000, and filter would wait for it."""
        if self._mono_s() - self._counted_s >= PROBLEMS_EVERY_S:
            self._problems, self._counted_s = len(self._ledger.problems()), self._mono_s()
        return self._problems

    def _count_stale(self) -> int:
        fleet = self._ledger.fleet
        renewed_s = fleet.renewed_s[list(fleet.slots.values())]
        return int((renewed_s < self._now_s() - self._ledger.stale_after_s).sum())

    def _watched(self) -> Iterator[Metric]:
        synced = GaugeMetricFamily(f"{SPACE}_watch_synced", "1 after the first full list.", labels=["resource"])
        counts = {
            name: CounterMetricFamily(f"{SPACE}_watch_{name}", text, labels=["resource"])
            for name, text in (
                ("lists", "Full lists."),
                ("events", "Changes heard."),
                ("failures", "Broken connections."),
            )
        }
        for resource, progress in sorted(self._watches.items()):
            synced.add_metric([resource], progress.synced.is_set())
            for name, family in counts.items():
                family.add_metric([resource], getattr(progress, name))
        yield synced
        yield from counts.values()


class Obs:
    """Own registry: two extenders in one process (tests) do not meet."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)
        PlatformCollector(registry=self.registry)
        GCCollector(registry=self.registry)
        self._took_s = Histogram(
            f"{SPACE}_request_seconds",
            "From the whole request here to the answer, by verb.",
            ["verb"],
            buckets=BUCKETS_S,
            registry=self.registry,
        )
        self._answers = Counter(
            f"{SPACE}_answers", "Answers by verb and outcome.", ["verb", "outcome"], registry=self.registry
        )
        self._refused = Counter(
            f"{SPACE}_refused_nodes",
            "Nodes that filter refused, by the kind of reason; resolvable: evicting pods could help.",
            ["resolvable", "kind"],
            registry=self.registry,
        )
        self._bindings = Counter(f"{SPACE}_bindings", "Ends of Bindings.", ["outcome"], registry=self.registry)
        self._starts = Counter(
            f"{SPACE}_warm_starts",
            "Pods bound to a node that had what they could reuse, by what it was; cold: it had nothing of it.",
            ["what"],
            registry=self.registry,
        )
        self._expired = Counter(
            f"{SPACE}_expired_reservations", "Reservations that ended by time.", registry=self.registry
        )

    def answered(self, verb: str, outcome: str, took_s: float) -> None:
        self._took_s.labels(verb).observe(took_s)
        self._answers.labels(verb, outcome).inc()

    def refused(self, verb: str, status: int) -> None:
        """A request that was no question: too large, too slow, malformed, too early."""
        self._answers.labels(verb, f"status {status}").inc()

    def filtered(
        self, *, uid: str, pod: str, fit: int, failed: Mapping[str, str], unresolvable: Mapping[str, str]
    ) -> None:
        """One event a call, at debug: kube-scheduler asks again every few seconds for a pod that waits."""
        kinds: Tally[tuple[str, str]] = Tally()
        for resolvable, refused in (("yes", failed), ("no", unresolvable)):
            for why, count in Tally(refused.values()).items():  # few texts, however many nodes
                kinds[resolvable, kind(why)] += count
        for labels, count in kinds.items():
            self._refused.labels(*labels).inc(count)
        log.debug(
            "extender.filtered",
            pod_uid=uid,
            pod=pod,
            fit=fit,
            refused={name: count for (_, name), count in kinds.most_common(5)},
        )

    def tell(self, request: Request, result: Result) -> None:
        """How an attempt to bind a pod ended, or that it has not ended within its deadline."""
        who = {"pod_uid": request.uid, "pod": request.key, "node": request.node}
        if isinstance(result, Unbound):
            self._bindings.labels(result.outcome).inc()
            log.warning("extender.not_bound", **who, outcome=result.outcome.value, why=result.why)
            return
        self._bindings.labels("again" if result.again else "bound").inc()
        grants = [said(g) for g in result.allocation.grants()] if result.allocation else []
        warm = {} if result.warm_s is None else {"warm_s": dict(result.warm_s)}
        log.info("extender.bound", **who, grants=grants, again=result.again, **warm)
        if result.warm_s is not None and not result.again:
            for what in result.warm_s or ("cold",):
                self._starts.labels(what).inc()

    def scored(self, *, uid: str, pod: str, best: Sequence[Scored]) -> None:
        """One event a call, at debug: the best nodes and what their scores are made of."""
        log.debug("extender.scored", pod_uid=uid, pod=pod, best=[asdict(one) for one in best])

    def expired(self, *, uid: str, pod: str, node: str) -> None:
        self._expired.inc()
        log.warning("extender.reservation_expired", pod_uid=uid, pod=pod, node=node)


#: How reasons begin, by what they are counted as. Texts carry numbers and the pod's own words, labels must not.
KINDS: Final = {
    "stale inventory": "stale inventory",
    "no inventory": "no inventory",
    "unreadable inventory": "unreadable inventory",
    "no GPU of model": "no such model",
    "no GPU in mode": "no such mode",
    "no GPU": "no GPU",
    "its GPUs are": "unusable",
    "room is kept": "kept for a nominee",
    KEPT: "kept for a higher priority",
    "no free instance": "no free instance",
    "pod ": "demand not understood",
}


def kind(why: str) -> str:
    """The class of a reason: one of few, for a label.

    >>> kind("stale inventory: no heartbeat of the node agent for 60 s"), kind("3 GPUs: no 3g slot, largest free 2g")
    ('stale inventory', 'no room')
    """
    return next((name for start, name in KINDS.items() if why.startswith(start)), _ROOM)


def free_slices(fleet: Fleet) -> dict[str, int]:
    """How many more of each MIG profile fit now, each asked for alone, over all GPUs."""
    found: Tally[str] = Tally()
    for model, first in zip(fleet.models, fleet.first_state, strict=True):
        if model.profiles:
            grid = tables(model)
            room = fleet.census[first : first + grid.states] @ grid.room
            found.update({p.name: int(n) for p, n in zip(model.profiles, room, strict=True)})
    return dict(found)


_ROOM: Final = "no room"
