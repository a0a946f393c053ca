"""The engine on a clock that the test moves: ticks, memory, first answers, limits."""

import asyncio
from collections.abc import Mapping
from typing import Any, Self

import pytest
from prometheus_client import CollectorRegistry

from scaler.access import Access
from scaler.engine import Engine, FullError, Limits, Published
from scaler.obs import Observer
from scaler.signals.reading import Missing, Reading, ReadingName
from scaler.sources.base import SourceError
from scaler.sources.guarded import Guarded
from scaler.trigger import TriggerError
from tests.fakes.clock import ManualClock, settle
from tests.fakes.source import RememberingSource, ScriptedSource

QUEUE = {"policy": "queue", "queuePerReplica": "1", "workload": "chat", "stabilizationDown": "0s"}
LOAD: dict[str, Reading | float] = {"queue": 5.0, "running": 0.0, "replicas": 3.0, "ready": 3.0}
START_S = 1000.0


def limits(**changed: object) -> Limits:
    usual: dict[str, object] = {
        "tick_s": 15.0,
        "delay_s": 1.0,
        "first_answer_s": 5.0,
        "forget_after_s": 100.0,
        "max_objects": 3,
        "backends": {"default": Access(roles=frozenset({"metrics"}))},
        "presets": frozenset({"vllm"}),
        "dependencies": frozenset({"vectors"}),
        "reads_cluster": True,
    }
    return Limits(**{**usual, **changed})  # type: ignore[arg-type]  # a table of overrides


class House:
    """An engine with its clock and its source, ticking."""

    def __init__(self, source: ScriptedSource, clock: ManualClock | None = None, **changed: object) -> None:
        self.clock = clock or ManualClock(START_S)
        self.source = source
        self.registry = CollectorRegistry()
        self.engine = Engine(
            None, [source], limits(**changed), Observer(self.registry), clock=self.clock, sleep=self.clock.sleep
        )
        self._ticking: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        self._ticking = asyncio.create_task(self.engine.run())
        await settle()
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._ticking is not None
        self._ticking.cancel()
        await asyncio.gather(self._ticking, return_exceptions=True)
        await self.engine.close()

    async def ask(self, metadata: Mapping[str, str] = QUEUE, name: str = "chat") -> Published:
        return await self.engine.decide("agents", name, metadata)

    def metric(self, name: str, **labels: str) -> float | None:
        return self.registry.get_sample_value(f"slicewise_scaler_{name}", labels)


async def test_the_first_call_is_evaluated_at_once_at_the_last_aligned_instant() -> None:
    async with House(ScriptedSource(LOAD)) as house:
        published = await house.ask()
        assert (published.decision.replicas, published.at_s) == (5, 990.0)
        (asked,) = house.source.asked
        assert asked[2] == 990.0


async def test_calls_between_ticks_are_answered_from_memory() -> None:
    async with House(ScriptedSource(LOAD)) as house:
        answers = [await house.ask() for _ in range(10)]
        house.source.readings["queue"] = 50.0
        answers.append(await house.ask())
        assert len(house.source.asked) == 1
        assert {answer.decision.replicas for answer in answers} == {5}


async def test_a_tick_measures_its_instant_after_the_delay() -> None:
    async with House(ScriptedSource(LOAD)) as house:
        await house.ask()
        house.source.readings["queue"] = 9.0
        await house.clock.advance(5.9)
        assert (await house.ask()).decision.replicas == 5
        await house.clock.advance(0.2)
        assert (await house.ask()).at_s == 1005.0
        assert (await house.ask()).decision.replicas == 9


async def test_two_scalers_that_read_the_same_publish_the_same() -> None:
    clock = ManualClock(START_S)
    async with House(ScriptedSource(LOAD), clock) as one, House(ScriptedSource(LOAD), clock) as two:
        for queue in (5.0, 40.0, 2.0, 11.0):
            one.source.readings["queue"] = two.source.readings["queue"] = queue
            await clock.advance(15.0)
            assert await one.ask() == await two.ask()


async def test_a_tick_that_takes_too_long_leaves_out_those_it_covers() -> None:
    async with House(ScriptedSource(LOAD)) as house:
        await house.ask()
        await house.clock.advance(6.5)
        await house.clock.advance(40.0)  # the process was stopped, say
        await house.clock.advance(15.0)
        assert [asked[2] for asked in house.source.asked] == [990.0, 1005.0, 1020.0, 1050.0]


