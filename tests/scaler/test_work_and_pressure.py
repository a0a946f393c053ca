"""Work in seconds of a replica, and how full what cannot grow is."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scaler.signals.pressure import kv_pressure, memory_pressure
from scaler.signals.reading import Missing, Reading, Sample
from scaler.signals.work import (
    Pace,
    Shape,
    request_work_s,
    token_work_s,
    work_arriving_per_s,
    work_done_per_s,
)

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


def test_tokens_keep_replicas_busy_each_at_its_own_pace() -> None:
    assert work_done_per_s(1000.0, 300.0, PACE) == 2 + 3


@pytest.mark.parametrize(
    ("ended", "running", "service_s", "want"),
    [
        pytest.param(10.0, 20.0, 2.0, 0.5, id="steady: those that end are those that run, a time in service later"),
        pytest.param(10.0, 0.0, 2.0, 0.5, id="none runs at this instant: by those that ended"),
        pytest.param(0.1, 200.0, 2.0, 0.05, id="a burst begins and hardly any has ended: by those that run"),
        pytest.param(10.0, 20.0, None, 0.5, id="the time in service is not known: by those that ended"),
        pytest.param(0.0, 20.0, None, None, id="none has ended, nor is it known how long they take"),
        pytest.param(0.0, 0.0, 2.0, None, id="none ended, none runs"),
        pytest.param(0.0, 20.0, 0.0, None, id="no time in service is no pace"),
    ],
)
def test_work_of_a_request(ended: float, running: float, service_s: float | None, want: float | None) -> None:
    assert request_work_s(5.0, ended_per_s=ended, running=running, service_s=service_s) == want


@given(st.floats(0.01, 1e3), st.floats(0.01, 1e3), st.floats(0.001, 100), st.floats(0.1, 100))
def test_while_the_number_in_flight_stands_what_arrives_is_what_is_done(
    ended: float, running: float, request_s: float, service_s: float
) -> None:
    done = ended * request_s
    found = request_work_s(done, ended_per_s=ended, running=min(running, ended * service_s), service_s=service_s)
    assert found == pytest.approx(request_s)
    assert work_arriving_per_s(done, grown_per_s=0.0, request_s=found or 0.0) == done


@given(st.floats(0, 100), st.floats(0, 100), st.floats(0, 50), st.floats(0.01, 10))
def test_a_full_pool_hides_no_demand(arrived: float, capacity: float, extra: float, request_s: float) -> None:
    """Of what arrives the pool does what it can; the rest piles up, and is demand."""
    done_requests = min(arrived + extra, capacity)
    done, grown = done_requests * request_s, arrived - done_requests
    assert work_arriving_per_s(done, grown_per_s=grown, request_s=request_s) == pytest.approx(
        arrived * request_s, abs=1e-9
    )


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
