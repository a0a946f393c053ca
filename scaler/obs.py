"""What an evaluation tells: one event in the log and its Prometheus metrics."""

from collections.abc import Mapping
from dataclasses import dataclass, fields

import structlog
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from scaler.policy.base import Decision
from scaler.signals.reading import Missing, Reading, Sample

log: structlog.typing.FilteringBoundLogger = structlog.get_logger()

BUCKETS_S = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Whose:
    """The object that was evaluated. `trigger`: tells two triggers of one ScaledObject apart."""

    namespace: str
    scaled_object: str
    trigger: str

    @property
    def labels(self) -> tuple[str, str, str]:
        return self.namespace, self.scaled_object, self.trigger


class Observer:
    """Metrics live in `registry`; those of an object live as long as the engine evaluates it."""

    def __init__(self, registry: CollectorRegistry) -> None:
        whose = ("namespace", "scaled_object", "trigger")
        self._replicas = Gauge(
            "slicewise_scaler_desired_replicas", "Replicas of the last decision.", whose, registry=registry
        )
        self._age_s = Gauge(
            "slicewise_scaler_reading_age_seconds",
            "Age of each reading at the last evaluation.",
            (*whose, "reading"),
            registry=registry,
        )
        self._missing = Counter(
            "slicewise_scaler_readings_missing_total",
            "Readings that were not known at an evaluation.",
            ("reading",),
            registry=registry,
        )
        self._decisions = Counter(
            "slicewise_scaler_decisions_total", "Evaluations in which a rule acted.", ("rule",), registry=registry
        )
        self._took_s = Histogram(
            "slicewise_scaler_evaluation_seconds",
            "Time to collect the readings of one object and to decide.",
            buckets=BUCKETS_S,
            registry=registry,
        )
        self._objects = Gauge("slicewise_scaler_objects", "Triggers that are evaluated.", registry=registry)

    def decided(
        self, whose: Whose, decision: Decision, readings: Mapping[str, Reading], *, at_s: float, took_s: float
    ) -> None:
        log.info(
            "scaler.decided",
            namespace=whose.namespace,
            scaled_object=whose.scaled_object,
            trigger=whose.trigger,
            at_s=at_s,
            replicas=decision.replicas,
            active=decision.active,
            current=decision.current,
            hpa=decision.hpa,
            readings={str(name): _shown(reading) for name, reading in sorted(readings.items())},
            samples={str(n): _told(r) for n, r in sorted(readings.items()) if isinstance(r, Sample)},
            steps=[str(step) for step in decision.steps],
            took_s=round(took_s, 4),
        )
        self._took_s.observe(took_s)
        if decision.replicas is not None:
            self._replicas.labels(*whose.labels).set(decision.replicas)
        for rule in {step.rule for step in decision.steps}:
            self._decisions.labels(rule).inc()
        for name, reading in readings.items():
            if isinstance(reading, Missing):
                self._missing.labels(name).inc()
            else:
                self._age_s.labels(*whose.labels, name).set(at_s - reading.at_s)

    def failed(self, whose: Whose, error: BaseException) -> None:
        """An evaluation ended in a defect of ours; the others go on."""
        log.error(
            "scaler.evaluation_failed",
            namespace=whose.namespace,
            scaled_object=whose.scaled_object,
            trigger=whose.trigger,
            exc_info=error,
        )
        self._decisions.labels("defect").inc()

    def watching(self, objects: int) -> None:
        self._objects.set(objects)

    def forgotten(self, whose: Whose) -> None:
        namespace, scaled_object, trigger = whose.labels
        labels = {"namespace": namespace, "scaled_object": scaled_object, "trigger": trigger}
        self._replicas.remove_by_labels(labels)
        self._age_s.remove_by_labels(labels)


def _shown(reading: Reading) -> float | str:
    return f"missing: {reading.why}" if isinstance(reading, Missing) else reading.value


def _told(sample: Sample) -> dict[str, object]:
    """All of it but its value, without what is as usual: with `readings` enough to decide once more."""
    usual = {field.name: field.default for field in fields(Sample)}
    return {n: v for n in usual if n != "value" and (v := getattr(sample, n)) != usual[n]}