async def test_the_first_of_several_sources_gives_a_reading_and_the_name() -> None:
    clock = ManualClock(START_S)
    both = frozenset({ReadingName.REPLICAS, ReadingName.READY})
    cluster, metrics = ScriptedSource({"replicas": 3.0, "ready": 3.0}, "chat", both), ScriptedSource(LOAD)
    engine = Engine(cluster, [metrics], limits(), Observer(CollectorRegistry()), clock=clock)
    await engine.decide("agents", "so", {"queuePerReplica": "1"})
    assert [(names, subject.workload) for names, subject, _ in cluster.asked] == [(both, None)]
    assert [(names, subject.workload) for names, subject, _ in metrics.asked] == [
        (frozenset({"queue", "running"}), "chat")
    ]
    await engine.decide("agents", "so", {"queuePerReplica": "1", "workload": "other"})
    assert metrics.asked[-1][1].workload == "other"
    await engine.close()
    assert (cluster.closed, metrics.closed) == (True, True)


async def test_a_source_that_hangs_is_missing_and_others_are_not_lost() -> None:
    clock = ManualClock(START_S)
    both = frozenset({ReadingName.REPLICAS, ReadingName.READY})
    cluster, metrics = ScriptedSource(LOAD, provides=both), ScriptedSource()
    metrics.hangs = True
    guarded = Guarded("default", metrics, timeout_s=0.01, clock=clock)
    engine = Engine(cluster, [guarded], limits(), Observer(CollectorRegistry()), clock=clock)
    decision = (await engine.decide("agents", "chat", QUEUE)).decision
    assert (decision.replicas, decision.current) == (3, 3)
    assert "queue: backend 'default': not read within 0.01 s" in decision.steps[0].why
    await engine.close()


async def test_a_first_evaluation_that_is_late_answers_not_known_and_is_there_for_the_next_call() -> None:
    clock, source = ManualClock(START_S), ScriptedSource(LOAD)
    source.hangs = True
    engine = Engine(None, [source], limits(first_answer_s=0.01), Observer(CollectorRegistry()), clock=clock)
    decision = (await engine.decide("agents", "chat", QUEUE)).decision
    assert (decision.replicas, decision.active) == (None, False)
    assert str(decision.steps[0]) == "no-answer: ? -> ? (the first evaluation has not ended within 0.01 s)"
    await engine.close()


async def test_calls_at_once_about_a_new_trigger_share_its_first_evaluation() -> None:
    async with House(ScriptedSource(LOAD)) as house:
        answers = await asyncio.gather(*(house.ask() for _ in range(5)))
        assert len({id(answer) for answer in answers}) == 1
        assert len(house.source.asked) == 1


async def test_an_answer_that_is_too_old_is_none() -> None:
    clock, source = ManualClock(START_S), ScriptedSource(LOAD)
    engine = Engine(None, [source], limits(), Observer(CollectorRegistry()), clock=clock)
    await engine.decide("agents", "chat", QUEUE)
    clock.now_s = 990.0 + 61.0
    assert (await engine.decide("agents", "chat", QUEUE)).decision.replicas == 5
    clock.now_s += 1.0
    decision = (await engine.decide("agents", "chat", QUEUE)).decision
    assert (decision.replicas, decision.active) == (None, True)
    assert decision.steps[0].why == "the last evaluation is 62 s old"


async def test_a_defect_in_one_evaluation_leaves_the_others_alone() -> None:
    async with House(ScriptedSource(LOAD)) as house:
        await house.ask()
        house.source.breaks = ZeroDivisionError("a defect")
        with_defect = await house.ask(name="other")
        assert with_defect.decision.replicas is None
        await house.clock.advance(15.0)
        house.source.breaks = None
        await house.clock.advance(15.0)
        assert (await house.ask()).at_s == (await house.ask(name="other")).at_s == 1020.0
        assert house.metric("decisions_total", rule="defect") == 3.0


async def test_what_nobody_asks_for_is_forgotten_with_its_metrics() -> None:
    async with House(ScriptedSource(LOAD)) as house:
        await house.ask()
        await house.clock.advance(15.0)
        assert house.metric("objects") == 1.0
        for _ in range(8):
            await house.clock.advance(15.0)
        asked = len(house.source.asked)
        await house.clock.advance(15.0)
        assert (len(house.source.asked), house.metric("objects")) == (asked, 0.0)
        assert not [m for metric in house.registry.collect() for m in metric.samples if "namespace" in m.labels]


async def test_the_number_of_triggers_is_bounded() -> None:
    async with House(ScriptedSource(LOAD)) as house:
        for n in range(3):
            await house.ask(name=f"chat-{n}")
        with pytest.raises(FullError, match="3 triggers already"):
            await house.ask(name="chat-3")
        await house.ask(name="chat-0")


