from prometheus_client import CollectorRegistry
from structlog.testing import capture_logs

from scaler.evaluate import Decision, Step
from scaler.obs import Observer, Whose
from scaler.signals.reading import Missing, Reading, ReadingName, Sample

WHOSE = Whose(namespace="agents", scaled_object="chat", trigger="0123abcd")
DECISION = Decision(replicas=5, active=True, steps=(Step("queue", 3, 5, "5 wait"),), current=3, hpa=5)
READINGS: dict[str, Reading] = {ReadingName.QUEUE: Sample(5.0, 90.0, pods=3), ReadingName.RUNNING: Missing("no series")}


def test_an_evaluation_is_one_event_with_its_whole_story() -> None:
    with capture_logs() as events:
        Observer(CollectorRegistry()).decided(WHOSE, DECISION, READINGS, at_s=100.0, took_s=0.01234567)
    assert events == [
        {
            "event": "scaler.decided",
            "log_level": "info",
            "namespace": "agents",
            "scaled_object": "chat",
            "trigger": "0123abcd",
            "at_s": 100.0,
            "replicas": 5,
            "active": True,
            "current": 3,
            "hpa": 5,
            "readings": {"queue": 5.0, "running": "missing: no series"},
            "samples": {"queue": {"at_s": 90.0, "pods": 3}},
            "steps": ["queue: 3 -> 5 (5 wait)"],
            "took_s": 0.0123,
        }
    ]


def test_metrics_of_an_evaluation() -> None:
    registry = CollectorRegistry()
    Observer(registry).decided(WHOSE, DECISION, READINGS, at_s=100.0, took_s=0.01)
    whose = {"namespace": "agents", "scaled_object": "chat", "trigger": "0123abcd"}
    value = registry.get_sample_value
    assert value("slicewise_scaler_desired_replicas", whose) == 5.0
    assert value("slicewise_scaler_reading_age_seconds", {**whose, "reading": "queue"}) == 10.0
    assert value("slicewise_scaler_readings_missing_total", {"reading": "running"}) == 1.0
    assert value("slicewise_scaler_decisions_total", {"rule": "queue"}) == 1.0
    assert value("slicewise_scaler_evaluation_seconds_count") == 1.0


def test_an_unknown_answer_leaves_the_last_number_alone() -> None:
    registry = CollectorRegistry()
    observer = Observer(registry)
    observer.decided(WHOSE, DECISION, READINGS, at_s=100.0, took_s=0.01)
    unknown = Decision(replicas=None, active=True, steps=(Step("fail", None, None, "down"),))
    observer.decided(WHOSE, unknown, READINGS, at_s=115.0, took_s=0.01)
    whose = {"namespace": "agents", "scaled_object": "chat", "trigger": "0123abcd"}
    assert registry.get_sample_value("slicewise_scaler_desired_replicas", whose) == 5.0
