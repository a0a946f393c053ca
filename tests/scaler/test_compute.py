"""Recipes carried out on observations: each reading, and each way in which what is seen can mislead."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from math import inf, nan
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scaler.signals.compute import Window, reading
from scaler.signals.histogram import Buckets
from scaler.signals.observed import Cumulative, Observation, Workload
from scaler.signals.reading import Missing, Reading, Sample
from scaler.signals.recipes import RECIPES, Counter, Gauge, Histogram, Own, ways

NOW_S = 120.0
WINDOW = Window(now_s=NOW_S, length_s=120.0, max_age_s=60.0)
EVERYTHING = frozenset((*Gauge, *Counter, *Histogram))
VLLM = EVERYTHING - {Counter.ARRIVED, Gauge.OLDEST_WAIT_S, Gauge.SESSIONS}
TICKS = tuple(float(t) for t in range(15, 121, 15))
L = ("0",)


def pod(
    gauges: Mapping[Any, float] | None = None,
    per_s: Mapping[Counter, float] | None = None,
    ticks: Sequence[float] = TICKS,
) -> list[Observation]:
    """A pod with flat gauges and steady counters, seen at `ticks`."""
    return [
        Observation(
            at_s=t,
            gauges={name: {L: value} for name, value in (gauges or {}).items()},
            counters={name: {L: 1000.0 + value * t} for name, value in (per_s or {}).items()},
        )
        for t in ticks
    ]


def timed(per_s: float, at_most: Buckets, mean_s: float, histogram: Histogram = Histogram.E2E_S) -> list[Observation]:
    """A pod that observes at `per_s`, sized as `at_most` has it (of 1)."""
    return [
        Observation(
            at_s=t,
            gauges={Gauge.RUNNING: {L: 1.0}},
            histograms={
                histogram: {
                    L: Cumulative(
                        Buckets(at_most.bounds, tuple(share * per_s * t for share in at_most.counts)),
                        total=mean_s * per_s * t,
                        count=per_s * t,
                    )
                }
            },
        )
        for t in TICKS
    ]


def read(name: str, pods: Mapping[str, Sequence[Observation]], window: Window = WINDOW, **more: object) -> Reading:
    workload = replace(Workload(pods=pods, up=Gauge.RUNNING), **more)  # type: ignore[arg-type]
    return rounded(reading(ways(name, VLLM), workload, window))


def near(value: float, at_s: float = NOW_S, pods: int | None = None, count: float | None = None) -> Sample:
    return Sample(round(value, 6), at_s, pods, count)


def rounded(found: Reading) -> Reading:
    """To what floating point leaves of round numbers."""
    if isinstance(found, Missing):
        return found
    return replace(found, value=round(found.value, 6), count=None if found.count is None else round(found.count, 6))


HALF_WITHIN_1S = Buckets((1.0, 2.0, inf), (0.5, 1.0, 1.0))
BUSY = {Gauge.WAITING: 3.0, Gauge.RUNNING: 6.0, Gauge.KV_USAGE: 0.5}


# --- gauges -----------------------------------------------------------------------------------------------------------


def test_gauges_are_summed_over_pods_and_tell_how_many_stand_behind() -> None:
    pods = {"a": pod(BUSY), "b": pod(BUSY)}
    assert read("queue", pods) == near(6.0, pods=2)
    assert read("running", pods) == near(12.0, pods=2)
    assert read("kv_usage", pods) == near(1.0, pods=2)


def test_a_pod_that_went_silent_is_not_counted_and_lowers_the_coverage() -> None:
    pods = {"a": pod(BUSY), "b": pod(BUSY, ticks=TICKS[:3])}
    assert read("running", pods) == near(6.0, pods=1)


def test_a_reading_is_as_old_as_the_oldest_of_what_it_is_made_of() -> None:
    pods = {"a": pod(BUSY), "b": pod(BUSY, ticks=TICKS[:-2])}
    assert read("running", pods) == near(12.0, at_s=90.0, pods=2)


def test_a_pod_that_answers_without_the_family_is_not_zero() -> None:
    pods = {"a": pod(BUSY), "b": pod({Gauge.RUNNING: 1.0})}
    assert read("queue", pods) == near(3.0, pods=1)


@pytest.mark.parametrize(
    ("pods", "why"),
    [
        pytest.param({}, "no pod answered", id="no pods"),
        pytest.param({"a": []}, "none of 1 pods answered lately", id="never answered"),
        pytest.param({"a": pod(BUSY, ticks=(15.0,))}, "none of 1 pods answered lately", id="stale"),
        pytest.param({"a": pod({Gauge.WAITING: 1.0})}, "none of 1 pods exports running", id="other families"),
    ],
)
def test_nothing_seen_is_missing_and_not_zero(pods: Mapping[str, Sequence[Observation]], why: str) -> None:
    assert read("running", pods) == Missing(why)


@pytest.mark.parametrize("value", [nan, inf])
def test_what_is_no_number_is_missing_and_not_zero(value: float) -> None:
    got = read("running", {"a": pod(BUSY), "b": pod({Gauge.RUNNING: value})})
    assert got == Missing(f"the value is {value:g}; want a finite number, 0 or more")


def test_what_no_engine_exports_is_missing() -> None:
    assert reading((), Workload(pods={}), WINDOW) == Missing("this engine exports nothing to read it from")


# --- gateways ---------------------------------------------------------------------------------------------------------

GATEWAY = {"gw": pod({Own.REQUESTS_WAITING: 5.0, Own.SESSIONS_ACTIVE: 40.0})}


def test_a_gateways_line_is_added_to_the_engines() -> None:
    assert read("queue", {"a": pod(BUSY)}, gateways=GATEWAY) == near(8.0, pods=1)


def test_zero_pods_and_a_line_at_the_gateway_still_wake() -> None:
    assert read("queue", {}, gateways=GATEWAY) == near(5.0, pods=0)


def test_engines_that_are_silent_are_doubted_though_the_gateway_speaks() -> None:
    assert read("queue", {"a": []}, gateways=GATEWAY) == near(5.0, pods=0)


def test_sessions_of_a_gateway_are_the_whole_truth() -> None:
    agents = {"a": pod({Own.SESSIONS_ACTIVE: 7.0})}
    assert read("sessions", agents, gateways=GATEWAY) == near(40.0)
    assert read("sessions", agents) == near(7.0, pods=1)
    assert isinstance(read("sessions", {}), Missing)


def test_a_gateway_that_went_silent_is_missing() -> None:
    silent = {"gw": pod({Own.SESSIONS_ACTIVE: 40.0}, ticks=(15.0,))}
    got = read("sessions", {}, gateways=silent)
    assert got == Missing("none of 1 gateways answered lately; no pod answered")


# --- counters ---------------------------------------------------------------------------------------------------------


def test_rates_come_before_sums_so_that_a_restart_is_no_dip() -> None:
    steady = pod(BUSY, {Counter.GENERATION_TOKENS: 20.0})
    restarted = [replace(one, counters={Counter.GENERATION_TOKENS: {L: 10.0 * (one.at_s % 60)}}) for one in pod(BUSY)]
    got = read("generation_tokens_per_s", {"a": steady, "b": restarted})
    assert isinstance(got, Sample)
    assert 20.0 < got.value <= 30.0


def test_cached_tokens_are_no_work() -> None:
    cached = pod(BUSY, {Counter.PROMPT_TOKENS: 20.0, Counter.CACHED_TOKENS: 15.0})
    plain = pod(BUSY, {Counter.PROMPT_TOKENS: 20.0})
    assert read("prompt_tokens_per_s", {"a": cached}) == near(5.0, pods=1)
    assert read("prompt_tokens_per_s", {"a": plain}) == near(20.0, pods=1)
    assert read("cached_tokens_per_s", {"a": cached}) == near(15.0, pods=1)


def test_below_zero_is_zero() -> None:
    odd = pod(BUSY, {Counter.PROMPT_TOKENS: 5.0, Counter.CACHED_TOKENS: 15.0})
    assert read("prompt_tokens_per_s", {"a": odd}) == near(0.0, pods=1)


def test_the_first_increment_of_a_new_series_counts_on_a_pod_that_was_seen_before() -> None:
    labels = ("0", "stop")
    born = [
        Observation(
            at_s=t,
            gauges={Gauge.RUNNING: {L: 1.0}, Gauge.WAITING: {L: 0.0}},
            counters={Counter.ENDED: {labels: 60.0} if t >= 60 else {L: 0.0}},
        )
        for t in TICKS
    ]
    # 60 ends between 45 s and 60 s; extrapolated over a window whose first sample is at 45 s by half an interval.
    assert read("arrivals_per_s", {"a": born}) == near(60 / 120, pods=1)


def test_a_new_pod_with_a_past_does_not_count_it() -> None:
    late = pod(BUSY, {Counter.ENDED: 1.0}, ticks=TICKS[-2:])
    got = read("arrivals_per_s", {"a": late})
    assert isinstance(got, Sample)
    assert got.value < 1.0


def test_one_answer_makes_no_rate() -> None:
    one = pod(BUSY, {Counter.GENERATION_TOKENS: 20.0}, ticks=TICKS[-1:])
    why = "generation_tokens: wants two answers of a pod within 120 s"
    assert read("generation_tokens_per_s", {"a": one}) == Missing(why)
    both = {"a": one, "b": pod(BUSY, {Counter.GENERATION_TOKENS: 20.0})}
    assert read("generation_tokens_per_s", both) == near(20.0, pods=1)


def test_a_pod_that_missed_an_answer_is_thought_to_go_on_so_and_leaves_a_doubt() -> None:
    pods = {
        "a": pod(BUSY, {Counter.GENERATION_TOKENS: 20.0}),
        "b": pod(BUSY, {Counter.GENERATION_TOKENS: 20.0}, ticks=TICKS[:-2]),
    }
    got = read("generation_tokens_per_s", pods)
    assert isinstance(got, Sample)
    assert got.value == pytest.approx(40.0)
    assert got.pods == 1
    short = replace(WINDOW, length_s=20.0)
    assert read("generation_tokens_per_s", {"b": pods["b"]}, short) == Missing(
        "generation_tokens: wants two answers of a pod within 20 s"
    )


def test_a_pod_that_serves_without_a_lazy_counter_and_went_silent_is_in_doubt_too() -> None:
    silent = {"a": pod(BUSY, ticks=TICKS[:-3])}
    short = replace(WINDOW, length_s=20.0)
    assert read("preemptions_per_s", silent, short, lazy=frozenset({Counter.PREEMPTIONS})) == near(0.0, 75.0, pods=0)


def test_arrivals_are_ends_and_the_growth_of_what_is_in_flight() -> None:
    growing = [
        replace(one, gauges={Gauge.RUNNING: {L: one.at_s / 5}, Gauge.WAITING: {L: 0.0}})
        for one in pod(BUSY, {Counter.ENDED: 1.0})
    ]
    assert read("arrivals_per_s", {"a": growing}) == near(1.2, pods=1)
    assert isinstance(read("arrivals_per_s", {"a": pod({}, {Counter.ENDED: 1.0})}), Missing)


def test_a_lazy_family_that_is_not_there_is_zero_on_a_pod_that_serves() -> None:
    pods = {"a": pod(BUSY), "b": pod(BUSY, {Counter.PREEMPTIONS: 1.0})}
    lazy = frozenset({Counter.PREEMPTIONS})
    assert read("preemptions_per_s", pods) == near(1.0, pods=1)
    assert read("preemptions_per_s", pods, lazy=lazy) == near(1.0, pods=2)
    assert read("preemptions_per_s", {"a": pod(BUSY)}, lazy=lazy) == near(0.0, pods=1)
    assert isinstance(read("preemptions_per_s", {"a": pod({Gauge.WAITING: 1.0})}, lazy=lazy), Missing)


def test_a_lazy_gauge_is_zero_too() -> None:
    pods = {"a": pod({Gauge.RUNNING: 1.0})}
    assert read("queue", pods, lazy=frozenset({Gauge.WAITING})) == near(0.0, pods=1)


# --- histograms -------------------------------------------------------------------------------------------------------


def test_service_is_the_mean_time_less_the_mean_wait() -> None:
    both = [
        replace(e2e, histograms={**e2e.histograms, **wait.histograms})
        for e2e, wait in zip(
            timed(1.0, HALF_WITHIN_1S, 1.5), timed(1.0, HALF_WITHIN_1S, 0.5, Histogram.QUEUE_S), strict=True
        )
    ]
    assert read("service_s", {"a": both}) == near(1.0, pods=1, count=120.0)
    assert read("service_s", {"a": timed(1.0, HALF_WITHIN_1S, 1.5)}) == near(1.5, pods=1, count=120.0)
    assert isinstance(read("service_s", {"a": timed(0.0, HALF_WITHIN_1S, 1.5)}), Missing)


def test_a_quantile_is_of_all_pods_together_and_says_of_how_many_requests() -> None:
    pods = {"a": timed(1.0, HALF_WITHIN_1S, 1.5), "b": timed(1.0, HALF_WITHIN_1S, 1.5)}
    assert read("p95_s", pods) == near(1.9, pods=2, count=210.0)
    assert read("p50_s", pods) == near(1.0, pods=2, count=210.0)


def test_a_quantile_of_few_requests_says_nothing() -> None:
    assert read("p95_s", {"a": timed(0.1, HALF_WITHIN_1S, 1.5)}) == Missing(
        "10.5 observations in the window; a quantile wants 20"
    )


def test_a_quantile_in_the_open_bucket_says_that_it_may_be_higher() -> None:
    slow = Buckets((1.0, inf), (0.1, 1.0))
    got = read("p95_s", {"a": timed(1.0, slow, 30.0)})
    assert got == replace(near(1.0, pods=1, count=105.0), saturated=True)


def test_two_versions_with_different_buckets_meet_on_common_bounds() -> None:
    pods = {
        "old": timed(1.0, HALF_WITHIN_1S, 1.5),
        "new": timed(1.0, Buckets((0.5, 2.0, inf), (0.0, 1.0, 1.0)), 1.5),
    }
    assert read("p95_s", pods) == near(1.9, pods=2, count=210.0)


def test_a_pod_that_changes_its_buckets_has_restarted() -> None:
    old, new = timed(1.0, HALF_WITHIN_1S, 1.5)[:4], timed(1.0, Buckets((2.0, inf), (1.0, 1.0)), 1.5)[4:]
    got = read("p95_s", {"a": [*old, *new]})
    assert isinstance(got, Sample)
    assert got.count == pytest.approx(45.0 + 75.0 + 45.0)


def test_a_histogram_that_restarts_counts_what_it_has_since() -> None:
    restarted = [*timed(1.0, HALF_WITHIN_1S, 1.5)[:4]]
    restarted += [replace(one, at_s=one.at_s + 60) for one in timed(1.0, HALF_WITHIN_1S, 1.5)[:4]]
    assert read("p95_s", {"a": restarted}) == near(1.9, pods=1, count=45.0 + 60.0)


def test_attainment_is_pessimistic_where_no_bucket_ends_at_the_slo() -> None:
    pods = {"a": timed(1.0, HALF_WITHIN_1S, 1.5)}
    assert read("attainment", pods, replace(WINDOW, slo_s=1.0)) == near(0.5, pods=1, count=105.0)
    assert read("attainment", pods, replace(WINDOW, slo_s=1.5)) == near(0.5, pods=1, count=105.0)
    assert read("attainment", pods, replace(WINDOW, slo_s=2.0)) == near(1.0, pods=1, count=105.0)
    assert read("attainment", pods) == Missing("no SLO is given: p95Target or firstTokenTarget")
    assert isinstance(read("attainment", {}, replace(WINDOW, slo_s=1.0)), Missing)


def test_sums_without_buckets_have_a_mean_and_no_quantile() -> None:
    sums = [
        replace(one, histograms={Histogram.E2E_S: {L: Cumulative(None, 1.5 * one.at_s, one.at_s)}}) for one in pod(BUSY)
    ]
    assert read("service_s", {"a": sums}) == near(1.5, pods=1, count=120.0)
    assert read("p95_s", {"a": sums}) == Missing("e2e_s: no pod told of its buckets")


def test_one_answer_makes_no_quantile() -> None:
    one = timed(1.0, HALF_WITHIN_1S, 1.5)[-1:]
    assert read("p95_s", {"a": one}) == Missing("e2e_s: wants two answers of a pod within 120 s")


# --- waits ------------------------------------------------------------------------------------------------------------


def test_the_oldest_wait_is_bounded_by_the_line_and_its_pace() -> None:
    assert read("oldest_wait_s", {"a": pod(BUSY, {Counter.ENDED: 0.5})}) == near(6.0, pods=1)
    assert read("oldest_wait_s", {"a": pod({Gauge.WAITING: 0.0, Gauge.RUNNING: 1.0})}) == near(0.0, pods=1)
    assert read("oldest_wait_s", {"a": pod(BUSY, {Counter.ENDED: 0.0})}) == Missing("nothing to divide by within 120 s")


def test_the_oldest_wait_is_the_highest_that_a_pod_tells() -> None:
    pods = {"a": pod({Gauge.OLDEST_WAIT_S: 3.0}), "b": pod({Gauge.OLDEST_WAIT_S: 8.0})}
    assert reading(ways("oldest_wait_s", EVERYTHING), Workload(pods=pods), WINDOW) == near(8.0, pods=2)


# --- laws -------------------------------------------------------------------------------------------------------------

lives = st.lists(
    st.tuples(st.floats(0, 50), st.floats(0, 20), st.lists(st.sampled_from(TICKS), unique=True, max_size=8)), max_size=4
).map(
    lambda drawn: {
        f"pod-{n}": pod(
            {Gauge.WAITING: waiting, Gauge.RUNNING: 1.0, Gauge.KV_USAGE: 0.5},
            {Counter.ENDED: pace, Counter.PROMPT_TOKENS: pace, Counter.GENERATION_TOKENS: pace},
            ticks,
        )
        for n, (waiting, pace, ticks) in enumerate(drawn)
    }
)
names = st.sampled_from(sorted(RECIPES))


@given(lives, names)
def test_the_order_of_answers_changes_nothing(pods: dict[str, list[Observation]], name: str) -> None:
    assert read(name, {pod: list(reversed(seen)) for pod, seen in pods.items()}) == read(name, pods)


@given(lives, names)
def test_a_value_is_backed_by_pods_that_answered_lately(pods: dict[str, list[Observation]], name: str) -> None:
    got = read(name, pods)
    lately = [pod for pod, seen in pods.items() if any(NOW_S - one.at_s <= 60 for one in seen)]
    if isinstance(got, Sample):
        assert got.pods is None or got.pods <= len(lately)
        assert NOW_S - got.at_s <= 60
    else:
        assert got.why


@given(lives, st.sampled_from(["queue", "running", "kv_usage", "generation_tokens_per_s", "prompt_tokens_per_s"]))
def test_losing_a_pod_never_raises_a_sum_and_always_shows(pods: dict[str, list[Observation]], name: str) -> None:
    whole = read(name, pods)
    for lost in pods:
        part = read(name, {pod: seen for pod, seen in pods.items() if pod != lost})
        if isinstance(whole, Sample) and isinstance(part, Sample) and part != whole:
            assert part.value <= whole.value + 1e-9
            shows = (part.pods or 0) < (whole.pods or 0) or part.at_s > whole.at_s
            assert shows or (whole.pods or 0) < len(pods), "or the pod was not counted as whole before"
