"""What holds for every trigger and every reading."""

from dataclasses import replace
from itertools import pairwise

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from scaler.evaluate import NO_PAST, Decision, Past, evaluate
from scaler.policy.base import MAX_REPLICAS
from scaler.signals.reading import Missing, Reading, ReadingName, Sample
from scaler.trigger import Trigger
from tests.strategies import any_triggers, readings, triggers

LAW = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])  # machines may be busy
TICK_S = 15.0
DEMAND = (
    ReadingName.QUEUE,
    ReadingName.RUNNING,
    ReadingName.SESSIONS,
    ReadingName.PROMPT_TOKENS_PER_S,
    ReadingName.GENERATION_TOKENS_PER_S,
    ReadingName.ARRIVALS_PER_S,
    ReadingName.SERVICE_S,
)
PACE = (ReadingName.RUNNING, ReadingName.SERVICE_S)
"""At the same tokens a second, more that run or a longer service say what a request is, and not that more arrive."""

Tick = dict[str, Reading]


@st.composite
def stories(draw: st.DrawFn, ticks: int = 6) -> list[Tick]:
    """Readings of consecutive ticks from 0 on."""
    return [draw(readings(n * TICK_S)) for n in range(draw(st.integers(1, ticks)))]


def follow(trigger: Trigger, told: list[Tick], past: Past = NO_PAST) -> tuple[list[Decision], Past]:
    decisions = []
    for n, tick in enumerate(told):
        decision, past = evaluate(trigger, tick, n * TICK_S, past)
        decisions.append(decision)
    return decisions, past


def bounds(trigger: Trigger) -> tuple[int, int]:
    return trigger.min_replicas or 0, MAX_REPLICAS if trigger.max_replicas is None else trigger.max_replicas


def essential(trigger: Trigger) -> set[ReadingName]:
    """Readings without which the demand may always be higher than what is known of it."""
    names: set[ReadingName] = set()
    if trigger.queue_per_replica is not None or trigger.p95_target_s is not None:
        names |= {ReadingName.QUEUE, ReadingName.RUNNING}
    if trigger.sessions_per_replica is not None:
        names |= {ReadingName.SESSIONS}
    if trigger.tokens_per_s_per_replica is not None:
        names |= {ReadingName.PROMPT_TOKENS_PER_S, ReadingName.GENERATION_TOKENS_PER_S}
    if trigger.p95_target_s is not None:
        names |= {ReadingName.ARRIVALS_PER_S}
    if trigger.learns:
        names |= {ReadingName.PROMPT_TOKENS_PER_S, ReadingName.GENERATION_TOKENS_PER_S, ReadingName.ARRIVALS_PER_S}
        names |= {ReadingName.QUEUE, ReadingName.RUNNING}
    return names


@LAW
@given(any_triggers(), stories())
def test_an_answer_is_a_whole_number_within_the_limits(trigger: Trigger, told: list[Tick]) -> None:
    low, high = bounds(trigger)
    for decision in follow(trigger, told)[0]:
        assert decision.replicas is None or low <= decision.replicas <= high
        assert type(decision.replicas) in {int, type(None)}


@LAW
@given(any_triggers(), stories())
def test_asking_twice_at_one_instant_changes_nothing(trigger: Trigger, told: list[Tick]) -> None:
    _, past = follow(trigger, told[:-1])
    now_s = (len(told) - 1) * TICK_S
    first, after = evaluate(trigger, told[-1], now_s, past)
    second, again = evaluate(trigger, told[-1], now_s, after)
    assert (first, after) == (second, again)


@LAW
@given(any_triggers(), stories())
def test_steps_tell_the_whole_story(trigger: Trigger, told: list[Tick]) -> None:
    for decision in follow(trigger, told)[0]:
        steps = [step for step in decision.steps if step.rule != "hpa-tolerance"]
        assert steps[-1].after == decision.replicas
        assert steps[0].before == decision.current
        for earlier, later in pairwise(steps):
            assert later.before in (earlier.after, decision.current)
        assert all(step.why and step.rule for step in decision.steps)
        assert decision.steps[-1].rule != "hpa-tolerance" or decision.steps[-1].after == decision.hpa


