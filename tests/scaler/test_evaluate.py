"""Evaluations as a whole: limits, the HPA's reply, unknown as against zero."""

import pytest

from scaler.evaluate import NO_PAST, Decision, Past, evaluate
from scaler.signals.reading import Missing, Reading, Sample
from scaler.trigger import Trigger

QUEUE = {"policy": "queue", "queuePerReplica": "1", "stabilizationDown": "0s"}


def readings(at_s: float = 0.0, **known: float) -> dict[str, Reading]:
    return {name: Sample(value, at_s) for name, value in known.items()}


def once(keys: dict[str, str], at_s: float = 0.0, past: Past = NO_PAST, **known: float) -> Decision:
    return evaluate(Trigger.parse(QUEUE | keys), readings(at_s, ready=3, running=0, **known), at_s, past)[0]


def rules(decision: Decision) -> list[str]:
    return [step.rule for step in decision.steps]


@pytest.mark.parametrize(
    ("keys", "queue", "want", "told"),
    [
        pytest.param({}, 7, 7, ["queue"], id="no limits"),
        pytest.param({"maxReplicas": "5"}, 7, 5, ["queue", "max-replicas"], id="maxReplicas"),
        pytest.param({"minReplicas": "9"}, 7, 9, ["queue", "min-replicas"], id="minReplicas"),
        pytest.param({"minReplicas": "1"}, 0, 1, ["queue", "min-replicas"], id="never zero where minReplicas is one"),
        pytest.param({"minReplicas": "2", "maxReplicas": "9"}, 7, 7, ["queue"], id="limits that have nothing to do"),
    ],
)
def test_limits(keys: dict[str, str], queue: float, want: int, told: list[str]) -> None:
    decision = once(keys, queue=queue, replicas=3)
    assert (decision.replicas, rules(decision)) == (want, told)


# kubernetes/kubernetes pkg/controller/podautoscaler/replica_calculator.go: within 1 - tolerance and 1 + tolerance the
# HPA keeps what runs; the first and last numbers that move it, by replicas.
@pytest.mark.parametrize(
    ("current", "up", "down"),
    [(1, 2, 0), (9, 10, 8), (10, 12, 8), (20, 23, 17), (40, 45, 35), (100, 111, 89)],
)
def test_a_step_that_the_hpa_will_swallow_says_so(current: int, up: int, down: int) -> None:
    for wanted in range(down, up + 1):
        decision = once({}, queue=wanted, replicas=current)
        swallowed = wanted not in {down, up, current}
        assert decision.hpa == (current if swallowed else wanted)
        assert ("hpa-tolerance" in rules(decision)) == swallowed
        assert decision.replicas == wanted


def test_a_tolerance_of_zero_swallows_nothing() -> None:
    assert rules(once({"hpaTolerance": "0"}, queue=21, replicas=20)) == ["queue"]


def test_the_hpa_has_no_say_about_none() -> None:
    assert rules(once({}, queue=1, replicas=0)) == ["queue"]


def test_zero_only_after_a_whole_window_of_known_zeros() -> None:
    trigger, past = Trigger.parse(QUEUE | {"stabilizationDown": "30s"}), NO_PAST
    answers = []
    for n in range(4):
        tick = readings(n * 15.0, replicas=2, ready=2, queue=0, running=0)
        decision, past = evaluate(trigger, tick, n * 15.0, past)
        answers.append((decision.replicas, decision.active))
    assert answers == [(2, True), (2, True), (0, False), (0, False)]


def test_asleep_without_any_metric_stays_asleep_and_wakes_by_a_gateway() -> None:
    trigger = Trigger.parse(QUEUE | {"stabilizationDown": "5m"})
    asleep, past = evaluate(trigger, readings(replicas=0, ready=0), 0.0, NO_PAST)
    assert (asleep.replicas, asleep.active) == (0, False)
    awake, _ = evaluate(trigger, readings(15.0, replicas=0, ready=0, queue=2), 15.0, past)
    assert (awake.replicas, awake.active) == (2, True)


def test_missing_holds_and_stays_active() -> None:
    trigger = Trigger.parse(QUEUE)
    _, past = evaluate(trigger, readings(replicas=3, ready=3, queue=5, running=0), 0.0, NO_PAST)
    decision, past = evaluate(trigger, {}, 15.0, past)
    assert (decision.replicas, decision.active, rules(decision)) == (5, True, ["queue", "hold"])


def test_fail_answers_nothing_while_nothing_is_known_and_remembers_that_it_was_active() -> None:
    trigger = Trigger.parse(QUEUE | {"onMissing": "fail"})
    _, past = evaluate(trigger, readings(replicas=3, ready=3, queue=5, running=0), 0.0, NO_PAST)
    decision, after = evaluate(trigger, readings(15.0, replicas=3), 15.0, past)
    assert (decision.replicas, decision.active, after) == (None, True, past)
    assert rules(decision) == ["queue", "fail"]


def test_fail_still_scales_up_on_what_is_known() -> None:
    trigger = Trigger.parse(QUEUE | {"onMissing": "fail"})
    decision, _ = evaluate(trigger, readings(replicas=3, queue=5), 0.0, NO_PAST)
    assert (decision.replicas, decision.active) == (5, True)


def test_nothing_known_at_all_is_told_with_every_reason() -> None:
    decision, past = evaluate(Trigger.parse(QUEUE), {"replicas": Missing("no API")}, 0.0, NO_PAST)
    assert (decision.replicas, decision.active, past) == (None, False, NO_PAST)
    assert [str(step) for step in decision.steps] == [
        "queue: ? -> ? (demand not known: queue: not read; running: not read)",
        "hold: ? -> ? (demand not known; neither the replicas that run nor an earlier answer are known)",
        "replicas: ? -> ? (no API)",
    ]


def test_stale_readings_are_missing() -> None:
    tick = readings(0.0, replicas=3, ready=3, queue=5, running=0)
    decision, _ = evaluate(Trigger.parse(QUEUE), tick, 61.0, NO_PAST)
    assert decision.replicas is None
    assert "queue: 61 s old, older than maxAge 60 s" in decision.steps[0].why


def test_partial_coverage_may_raise_and_not_lower() -> None:
    trigger = Trigger.parse(QUEUE)
    covered = {**readings(replicas=3, ready=3, running=0), "queue": Sample(1, 0.0, pods=2)}
    low, _ = evaluate(trigger, covered, 0.0, NO_PAST)
    high, _ = evaluate(trigger, covered | {"queue": Sample(9, 0.0, pods=2)}, 0.0, NO_PAST)
    assert (low.replicas, high.replicas) == (3, 9)
    assert rules(low) == ["queue", "partial"]
