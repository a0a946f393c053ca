"""Planning ahead in production: what is read, what is learnt of it, and what is never done without it."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import cache
from math import pi, sin

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from scaler.evaluate import NO_PAST, Decision, Past, evaluate, studied
from scaler.forecast.headroom import BUDGET_H, NOTHING_LEARNT, PRIOR, Learnt
from scaler.policy.base import Recommendation, View
from scaler.policy.tokens_ahead import GAP_S, STEP_S, TokensAhead
from scaler.signals.reading import Missing, Reading, ReadingName, Sample
from scaler.signals.work import Pace
from scaler.trigger import Trigger

LAW = settings(deadline=None, max_examples=60)
POLICY = TokensAhead(
    pace=Pace(prefill_per_s=10_000.0, decode_per_s=1_000.0), cold_start_s=180.0, slots=100, late_share=0.01
)
KEYS = {
    "policy": "ahead",
    "coldStart": "3m",
    "promptTokensPerSecondPerReplica": "10000",
    "generationTokensPerSecondPerReplica": "1000",
    "slotsPerReplica": "100",
    "hpaTolerance": "0",
}
TRIGGER = Trigger.parse(KEYS)
TICK_S = 15.0
CALM = {
    "prompt_tokens_per_s": 20_000.0,
    "generation_tokens_per_s": 2_000.0,
    "arrivals_per_s": 40.0,
    "ended_per_s": 40.0,
    "queue": 0.0,
    "running": 80.0,
    "service_s": 2.0,
    "replicas": 6.0,
    "ready": 6.0,
}
"""Four replicas are busy, a tenth of a replica-second a request."""


def tick(at_s: float, **changed: float | str) -> dict[str, Reading]:
    """`CALM` with some changes; texts are the reasons of what is missing."""
    told: dict[str, Reading] = {}
    for name, value in {**CALM, **changed}.items():
        told[name] = Missing(value) if isinstance(value, str) else Sample(value, at_s)
    return told


def busy(at_s: float, replicas: float, current: float = 6.0) -> dict[str, Reading]:
    """So many replicas kept busy, by requests that come and go evenly."""
    share = replicas / 4.0
    loads = {name: CALM[name] * share for name in list(CALM)[:4]}
    return tick(at_s, **loads, running=80.0 * share, replicas=current, ready=current)


def wish(changed: Mapping[str, float | str], learnt: Learnt = NOTHING_LEARNT, at_s: float = 0.0) -> Recommendation:
    told = {name: Missing("down") for name in POLICY.reads} | tick(at_s, **changed)
    return POLICY.recommend(View(readings=told, at_s=at_s, learnt=learnt))


@cache
def steady(minutes: int, replicas: float = 4.0) -> Learnt:
    """What is learnt of so many minutes of one demand, from 0 on."""
    learnt = NOTHING_LEARNT
    for n in range(minutes):
        learnt = studied(TRIGGER, busy(n * STEP_S, replicas), n * STEP_S, learnt)
    return learnt


def rules(told: Recommendation | Decision) -> list[str]:
    return [step.rule for step in told.steps]


@pytest.mark.parametrize(
    ("changed", "demand", "doubts"),
    [
        pytest.param({}, 4.0, 0, id="as much arrives as is done"),
        pytest.param({"arrivals_per_s": 50.0, "queue": 5.0}, 5.0, 0, id="what piles up is demand too"),
        pytest.param({"arrivals_per_s": 30.0}, 3.0, 0, id="what was piled up and is now done is none"),
        pytest.param({"arrivals_per_s": 0.0}, 0.0, 0, id="a rest that drains is no demand"),
        pytest.param(
            {"ended_per_s": 0.0, "running": 400.0, "arrivals_per_s": 200.0},
            8.0,
            0,
            id="as a burst begins nothing has ended, and the time in service says what a request is",
        ),
        pytest.param(
            {"ended_per_s": 0.0, "service_s": "nothing to divide by", "arrivals_per_s": 200.0},
            4.0,
            1,
            id="what a request is, is not known: what is done at least",
        ),
        pytest.param(
            {"service_s": "nothing to divide by"}, 4.0, 0, id="the time in service is not needed where requests end"
        ),
        pytest.param({"arrivals_per_s": "gone"}, 4.0, 1, id="arrivals are not known: what is done at least"),
        pytest.param(
            {"generation_tokens_per_s": "gone"}, 2.0, 1, id="generated tokens are not known: prompts at least"
        ),
        pytest.param({"replicas": "no API"}, 4.0, 1, id="how many replicas there are is not known"),
    ],
)
def test_demand_is_what_keeps_replicas_busy(changed: Mapping[str, float | str], demand: float, doubts: int) -> None:
    found = wish(changed)
    assert found.steps[0].rule == "work"
    assert found.steps[0].after == demand
    assert len(found.doubts) == doubts
    assert found.steps[1].before == (None if "replicas" in changed else 6)


def test_work_that_waits_is_a_floor_in_the_words_of_the_policy() -> None:
    found = wish({"queue": 3000.0}, steady(60), 3600.0)
    assert rules(found)[-1] == "backlog"
    assert found.replicas == 10  # 4 replicas' demand and 3000 requests of 0.1 s, 95 % of them within a minute
    assert "300 s of work wait" in found.steps[-1].why


@pytest.mark.parametrize(
    ("changed", "replicas", "why"),
    [
        pytest.param({}, None, "demand not known", id="nothing waits: not known"),
        pytest.param({"queue": 250.0}, 3, "250 wait or run, 100 slots a replica", id="a gateway holds requests"),
    ],
)
def test_without_a_pod_only_a_gateway_tells_and_nothing_is_learnt(
    changed: Mapping[str, float], replicas: int | None, why: str
) -> None:
    gone = dict.fromkeys([*list(CALM)[:4], "service_s"], "no series")
    found = wish({**gone, "queue": 0.0, "running": 0.0, "replicas": 0.0, **changed})
    assert (found.replicas, found.learnt) == (replicas, None)
    assert why in found.steps[-1].why
    assert found.doubts


def test_late_requests_are_learnt_where_the_first_token_is_measured() -> None:
    on_time = replace(POLICY, first_token_s=2.0)
    told = tick(0.0) | {str(ReadingName.TTFT_ATTAINMENT): Sample(0.9, 0.0)}
    view = View(readings=told, at_s=0.0)
    assert ReadingName.TTFT_ATTAINMENT in on_time.reads - POLICY.reads
    learnt = on_time.recommend(view).learnt
    assert learnt is not None
    assert (learnt.hours[0].arrived, learnt.hours[0].late) == pytest.approx((2400.0, 240.0))
    unmeasured = on_time.recommend(replace(view, readings=told | {str(ReadingName.TTFT_ATTAINMENT): Missing("few")}))
    assert unmeasured.learnt is not None
    assert (unmeasured.learnt.hours[0].arrived, unmeasured.learnt.hours[0].late) == (0.0, 0.0)


def test_of_each_minute_the_first_instant_is_learnt() -> None:
    past = NO_PAST
    for n in range(12):
        _, past = evaluate(TRIGGER, busy(n * TICK_S, 4.0), n * TICK_S, past)
    assert past.learnt.at_s == (0.0, 60.0, 120.0)


def test_after_a_gap_a_whole_hold_is_seen_before_anything_is_lowered() -> None:
    learnt = steady(24 * 60)
    again_s = 24 * 3600.0 + GAP_S
    hold_s = learnt.headroom.hold_s
    answers = []
    for n in range(int(hold_s / STEP_S) + 2):
        at_s = again_s + n * STEP_S
        readings = busy(at_s, 1.0)
        found = POLICY.recommend(
            View(readings={**dict.fromkeys(POLICY.reads, Missing("")), **readings}, at_s=at_s, learnt=learnt)
        )
        learnt = found.learnt or learnt
        answers.append((at_s - again_s, found.replicas or 0))
    assert all(replicas >= 6 for since_s, replicas in answers if since_s < hold_s)
    assert answers[-1][1] < 6
    assert len(learnt.hours) > 20, "the days before the gap are remembered"


def test_zero_only_after_a_hold_without_work() -> None:
    learnt = steady(24 * 60, replicas=0.0)
    idle: dict[str, float | str] = {name: 0.0 for name in CALM if name not in {"replicas", "ready"}}
    at_s = 24 * 3600.0
    assert rules(wish(idle, learnt, at_s))[-1] == "idle"
    assert wish(idle, learnt, at_s).replicas == 0
    assert wish({**idle, "running": 1.0}, learnt, at_s).replicas == 1
    assert wish({**idle, "ended_per_s": "gone"}, learnt, at_s).replicas == 1
    assert wish(idle).replicas == 6


def test_a_request_on_its_way_into_a_batch_is_no_reason_not_to_lower() -> None:
    learnt, at_s = steady(24 * 60), 24 * 3600.0
    few, many = ({"replicas": 20.0, "queue": queue, "running": 80.0} for queue in (10.0, 11.0))
    assert (wish(few, learnt, at_s).replicas or 20) < 20
    assert (wish(many, learnt, at_s).replicas, rules(wish(many, learnt, at_s))[-1]) == (20, "busy")


def test_a_start_from_next_to_nothing_is_no_lesson() -> None:
    learnt = steady(60, replicas=0.01)
    for n in range(60, 90):
        learnt = studied(TRIGGER, busy(n * STEP_S, 0.6), n * STEP_S, learnt)
    assert learnt.headroom.times == PRIOR


def test_a_decision_tells_demand_headroom_and_hold() -> None:
    decision, _ = evaluate(TRIGGER, tick(3600.0), 3600.0, Past(learnt=steady(60)))
    assert [str(step) for step in decision.steps[:2]] == [
        (
            "work: 6 -> 4 (2e+04 prompt tokens/s of 10000 a replica, 2000 generated of 1000: 4 replicas busy; "
            "+0 requests/s pile up, 0.1 s of work each)"
        ),
        "ahead: 6 -> 6 (1.4 x 4 replicas' demand, the highest of 1800 s, 95% busy)",
    ]


def wavy(n: int, current: float) -> dict[str, Reading]:
    """Two hours of a wave, with jumps and with minutes that nobody measured."""
    at_s = n * TICK_S
    if n // 4 % 37 < 2 or n // 4 % 101 < 4:
        return {"replicas": Sample(current, at_s), "ready": Sample(current, at_s)}
    replicas = 6.0 + 4.0 * sin(2 * pi * at_s / 7200.0) + (5.0 if n % 211 < 20 else 0.0)
    return busy(at_s, replicas, current)


def follow(ticks: Sequence[int], past: Past, current: float = 8.0) -> tuple[list[Decision], Past]:
    decisions = []
    for n in ticks:
        decision, past = evaluate(TRIGGER, wavy(n, current), n * TICK_S, past)
        current = float(decision.replicas or 0)
        decisions.append(decision)
    return decisions, past


def taught(until: int, since: int = 0) -> Learnt:
    """What a new process learns from the backend: an instant a minute."""
    learnt = NOTHING_LEARNT
    for n in range(since, until, 4):
        learnt = studied(TRIGGER, wavy(n, 8.0), n * TICK_S, learnt)
    return learnt


@settings(deadline=None, max_examples=5)
@given(st.integers(300, 900))
def test_a_restarted_scaler_that_reads_the_past_knows_what_it_knew(restart: int) -> None:
    decisions, old = follow(range(restart), NO_PAST)
    assert old.learnt == taught(restart)
    windows = Past(learnt=taught(restart), wanted=old.wanted, risen=old.risen, answer=old.answer)
    now = float(decisions[-1].replicas or 0)
    one, _ = follow(range(restart, restart + 40), old, now)
    other, _ = follow(
        range(restart, restart + 40), replace(windows, sure_since_s=old.sure_since_s, sure_at_s=old.sure_at_s), now
    )
    assert one == other


@LAW
@given(st.integers(0, 200), st.integers(1, 6))
def test_polls_may_repeat_as_often_as_they_like(n: int, times: int) -> None:
    _, past = follow(range(n), NO_PAST)
    first, after = evaluate(TRIGGER, wavy(n, 8.0), n * TICK_S, past)
    for _ in range(times):
        again, after_again = evaluate(TRIGGER, wavy(n, 8.0), n * TICK_S, after)
        assert (again, after_again) == (first, after)


@LAW
@given(
    known=st.sampled_from([0.0, 0.3, 4.0, 55.5]),
    name=st.sampled_from(["queue", "arrivals_per_s", "prompt_tokens_per_s", "generation_tokens_per_s"]),
    more=st.floats(0, 1e6),
    minutes=st.sampled_from([0, 3, 20]),
)
def test_more_that_waits_arrives_or_is_computed_never_means_fewer(
    known: float, name: str, more: float, minutes: int
) -> None:
    past, at_s = Past(learnt=steady(minutes, known)), minutes * STEP_S
    readings = busy(at_s, known)
    less = readings[name]
    assert isinstance(less, Sample)
    few, _ = evaluate(TRIGGER, readings, at_s, past)
    many, _ = evaluate(TRIGGER, readings | {name: replace(less, value=less.value + more)}, at_s, past)
    assert few.replicas is not None
    assert many.replicas is not None
    assert few.replicas <= many.replicas


@LAW
@given(
    gone=st.sets(st.sampled_from(sorted(POLICY.reads - {ReadingName.SERVICE_S})), min_size=1),
    stale=st.booleans(),
    minutes=st.sampled_from([0, 5, 30]),
    queue=st.sampled_from([0.0, 40.0]),
)
def test_what_is_not_known_or_stale_never_lowers(gone: set[str], stale: bool, minutes: int, queue: float) -> None:
    past, current = Past(learnt=steady(minutes, 1.0)), 6.0
    at_s = minutes * STEP_S
    told = busy(at_s, 1.0, current) | {"queue": Sample(queue, at_s)}
    blind = {
        name: (Sample(0.0, at_s - 61.0) if stale else Missing("gone")) if name in gone else r
        for name, r in told.items()
    }
    decision, after = evaluate(TRIGGER, blind, at_s, past)
    assert decision.replicas is not None
    assert decision.replicas >= current
    if gone - {"queue", "running"}:
        assert after.learnt == past.learnt


def test_steps_begin_where_the_one_before_ended() -> None:
    decisions, _ = follow(range(200), NO_PAST)
    for decision in decisions:
        assert decision.steps[0].before == decision.current
        assert all(step.why for step in decision.steps)


def test_days_are_remembered_and_no_more() -> None:
    learnt = NOTHING_LEARNT
    for n in range(0, (BUDGET_H + 6) * 60, 10):
        learnt = studied(TRIGGER, busy(n * 60.0, 4.0), n * 60.0, learnt)
    assert len(learnt.hours) == BUDGET_H