@LAW
@given(any_triggers(), stories(), st.sets(st.sampled_from(DEMAND), min_size=1))
def test_missing_demand_never_lowers(trigger: Trigger, told: list[Tick], gone: set[ReadingName]) -> None:
    """Where a reading is missing without which the demand may be higher, nothing is lowered."""
    decisions, past = follow(trigger, told)
    now_s = len(told) * TICK_S
    blind: Tick = {
        name: Missing("gone")
        if name in gone
        else replace(reading, at_s=now_s)
        if isinstance(reading, Sample)
        else reading
        for name, reading in told[-1].items()
    }
    decision, _ = evaluate(trigger, blind, now_s, past)
    _, high = bounds(trigger)
    if decision.replicas is not None and gone & essential(trigger):
        assert decision.replicas >= min(high, decision.current or 0)
        assert decision.replicas >= max((d.replicas for d in decisions[-1:] if d.replicas is not None), default=0)


@LAW
@given(any_triggers(), stories(), st.sampled_from(DEMAND), st.floats(0, 1e6))
def test_more_load_never_means_fewer_replicas(
    trigger: Trigger, told: list[Tick], name: ReadingName, more: float
) -> None:
    _, past = follow(trigger, told[:-1])
    now_s = (len(told) - 1) * TICK_S
    reading = told[-1][name]
    if isinstance(reading, Missing) or (trigger.learns and name in PACE):
        return
    more_load = {**told[-1], name: replace(reading, value=reading.value + more)}
    less, more_decision = (evaluate(trigger, tick, now_s, past)[0].replicas for tick in (told[-1], more_load))
    assert (less is None) == (more_decision is None)
    assert less is None or more_decision is None or less <= more_decision


@LAW
@given(any_triggers(), stories())
def test_a_new_process_never_scales_down(trigger: Trigger, told: list[Tick]) -> None:
    """Before its down-window is filled, it answers at least what runs, or that it does not know."""
    _, high = bounds(trigger)
    for n, decision in enumerate(follow(trigger, told)[0]):
        if n * TICK_S < trigger.stabilization_down_s and decision.replicas is not None:
            assert decision.current is None or decision.replicas >= min(high, decision.current)


@LAW
@given(triggers(), stories(), stories(), st.integers(1, 4))
def test_two_scalers_that_read_the_same_answer_the_same(
    trigger: Trigger, told: list[Tick], more: list[Tick], later: int
) -> None:
    """One that started later agrees from the moment on that its windows are filled with sure readings."""
    filled = int((trigger.stabilization_up_s + trigger.stabilization_down_s) / TICK_S) + 1
    sure: list[Tick] = [{name: Sample(float(7 * n % 11), 0.0) for name in ReadingName} for n in range(filled)]
    whole: list[Tick] = [
        {name: replace(r, at_s=n * TICK_S) if isinstance(r, Sample) else r for name, r in tick.items()}
        for n, tick in enumerate([*told, *sure, *more])
    ]
    joined = min(later, len(told))
    old_past, new_past = NO_PAST, NO_PAST
    for n, tick in enumerate(whole):
        old, old_past = evaluate(trigger, tick, n * TICK_S, old_past)
        if n >= joined:
            new, new_past = evaluate(trigger, tick, n * TICK_S, new_past)
            assert n < len(told) + filled - 1 or new == old


@LAW
@given(any_triggers(), stories())
def test_active_means_wanted(trigger: Trigger, told: list[Tick]) -> None:
    active = False
    for decision in follow(trigger, told)[0]:
        assert decision.active == (active if decision.replicas is None else decision.replicas > 0)
        active = decision.active
