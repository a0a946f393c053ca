"""The control plane's loops around a world: scrapes, the scaler's tick, KEDA's poll, the HPA's sync."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

import numpy as np

from scaler.signals.reading import Missing, Reading, ReadingName, Sample
from sim.cluster import hpa, keda
from sim.cluster.hpa import Failed
from sim.cluster.prometheus import Prometheus
from sim.cluster.scaler import METRIC, TARGET, Scaler
from sim.journal import Journal, Poll, Sync
from sim.kernel import Rank
from sim.scenario import Outage
from sim.serving.pool import Gauge
from sim.streams import stream
from sim.world import World


def _out(outages: Iterable[Outage], now_s: float) -> bool:
    return any(outage.covers(now_s) for outage in outages)


@dataclass(slots=True)
class Control:
    """Each loop schedules its own next turn; phases are drawn once, so seeds see different alignments."""

    world: World
    journal: Journal | None = None  #: keeps every decision, for whoever asks
    prometheus: Prometheus = field(init=False)
    scaler: Scaler = field(init=False)
    hpa_spec: hpa.Spec = field(init=False)
    hpa_past: hpa.Past = hpa.NO_PAST
    hpa_active: bool = False  #: its condition ScalingActive
    keda_past: keda.Past = field(default_factory=lambda: keda.Past(created_s=0.0))
    observed: dict[int, keda.Record] = field(default_factory=dict)  #: what the HPA's calls saw
    cached: dict[int, keda.Record] = field(default_factory=dict)  #: what the poll saw, for useCachedMetrics
    _loss: np.random.Generator = field(init=False)

    def __post_init__(self) -> None:
        scenario, yaml = self.world.scenario, self.world.scenario.yaml
        self.prometheus = Prometheus(max(t.window_s for t in scenario.triggers))
        self.scaler = Scaler(scenario.triggers, self._read, yaml.scaler.tick, yaml.scaler.delay)
        self.hpa_spec = yaml.scaled_object.hpa(lambda _: (METRIC, TARGET))
        self._loss = stream(self.world.seed, "scrape-loss")

    def start(self) -> None:
        yaml, kernel = self.world.scenario.yaml, self.world.kernel
        phases = stream(self.world.seed, "phases").uniform(size=3)
        kernel.at(round(phases[0] * yaml.metrics.scrape_interval, 3), Rank.SCRAPE, self._scrape)
        kernel.at(yaml.scaler.delay, Rank.SCALER, self._tick)
        kernel.at(round(phases[1] * yaml.scaled_object.spec.polling_interval, 3), Rank.KEDA, self._poll)
        kernel.at(round(phases[2] * yaml.hpa.sync_period, 3), Rank.HPA, self._sync)

    def desired(self) -> int | None:
        """What the scaler answers now: the highest of its triggers that know."""
        answers = (one.decision.replicas for one in self.scaler.published.values())
        return max((replicas for replicas in answers if replicas is not None), default=None)

    # -- metrics -------------------------------------------------------------------------------------------------------

    def _scrape(self) -> None:
        world, metrics = self.world, self.world.scenario.yaml.metrics
        world.after(metrics.scrape_interval, Rank.SCRAPE, self._scrape)
        if _out(metrics.outages, world.now_s):
            return
        census = world.census()
        readout, numbers = world.pool.read(census.slots), np.array(census.numbers, np.int64)
        sessions = int(readout.gauge(Gauge.SESSIONS).sum()) + world.pool.held_sessions()
        if metrics.loss:
            kept = self._loss.uniform(size=len(numbers)) >= metrics.loss
            readout, numbers = readout.only(kept), numbers[kept]
        self.prometheus.scrape(world.now_s, numbers, readout, world.pool.held(), sessions)

    def _read(self, names: frozenset[str], at_s: float, window_s: float) -> Mapping[str, Reading]:
        """Load from Prometheus, as it was; replicas from the Kubernetes API, as they are."""
        scale = self.world.scale()
        cluster = {ReadingName.REPLICAS: scale.spec, ReadingName.READY: scale.ready}
        if _out(self.world.scenario.yaml.metrics.outages, self.world.now_s):
            readings: dict[str, Reading] = dict.fromkeys(names, Missing("Prometheus does not answer"))
        else:
            readings = dict(self.prometheus.read(names, at_s, window_s))
        readings |= {name: Sample(float(n), at_s) for name, n in cluster.items() if name in names}
        if self.journal is not None:
            self.journal.readings.append(readings)
        return readings

    def _tick(self) -> None:
        self.scaler.tick(self.world.now_s)
        if self.journal is not None:
            self.journal.ticked(self.world.now_s, self.scaler.published)
        if not self._unreachable():
            self._push()
        self.world.after(self.scaler.tick_s, Rank.SCALER, self._tick)

    # -- KEDA ----------------------------------------------------------------------------------------------------------

    def _push(self) -> None:
        """StreamIsActive of `external-push` triggers: `true` while nothing runs and something should."""
        world = self.world
        for number, trigger in enumerate(world.scenario.yaml.scaled_object.spec.triggers):
            decision = self.scaler.published[number].decision
            if trigger.type == "external-push" and decision.active and decision.replicas and not decision.current:
                scaled_object = world.scenario.yaml.scaled_object
                request, self.keda_past = keda.push(scaled_object, world.scale(), self.keda_past, world.now_s)
                self._apply(request)

    def _observe(self, number: int, cached: keda.Record | None = None) -> keda.Record:
        """One query; a cached record counts for fallback as a fresh one does."""
        world, spec = self.world, self.world.scenario.yaml.scaled_object.spec
        if cached is None and self._unreachable():
            # GetMetricSpec fails already, and KEDA counts failures of GetMetrics only: no fallback (keda issue 8056)
            return keda.Record(None, active=False, error="UNAVAILABLE: the scaler does not answer")
        if cached is None:
            answer = self.scaler.answer(number, world.now_s)
        elif cached.value_milli is None:
            answer = Failed(cached.error)
        else:
            answer = keda.Answer(cached.value_milli, cached.active)
        target = self.hpa_spec.targets[number]
        record, self.keda_past = keda.observe(spec.fallback, target, answer, world.scale(), self.keda_past)
        return record

    def _unreachable(self) -> bool:
        return _out(self.world.scenario.yaml.scaler.outages, self.world.now_s)

    def _poll(self) -> None:
        world, scaled_object = self.world, self.world.scenario.yaml.scaled_object
        records = list[keda.Record]()
        for number in range(len(scaled_object.spec.triggers)):
            borrow = scaled_object.uses_hpa_observations() and self.hpa_active
            seen = self.observed.get(number) if borrow else None
            records.append(self._observe(number) if seen is None else seen)
        self.cached = dict(enumerate(records))
        request, self.keda_past = keda.poll(scaled_object, records, world.scale(), self.keda_past, world.now_s)
        if self.journal is not None:
            self.journal.polls.append(Poll(world.now_s, tuple(records), request, world.scale()))
        self._apply(request)
        world.after(scaled_object.spec.polling_interval, Rank.KEDA, self._poll)

    def _apply(self, request: keda.Request) -> None:
        if request.replicas is not None:
            self.world.scale_to(request.replicas, "keda", request.reason, self._story())

    # -- the HPA -------------------------------------------------------------------------------------------------------

    def _sync(self) -> None:
        world = self.world
        usage: dict[str, int | Failed] = {}
        scale = world.scale()
        if self.hpa_spec.min_replicas <= scale.spec <= self.hpa_spec.max_replicas:
            usage = self._usage()
            self.hpa_active = any(isinstance(u, int) for u in usage.values())
        elif scale.spec == 0:
            self.hpa_active = False
        verdict, self.hpa_past = hpa.sync(self.hpa_spec, scale, usage, self.hpa_past, world.now_s)
        steps = (*self._story(), *(f"hpa {step}" for step in verdict.steps))
        if self.journal is not None:
            self.journal.syncs.append(Sync(world.now_s, usage, verdict, world.scale()))
        world.scale_to(verdict.replicas, "hpa", verdict.reason, steps)
        world.after(world.scenario.yaml.hpa.sync_period, Rank.HPA, self._sync)

    def _usage(self) -> dict[str, int | Failed]:
        usage: dict[str, int | Failed] = {}
        for number, trigger in enumerate(self.world.scenario.yaml.scaled_object.spec.triggers):
            record = self._observe(number, self.cached.get(number) if trigger.use_cached_metrics else None)
            self.observed[number] = record
            name = self.hpa_spec.targets[number].name
            usage[name] = record.value_milli if record.value_milli is not None else Failed(record.error)
        return usage

    def _story(self) -> tuple[str, ...]:
        """Why the scaler wants what it wants, each step as it says itself."""
        return tuple(str(s) for _, p in sorted(self.scaler.published.items()) for s in p.decision.steps)
