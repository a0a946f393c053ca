"""The tests' own engines keep what they promise. Needs no server."""

from hypothesis import given
from hypothesis import strategies as st

from tests.e2e.engines import Load, Request, Speed, speed_for, synthetic_trace, window

SPEED = Speed(prompt_tokens_per_s=100.0, generated_tokens_per_s=10.0)
REQUESTS = st.lists(st.builds(Request, st.floats(0, 60), st.integers(0, 2000), st.integers(1, 100)), max_size=60)
PODS = st.lists(st.integers(0, 4), max_size=20)


@given(requests=REQUESTS, counts=PODS)
def test_every_request_is_at_the_door_in_an_engine_or_answered(requests: list[Request], counts: list[int]) -> None:
    load = Load(requests, slots=2, speed=SPEED)
    for step, count in enumerate(counts):
        load.advance(step * 5.0)
        load.set_pods([f"pod-{i}" for i in range(count)])
        come = sum(request.arrives_s <= step * 5.0 for request in requests)
        assert load.finished + load.unfinished == come
        assert all(len(engine.running) <= 2 for engine in load.engines.values())
        assert all(len(engine.running) == 2 for engine in load.engines.values() if engine.waiting)
        assert not (load.door and load.engines)


@given(requests=REQUESTS)
def test_with_a_pod_every_request_is_answered_in_the_end(requests: list[Request]) -> None:
    load = Load(requests, slots=2, speed=SPEED)
    load.set_pods(["pod-0"])
    load.advance(60 + sum(map(SPEED.service_s, requests)) + 1)
    assert load.over
    assert load.finished == len(requests)
    engine = load.engines["pod-0"]
    assert engine.generated_tokens == sum(request.generated_tokens for request in requests)
    assert sum(engine.latency.counts) == len(requests)


def test_an_engine_is_as_fast_as_the_wanted_concurrency_needs() -> None:
    requests = window(synthetic_trace(lasts_s=150), from_s=0, lasts_s=150, replayed_in_s=60)
    speed = speed_for(requests, concurrency=10)
    work_s = sum(map(speed.service_s, requests))
    assert abs(work_s / max(request.arrives_s for request in requests) - 10) < 1e-6


def test_without_a_pod_requests_wait_at_the_door() -> None:
    load = Load([Request(1.0, 100, 10)], slots=1, speed=SPEED)
    load.advance(5.0)
    assert (len(load.door), load.finished) == (1, 0)
    load.set_pods(["late"])
    load.advance(6.9)
    assert load.finished == 0
    load.advance(7.1)
    assert load.finished == 1
    assert load.engines["late"].latency.sum_s == 2.0, "an engine knows nothing of the time at the door"
