"""Work in seconds of a replica, and how full what cannot grow is."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scaler.signals.pressure import kv_pressure, memory_pressure
from scaler.signals.reading import Missing, Reading, Sample
from scaler.signals.work import Pace, Shape, token_work_s

SHAPE = Shape(prompt_tokens=1000.0, generation_tokens=200.0)
PACE = Pace(prefill_per_s=500.0, decode_per_s=100.0)
DOWN = Missing("down")


@pytest.mark.parametrize(
    ("waiting", "running", "want"),
    [
        pytest.param(Sample(3, 9, 2), Sample(2, 8, 3), Sample(3 * 4 + 2 * 2, 8, 2), id="all work of those in line"),
        pytest.param(Sample(3, 9), Sample(2, 8), Sample(16, 8), id="of no pods"),
        pytest.param(Sample(3, 9, 2), DOWN, Sample(12, 9, 0), id="how many run is not known: at least so much"),
        pytest.param(DOWN, Sample(2, 8, 3), Sample(4, 8, 0), id="how many wait is not known: at least so much"),
        pytest.param(DOWN, Missing("late"), Missing("down; late"), id="nothing is known"),
    ],
)
def test_token_work(waiting: Reading, running: Reading, want: Reading) -> None:
    assert token_work_s(waiting, running, SHAPE, PACE) == want


@pytest.mark.parametrize(
    ("cv", "want"),
    [
        pytest.param(0.0, 100.0, id="all alike: half is left"),
        pytest.param(1.0, 200.0, id="exponential: as much as at its start"),
        pytest.param(2.0, 500.0, id="heavy tail: those that run are the long ones"),
    ],
)
def test_what_is_left_of_a_generation_that_runs(cv: float, want: float) -> None:
    assert Shape(prompt_tokens=0.0, generation_tokens=200.0, generation_cv=cv).left_tokens == want


def test_what_a_cache_holds_is_no_work() -> None:
    cached = Shape(prompt_tokens=1000.0, generation_tokens=200.0, cached_share=0.9)
    assert token_work_s(Sample(1, 0), Sample(0, 0), cached, PACE) == Sample(100 / 500 + 2, 0)


amounts = st.floats(0, 1e4)
loads = st.tuples(amounts, amounts, amounts, st.floats(0, 1))


def work(waiting: float, running: float, prompt: float, cached: float) -> float:
    shape = Shape(prompt_tokens=prompt, generation_tokens=200.0, cached_share=cached)
    got = token_work_s(Sample(waiting, 0), Sample(running, 0), shape, PACE)
    assert isinstance(got, Sample)
    return got.value


@given(loads, amounts, st.floats(0, 1))
def test_more_requests_longer_prompts_or_colder_caches_are_never_less_work(
    load: tuple[float, float, float, float], more: float, colder: float
) -> None:
    waiting, running, prompt, cached = load
    less = work(*load)
    assert less <= work(waiting + more, running, prompt, cached)
    assert less <= work(waiting, running + more, prompt, cached)
    assert less <= work(waiting, running, prompt + more, cached)
    assert less <= work(waiting, running, prompt, cached * colder)


@pytest.mark.parametrize(
    ("kv_usage", "preemptions", "want"),
    [
        pytest.param(Sample(0.5, 5, 2), Sample(0, 5), Sample(0.5, 5, 2), id="of what they may be filled to"),
        pytest.param(Sample(1.5, 5, 2), DOWN, Sample(1.5, 5, 2), id="fuller than they should be"),
        pytest.param(Sample(0.5, 5, 2), Sample(0.1, 5), Sample(1.0, 5, 2), id="preemptions: they were full"),
        pytest.param(DOWN, Sample(0.1, 5), DOWN, id="not known"),
        pytest.param(Sample(0, 5, 0), DOWN, Missing("no pod tells how full its KV cache is"), id="of no pods"),
        pytest.param(Sample(1, 5), DOWN, Missing("no pod tells how full its KV cache is"), id="of who knows how many"),
    ],
)
def test_kv_pressure(kv_usage: Reading, preemptions: Reading, want: Reading) -> None:
    assert kv_pressure(kv_usage, preemptions, ceiling=0.5) == want


@pytest.mark.parametrize(
    ("used", "limit", "want"),
    [
        pytest.param({"a": 10.0, "b": 30.0}, {"a": 40.0, "b": 40.0}, Sample(0.75, 5, 2), id="the fullest"),
        pytest.param({"a": 10.0, "b": 30.0}, {"a": 40.0}, Sample(0.25, 5, 1), id="without a limit: never full"),
        pytest.param({}, {"a": 40.0}, Missing("no pod tells both its memory and its limit"), id="not known"),
    ],
)
def test_memory_pressure(used: dict[str, float], limit: dict[str, float], want: Reading) -> None:
    assert memory_pressure(used, limit, 5) == want
