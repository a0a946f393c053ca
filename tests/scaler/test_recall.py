"""A new process and the past: what it asks backends for, and that it then answers as one that was there all along."""

import asyncio
from itertools import pairwise
from math import pi, sin

import pytest
from prometheus_client import CollectorRegistry

from scaler.engine import Engine, Published
from scaler.forecast.headroom import BUDGET_H, HISTORY_H
from scaler.obs import Observer
from scaler.recall import POINTS, STRETCH, beginning_s, study
from scaler.signals.reading import Reading
from scaler.sources.base import Asks, History, SourceError, Subject
from scaler.trigger import Trigger
from tests.fakes.clock import ManualClock, settle
from tests.fakes.source import RememberingSource, ScriptedSource
from tests.scaler.test_engine import House, limits

KEYS = {
    "policy": "ahead",
    "workload": "chat",
    "coldStart": "3m",
    "promptTokensPerSecondPerReplica": "10000",
    "generationTokensPerSecondPerReplica": "1000",
    "slotsPerReplica": "100",
}
TRIGGER = Trigger.parse(KEYS)
HOUR_S = 3600.0
START_S = 1_000 * HOUR_S
CHAT = Subject(
    namespace="agents",
    scaled_object="chat",
    workload="chat",
    backend="default",
    preset="vllm",
    window_s=60.0,
    max_age_s=60.0,
)


def load(at_s: float) -> dict[str, Reading | float]:
    """Between two and ten replicas' work, with a jump every hour."""
    busy = 6.0 + 4.0 * sin(2 * pi * at_s / 7000.0) + (3.0 if at_s % HOUR_S < 400.0 else 0.0)
    return {
        "prompt_tokens_per_s": 5_000.0 * busy,
        "generation_tokens_per_s": 500.0 * busy,
        "arrivals_per_s": 10.0 * busy,
        "ended_per_s": 10.0 * busy,
        "service_s": 2.0,
        "queue": 0.0,
        "running": 20.0 * busy,
        "replicas": 20.0,
        "ready": 20.0,
    }


def remembering(until_s: float, hours: float) -> RememberingSource:
    ticks = int(hours * HOUR_S / 15.0)
    return RememberingSource(load(until_s), {until_s - 15.0 * n: load(until_s - 15.0 * n) for n in range(1, ticks)})


async def lived(hours: float, clock: ManualClock, source: ScriptedSource) -> Published:
    """The last answer of a scaler that has run for so long."""
    engine = Engine(None, [source], limits(), Observer(CollectorRegistry()), clock=clock)
    for n in range(int(hours * HOUR_S / 15.0)):
        clock.now_s = START_S + 15.0 * n + 1.0
        source.readings = load(START_S + 15.0 * n)
        await engine.tick(START_S + 15.0 * n)
        await engine.decide("agents", "chat", KEYS)
    answer = await engine.decide("agents", "chat", KEYS)
    await engine.close()
    return answer


async def test_a_restarted_scaler_answers_as_the_one_that_was_there() -> None:
    clock = ManualClock(START_S)
    old = await lived(3.0, clock, ScriptedSource(load(START_S)))
    assert old.at_s == START_S + 3 * HOUR_S - 15.0
    source = remembering(old.at_s, 3.0)
    engine = Engine(None, [source], limits(), Observer(CollectorRegistry()), clock=clock)
    first = await engine.decide("agents", "chat", KEYS)
    assert first.decision.replicas == 20, "it answers at once, and does not lower what runs"
    new = await engine.caught_up("agents", "chat", KEYS)
    assert new.learnt == old.learnt
    assert new.decision == old.decision
    assert new.decision.replicas is not None
    assert new.decision.replicas < 20
    await engine.close()


