"""A slow vector database is no reason to add agents; not knowing how it is, is no reason not to."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scaler.signals.dependency import Bounds, Health, State, capped, growth_held, health
from scaler.signals.reading import Missing, Reading, Sample

BOUNDS = Bounds(latency_s=0.5, error_share=0.1)
DOWN = Missing("down")
WELL, SLOW = Health("qdrant", State.WELL, "within its bounds"), Health("qdrant", State.SLOW, "P95 is 2 s")
UNKNOWN = Health("llm", State.UNKNOWN, "down")


@pytest.mark.parametrize(
    ("latency_s", "error_share", "state", "why"),
    [
        pytest.param(Sample(0.5, 0), Sample(0.1, 0), State.WELL, "within its bounds", id="at its bounds: well"),
        pytest.param(Sample(2.0, 0), Sample(0, 0), State.SLOW, "P95 is 2 s, more than 0.5 s", id="slow"),
        pytest.param(Sample(2.0, 0), DOWN, State.SLOW, "P95 is 2 s, more than 0.5 s", id="slow, errors not known"),
        pytest.param(DOWN, Sample(0.5, 0), State.FAILING, "50% of calls fail, more than 10%", id="failing"),
        pytest.param(Sample(9, 0), Sample(0.5, 0), State.FAILING, "50% of calls fail, more than 10%", id="both"),
        pytest.param(Sample(0.1, 0), DOWN, State.UNKNOWN, "down", id="half known, and well so far"),
        pytest.param(DOWN, Missing("late"), State.UNKNOWN, "late; down", id="not known"),
    ],
)
def test_health(latency_s: Reading, error_share: Reading, state: State, why: str) -> None:
    assert health("qdrant", latency_s, error_share, BOUNDS) == Health("qdrant", state, why)


@pytest.mark.parametrize(
    ("want", "current", "dependencies", "replicas"),
    [
        pytest.param(9, 4, [WELL], 9, id="well: grows"),
        pytest.param(9, 4, [UNKNOWN], 9, id="unknown: grows"),
        pytest.param(9, 4, [WELL, SLOW], 4, id="one is slow: stays"),
        pytest.param(2, 4, [SLOW], 2, id="slow: may still shrink"),
        pytest.param(9, 0, [SLOW], 1, id="asleep: one wakes, to find out"),
        pytest.param(9, None, [SLOW], 9, id="not known how many run: not held"),
        pytest.param(9, 4, [], 9, id="depends on nothing"),
    ],
)
def test_capped(want: int, current: int | None, dependencies: list[Health], replicas: int) -> None:
    assert capped(want, current, dependencies) == replicas


def test_the_reason_names_the_dependency() -> None:
    assert growth_held([WELL, SLOW, UNKNOWN]) == ("qdrant is slow: P95 is 2 s",)


readings = st.one_of(st.just(DOWN), st.floats(0, 10).map(lambda value: Sample(value, 0.0)))


@given(readings, readings, st.floats(0, 10))
def test_worse_readings_never_make_it_better(latency_s: Reading, error_share: Reading, more: float) -> None:
    def rank(latency_s: Reading, error_share: Reading) -> int:
        order = (State.WELL, State.UNKNOWN, State.SLOW, State.FAILING)
        return order.index(health("x", latency_s, error_share, BOUNDS).state)

    def worse(reading: Reading) -> Reading:
        return reading if isinstance(reading, Missing) else Sample(reading.value + more, 0.0)

    assert rank(worse(latency_s), worse(error_share)) >= rank(latency_s, error_share)


@given(readings, readings)
def test_what_is_missing_never_holds_growth(latency_s: Reading, error_share: Reading) -> None:
    blind = health("x", DOWN, DOWN, BOUNDS)
    assert not blind.holds_growth
    one_blind = health("x", DOWN, error_share, BOUNDS)
    assert not one_blind.holds_growth or health("x", latency_s, error_share, BOUNDS).holds_growth


@given(st.integers(0, 99), st.none() | st.integers(0, 99), st.lists(st.sampled_from([WELL, SLOW, UNKNOWN])))
def test_it_only_ever_keeps_from_growing(want: int, current: int | None, dependencies: list[Health]) -> None:
    got = capped(want, current, dependencies)
    assert min(want, want if current is None else current) <= got <= want
