"""What agents depend on: strain keeps from growing, ignorance keeps from nothing."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scaler.evaluate import NO_PAST, evaluate
from scaler.signals.dependency import capped, growth_held, name_of, strain
from scaler.signals.reading import Missing, Reading, ReadingName, Sample
from scaler.trigger import Trigger

DOWN = Missing("down")


@pytest.mark.parametrize(
    ("latency", "errors", "want"),
    [
        pytest.param(Sample(0.2, 5), Sample(0.01, 5), Sample(0.4, 5), id="well: the nearer of the two bounds"),
        pytest.param(Sample(2.0, 5), Sample(0.01, 5), Sample(4.0, 5), id="slow"),
        pytest.param(Sample(0.2, 5), Sample(0.1, 5), Sample(2.0, 5), id="failing"),
        pytest.param(DOWN, Sample(0.1, 5), Sample(2.0, 5), id="failing, and how slow is not known"),
        pytest.param(DOWN, Sample(0.01, 5), Missing("latency: down"), id="one is well, the other not known"),
        pytest.param(DOWN, DOWN, Missing("latency: down; errors: down"), id="nothing is known"),
    ],
)
def test_strain(latency: Reading, errors: Reading, want: Reading) -> None:
    assert strain({"latency": (latency, 0.5), "errors": (errors, 0.05)}) == want


def test_nothing_measured_is_not_known() -> None:
    assert strain({}) == Missing("nothing is measured of it")


@given(st.floats(0, 10), st.floats(0, 10), st.floats(0, 10))
def test_worse_is_never_less(latency: float, errors: float, worse: float) -> None:
    def of(value: float) -> Reading:
        return strain({"latency": (Sample(value, 0), 0.5), "errors": (Sample(errors, 0), 0.05)})

    before, after = of(latency), of(latency + worse)
    assert isinstance(before, Sample)
    assert isinstance(after, Sample)
    assert before.value <= after.value


def test_only_strain_holds_growth() -> None:
    strains: dict[str, Reading] = {"a": Sample(1.0, 0), "b": DOWN, "c": Sample(3.2, 0)}
    assert growth_held(strains) == ("c is at 3.2 times its bound",)


@given(st.integers(0, 100), st.integers(0, 100))
def test_what_runs_is_kept(want: int, current: int) -> None:
    assert capped(want, current) >= min(want, current)
    assert capped(want, current) <= max(current, 1)


@pytest.mark.parametrize(
    ("reading", "current", "replicas"),
    [
        pytest.param(Sample(0.5, 60), 4, 10, id="well: the demand is met"),
        pytest.param(Sample(2.0, 60), 4, 4, id="slow: no more than run"),
        pytest.param(Sample(2.0, 60), 0, 1, id="slow: one, where none runs"),
        pytest.param(Sample(2.0, 60), 20, 20, id="slow: and none is taken away"),
        pytest.param(DOWN, 4, 10, id="not known: the demand is met"),
        pytest.param(Sample(2.0, -600), 4, 10, id="of ten minutes ago: not known"),
    ],
)
def test_a_decision_with_a_dependency(reading: Reading, current: int, replicas: int) -> None:
    trigger = Trigger.parse({"queuePerReplica": "4", "dependsOn": "vectors"})
    assert name_of("vectors") in trigger.wanted()
    readings: dict[str, Reading] = {
        ReadingName.QUEUE: Sample(40, 60),
        ReadingName.RUNNING: Sample(0, 60),
        ReadingName.REPLICAS: Sample(current, 60),
        ReadingName.READY: Sample(current, 60),
        name_of("vectors"): reading,
    }
    decision, _ = evaluate(trigger, readings, 60.0, NO_PAST)
    assert decision.replicas == replicas
    held = [step for step in decision.steps if step.rule == "dependency"]
    assert bool(held) == (isinstance(reading, Sample) and reading.value > 1 and reading.at_s > 0 and current < 10)


def test_what_runs_has_to_be_known_to_hold_there() -> None:
    trigger = Trigger.parse({"queuePerReplica": "4", "dependsOn": "vectors"})
    readings: dict[str, Reading] = {
        ReadingName.QUEUE: Sample(40, 60),
        ReadingName.RUNNING: Sample(0, 60),
        name_of("vectors"): Sample(9, 60),
    }
    assert "dependency" not in [step.rule for step in evaluate(trigger, readings, 60.0, NO_PAST)[0].steps]