@pytest.mark.parametrize(
    ("more", "hours"),
    [
        pytest.param({}, HISTORY_H, id="two days of demand"),
        pytest.param({"firstTokenTarget": "2s"}, BUDGET_H, id="the whole budget, where it is counted who was late"),
    ],
)
async def test_what_is_known_is_asked_for_and_what_was_held_before_in_stretches(
    more: dict[str, str], hours: int
) -> None:
    source, keys = remembering(START_S, 0.1), KEYS | more
    engine = Engine(None, [source], limits(), Observer(CollectorRegistry()), clock=ManualClock(START_S + 1.0))
    await engine.caught_up("agents", "chat", keys)
    await engine.close()
    spans = [(from_s, to_s) for from_s, to_s, step_s in source.recalled if step_s == 60.0]
    assert spans[0][0] == beginning_s(START_S, Trigger.parse(keys))
    assert hours - 1 <= (START_S - spans[0][0]) / HOUR_S <= hours + 2
    ticks = [(from_s, to_s) for from_s, to_s, step_s in source.recalled if step_s == 15.0]
    assert ticks[-1] == (START_S - 315.0, START_S)
    assert spans[-1][1] < ticks[-1][0] <= spans[-1][1] + 60.0, "the windows follow, tick by tick"
    assert all(to_s - from_s < STRETCH * 60.0 for from_s, to_s in spans)
    assert all(later[0] == earlier[1] + 60.0 for earlier, later in pairwise(spans))


async def test_many_that_learn_together_are_asked_for_in_shorter_stretches() -> None:
    source = RememberingSource({}, {})
    pupils = [(TRIGGER, CHAT)] * 1000
    await study([source, ScriptedSource({})], pupils, [], 0.0, 6000.0)
    assert all((to_s - from_s) / 60.0 + 1 <= POINTS / 1000 for from_s, to_s, _ in source.recalled)
    assert source.recalled[-1][1] == 6000.0


@pytest.mark.parametrize(
    "breaks",
    [
        pytest.param(SourceError("down"), id="the backend is down"),
        pytest.param(ZeroDivisionError("ours"), id="a defect"),
    ],
)
async def test_where_the_past_cannot_be_read_it_learns_from_now_on_and_never_lowers(breaks: Exception) -> None:
    source = Forgetful(load(START_S), {})
    source.breaks_later = breaks
    house = House(source, ManualClock(START_S + 1.0))
    async with house:
        for n in range(8):
            source.readings = load(START_S + 15.0 * n)
            assert (await house.ask(KEYS)).decision.replicas == 20
            await house.clock.advance(15.0)
        assert len((await house.ask(KEYS)).learnt.at_s) == 3
    assert house.metric("decisions_total", rule="defect") == 1.0


class Forgetful(RememberingSource):
    """Fails as soon as it is asked for days."""

    breaks_later: Exception

    async def history(self, asks: Asks, from_s: float, to_s: float, step_s: float) -> History:
        if step_s == 60.0:
            raise self.breaks_later
        return await super().history(asks, from_s, to_s, step_s)


class Slow(RememberingSource):
    """Answers questions about days when it is let."""

    def __init__(self, source: RememberingSource) -> None:
        super().__init__(source.readings, source.then)
        self.let = asyncio.Event()

    async def history(self, asks: Asks, from_s: float, to_s: float, step_s: float) -> History:
        if step_s == 60.0:
            await self.let.wait()
        return await super().history(asks, from_s, to_s, step_s)


async def test_what_happens_while_it_reads_the_past_is_not_lost() -> None:
    source = Slow(remembering(START_S + 300.0, 3.0))
    async with House(source, ManualClock(START_S + 1.0)) as house:
        await house.ask(KEYS)
        for n in range(1, 9):
            source.readings = load(START_S + 15.0 * n)
            await house.clock.advance(15.0)
            await house.ask(KEYS)
        assert len((await house.ask(KEYS)).learnt.at_s) < 10, "windows and no more"
        source.readings = load(START_S + 120.0)
        source.let.set()
        learnt = (await house.engine.caught_up("agents", "chat", KEYS)).learnt
        assert learnt.at_s[-1] == START_S + 120.0
        assert len(learnt.hours) >= 3


async def test_a_process_that_stops_does_not_wait_for_the_past() -> None:
    source = Slow(RememberingSource(load(START_S), {}))
    async with House(source, ManualClock(START_S + 1.0)) as house:
        await house.ask(KEYS)
        await settle()
        await house.ask(KEYS, name="other")