async def test_two_triggers_of_one_object_have_two_memories() -> None:
    async with House(ScriptedSource(LOAD)) as house:
        await house.ask()
        other = await house.ask(QUEUE | {"queuePerReplica": "5"})
        assert other.decision.replicas == 1
        assert (await house.ask()).decision.replicas == 5


async def test_news_come_with_each_evaluation() -> None:
    async with House(ScriptedSource(LOAD)) as house:
        await house.ask()
        waiting = asyncio.create_task(house.engine.news("agents", "chat", QUEUE))
        await settle()
        assert not waiting.done()
        await house.clock.advance(15.0)
        assert waiting.done()


@pytest.mark.parametrize(
    ("metadata", "changed", "want"),
    [
        pytest.param(
            QUEUE | {"backend": "us"},
            {},
            "this server knows default (got 'us')",
            id="backend",
        ),
        pytest.param(QUEUE | {"preset": "tgi"}, {}, "'preset': this server knows vllm (got 'tgi')", id="preset"),
        pytest.param(
            QUEUE | {"dependsOn": "vectors,llm"},
            {},
            "'dependsOn': this server knows vectors (got 'llm')",
            id="dependency",
        ),
        pytest.param(
            QUEUE | {"maxAge": "20s"}, {}, "want at least 30s (got '20s')", id="maxAge shorter than two ticks"
        ),
        pytest.param(
            {"queuePerReplica": "1"},
            {"reads_cluster": False},
            "this server does not read the Kubernetes API, so it needs workload",
            id="no workload and nobody to ask",
        ),
        pytest.param(
            {"backend": "us", "queuePerReplica": "x"},
            {},
            "'backend': for namespace 'agents'",
            id="faults of both kinds",
        ),
    ],
)
async def test_what_this_server_cannot_serve_is_refused(
    metadata: dict[str, str], changed: dict[str, Any], want: str
) -> None:
    house = House(ScriptedSource(LOAD), **changed)
    with pytest.raises(TriggerError) as caught:
        await house.ask(metadata)
    assert want in str(caught.value)
    assert house.source.asked == []


async def test_missing_is_counted_by_reading() -> None:
    async with House(ScriptedSource(LOAD | {"queue": Missing("gone")})) as house:
        await house.ask()
        assert house.metric("readings_missing_total", reading="queue") == 1.0
        assert house.metric("decisions_total", rule="partial") == 1.0


def busy_then_idle(at_s: float) -> dict[str, Reading | float]:
    return LOAD | {"queue": 9.0 if at_s < 700.0 else 2.0, "replicas": 9.0, "ready": 9.0}


async def test_a_new_process_that_can_ask_for_the_past_answers_as_one_that_was_there() -> None:
    keys = QUEUE | {"stabilizationDown": "120s"}
    clock, there = ManualClock(600.0), ScriptedSource(busy_then_idle(600.0))
    async with House(there, clock) as house:
        while clock() < START_S:
            there.readings = busy_then_idle(clock())
            await house.ask(keys)
            await clock.advance(15.0)
        old = (await house.ask(keys)).decision
    then = {at_s: busy_then_idle(at_s) for at_s in (15.0 * n for n in range(100))}
    remembering = RememberingSource(busy_then_idle(START_S), then)
    async with House(remembering, ManualClock(clock())) as house:
        new = (await house.ask(keys)).decision
        assert (new.replicas, new.steps) == (old.replicas, old.steps)
        assert new.replicas == 2
        ((from_s, to_s, step_s),) = remembering.recalled
        assert to_s - from_s == 120.0
        assert step_s == 15.0
        await house.clock.advance(15.0)
        assert len(remembering.recalled) == 1


async def test_a_new_process_without_a_past_does_not_scale_down() -> None:
    keys = QUEUE | {"stabilizationDown": "120s"}
    remembering = RememberingSource(busy_then_idle(START_S), {})
    guarded = Guarded("default", remembering, timeout_s=1.0, clock=ManualClock(START_S))
    engine = Engine(None, [guarded], limits(), Observer(CollectorRegistry()), clock=ManualClock(START_S))
    assert (await engine.decide("agents", "chat", keys)).decision.replicas == 9
    remembering.breaks = SourceError("down")
    assert await guarded.history({}, 0.0, 1.0, 1.0) == ()
    await engine.close()


async def test_triggers_that_are_new_together_are_asked_for_together() -> None:
    async with House(ScriptedSource(LOAD), max_objects=50) as house:
        await asyncio.gather(*(house.ask(name=f"chat-{n}") for n in range(50)))
        assert (house.source.calls, len(house.source.asked)) == (1, 50)
