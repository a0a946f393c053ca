"""The control plane's loops around a world: scrapes, the scaler's tick, KEDA's poll, the HPA's sync."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import partial

import numpy as np

from scaler.signals.reading import Missing, Reading, ReadingName, Sample
from sim.cluster import keda
from sim.cluster.autoscaler import Autoscaler
from sim.cluster.hpa import Failed, PerPod
from sim.cluster.hpayaml import MetricYaml
from sim.cluster.plainhpa import PlainHpa
from sim.cluster.prometheus import Prometheus
from sim.cluster.scaler import Scaler
from sim.journal import Journal, Poll, Sync
from sim.kernel import Rank
from sim.scenario import Outage
from sim.serving.pool import Gauge
from sim.streams import stream
from sim.world import World


def _out(outages: Iterable[Outage], now_s: float) -> bool:
    return any(outage.covers(now_s) for outage in outages)


def _name(metric: MetricYaml) -> str:
    return metric.target.name


@dataclass(slots=True)
class Control:
    """Each loop schedules its own next turn; phases are drawn once, so seeds see different alignments."""

    world: World
    journal: Journal | None = None  #: keeps every decision, for whoever asks
    prometheus: Prometheus = field(init=False)
    scaler: Scaler = field(init=False)
    autoscaler: Autoscaler | PlainHpa = field(init=False)
    _loss: np.random.Generator = field(init=False)

    def __post_init__(self) -> None:
        scenario, yaml = self.world.scenario, self.world.scenario.yaml
        self.prometheus = Prometheus(max((t.window_s for t in scenario.triggers), default=yaml.hpa.window))
        self.scaler = Scaler(scenario.triggers, self._read, yaml.scaler.tick, yaml.scaler.delay)
        if yaml.horizontal_pod_autoscaler is not None:
            names = {n: yaml.hpa.metrics.get(n, n) for n in map(_name, yaml.horizontal_pod_autoscaler.spec.metrics)}
            self.autoscaler = PlainHpa(yaml.horizontal_pod_autoscaler, names, self._now, self._pods_now)
        else:
            self.autoscaler = Autoscaler(yaml.keda)
        self._loss = stream(self.world.seed, "scrape-loss")

    def start(self) -> None:
        yaml, kernel = self.world.scenario.yaml, self.world.kernel
        phases = stream(self.world.seed, "phases").uniform(size=3)
        kernel.at(round(phases[0] * yaml.metrics.scrape_interval, 3), Rank.SCRAPE, self._scrape)
        if isinstance(self.autoscaler, Autoscaler):
            kernel.at(yaml.scaler.delay, Rank.SCALER, self._tick)
            begin, poll_s = self.autoscaler.begin, yaml.keda.spec.polling_interval
            kernel.at(0.0, Rank.KEDA, lambda: self._apply(begin(self.world.scale())))
            kernel.at(round(phases[1] * poll_s, 3), Rank.KEDA, partial(self._poll, self.autoscaler))
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

    def _read(
        self, names: frozenset[str], at_s: float, window_s: float, slo_s: float | None = None
    ) -> Mapping[str, Reading]:
        """Load from Prometheus, as it was; replicas from the Kubernetes API, as they are."""
        scale = self.world.scale()
        cluster = {ReadingName.REPLICAS: scale.spec, ReadingName.READY: scale.ready}
        if _out(self.world.scenario.yaml.metrics.outages, self.world.now_s):
            readings: dict[str, Reading] = dict.fromkeys(names, Missing("Prometheus does not answer"))
        else:
            readings = dict(self.prometheus.read(names, at_s, window_s, slo_s))
        readings |= {name: Sample(float(n), at_s) for name, n in cluster.items() if name in names}
        if self.journal is not None:
            self.journal.readings.append(readings)
        return readings

    def _now(self, name: str) -> Reading:
        """What an adapter of Prometheus answers."""
        now_s = self.world.now_s
        return self._read(frozenset({name}), now_s, self.world.scenario.yaml.hpa.window)[name]

    def _pods_now(self, name: str) -> PerPod:
        world, yaml = self.world, self.world.scenario.yaml
        alive = [pod for pod in world.active.values() if pod.alive]
        running = frozenset(pod.number for pod in alive if pod.running_s is not None)
        values: Mapping[int, float] = {}
        if not _out(yaml.metrics.outages, world.now_s):
            values = self.prometheus.read_pods(name, world.now_s, yaml.hpa.window)
        milli = {pod: int(value * 1000) for pod, value in values.items()}
        return PerPod(milli, running, frozenset(pod.number for pod in alive) - running)

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
        for number, trigger in enumerate(world.scenario.yaml.keda.spec.triggers):
            decision = self.scaler.published[number].decision
            pushes = trigger.type == "external-push" and decision.active and decision.replicas and not decision.current
            if pushes and isinstance(self.autoscaler, Autoscaler):
                self._apply(self.autoscaler.push(world.scale(), world.now_s))

    def _ask(self, number: int) -> keda.Answer | Failed:
        if self._unreachable():
            return keda.Unreachable("UNAVAILABLE: the scaler does not answer")
        return self.scaler.answer(number, self.world.now_s)

    def _unreachable(self) -> bool:
        return _out(self.world.scenario.yaml.scaler.outages, self.world.now_s)

    def _poll(self, autoscaler: Autoscaler) -> None:
        world = self.world
        polled = autoscaler.poll(self._ask, world.scale(), world.now_s)
        if self.journal is not None:
            poll = Poll(world.now_s, tuple(polled.records), polled.request, world.scale(), polled.answers)
            self.journal.polls.append(poll)
        self._apply(polled.request)
        world.after(world.scenario.yaml.keda.spec.polling_interval, Rank.KEDA, partial(self._poll, autoscaler))

    def _apply(self, request: keda.Request) -> None:
        if request.replicas is not None:
            self.world.scale_to(request.replicas, "keda", request.reason, self._story())

    # -- the HPA -------------------------------------------------------------------------------------------------------

    def _sync(self) -> None:
        world = self.world
        if isinstance(self.autoscaler, Autoscaler):
            synced = self.autoscaler.sync(self._ask, world.scale(), world.now_s)
        else:
            synced = self.autoscaler.sync(world.scale(), world.now_s)
        verdict = synced.verdict
        steps = (*self._story(), *(f"hpa {step}" for step in verdict.steps))
        if self.journal is not None:
            sync = Sync(world.now_s, synced.usage_milli, verdict, world.scale(), synced.answers)
            self.journal.syncs.append(sync)
        world.scale_to(verdict.replicas, "hpa", verdict.reason, steps)
        world.after(world.scenario.yaml.hpa.sync_period, Rank.HPA, self._sync)

    def _story(self) -> tuple[str, ...]:
        """Why the scaler wants what it wants, each step as it says itself."""
        return tuple(str(s) for _, p in sorted(self.scaler.published.items()) for s in p.decision.steps)
