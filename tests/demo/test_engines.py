import pytest
from hypothesis import given
from hypothesis import strategies as st

from slicewise.demo.engines import LATENCY_BOUNDS_S, SLOTS, Engine, Turn, bucket_of, quantile


def run(engine: Engine, until_s: float, step_s: float = 0.5) -> None:
    now_s = 0.0
    while now_s < until_s:
        engine.step(now_s, step_s)
        now_s += step_s


def test_one_turn_takes_its_prefill_and_its_tokens() -> None:
    engine, ended = Engine(), list[float]()
    engine.send(Turn(0.0, prompt_tokens=4000, output_tokens=100, done=ended.append))
    run(engine, 5.0)
    assert ended == [pytest.approx(1.0 + 100 * 0.0135)]
    assert engine.counters.prompt_tokens == pytest.approx(4000)
    assert engine.counters.generation_tokens == pytest.approx(100)


def test_more_turns_than_slots_wait_and_the_wait_is_counted() -> None:
    engine, ended = Engine(), list[float]()
    for _ in range(SLOTS + 3):
        engine.send(Turn(0.0, 1, 1000, ended.append))
    engine.step(0.0, 0.5)
    assert (len(engine.running), len(engine.waiting)) == (SLOTS, 3)
    run(engine, 100.0)
    assert len(ended) == SLOTS + 3
    assert engine.counters.queue_sum_s > 0


def test_a_full_batch_is_slower_for_each_and_faster_for_all() -> None:
    rates = []
    for count in (1, SLOTS):
        engine = Engine()
        for _ in range(count):
            engine.send(Turn(0.0, 1, 100_000, lambda _: None))
        run(engine, 10.0)
        rates.append(engine.counters.generation_tokens / 10.0)
    alone, together = rates
    assert together / SLOTS < alone < together


@given(turns=st.lists(st.tuples(st.integers(1, 3000), st.integers(1, 300)), min_size=1, max_size=30))
def test_every_turn_ends_once_and_no_token_is_lost(turns: list[tuple[int, int]]) -> None:
    engine, ended = Engine(), list[float]()
    for prompt, output in turns:
        engine.send(Turn(0.0, prompt, output, ended.append))
    run(engine, 600.0)
    assert (len(ended), engine.in_flight) == (len(turns), 0)
    assert engine.counters.generation_tokens == pytest.approx(sum(output for _, output in turns))
    assert sum(engine.counters.buckets) == engine.counters.finished == len(turns)


@pytest.mark.parametrize(
    ("latency_s", "index"),
    [
        pytest.param(0.3, 0, id="a bound belongs to its own bucket"),
        pytest.param(0.31, 1, id="above it: the next"),
        pytest.param(1e6, len(LATENCY_BOUNDS_S), id="above all: +Inf"),
    ],
)
def test_bucket_of(latency_s: float, index: int) -> None:
    assert bucket_of(latency_s) == index


@pytest.mark.parametrize(
    ("counts", "want"),
    [
        pytest.param({}, None, id="no observations: not known"),
        pytest.param({7: 10}, 2.5 + 2.5 * 0.95, id="linear inside the bucket"),
        pytest.param({0: 10}, 0.3 * 0.95, id="the first bucket begins at 0"),
        pytest.param({len(LATENCY_BOUNDS_S): 10}, LATENCY_BOUNDS_S[-1], id="+Inf: the highest bound"),
    ],
)
def test_quantile_is_the_one_of_promql(counts: dict[int, int], want: float | None) -> None:
    buckets = [float(counts.get(i, 0)) for i in range(len(LATENCY_BOUNDS_S) + 1)]
    assert quantile(0.95, buckets) == (None if want is None else pytest.approx(want))
