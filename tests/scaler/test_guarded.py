"""The circuit breaker around a source, on a clock that the test moves."""

import pytest
from structlog.testing import capture_logs

from scaler.signals.reading import Missing, ReadingName, Sample
from scaler.sources.base import Found, SourceError, Subject
from scaler.sources.guarded import Guarded
from tests.fakes.clock import ManualClock
from tests.fakes.source import ScriptedSource, read_one

QUEUE = frozenset({ReadingName.QUEUE})
SUBJECT = Subject(
    namespace="agents",
    scaled_object="chat",
    workload="chat",
    backend="eu",
    preset="vllm",
    window_s=120.0,
    max_age_s=60.0,
)


class House:
    def __init__(self) -> None:
        self.clock = ManualClock(1000.0)
        self.far_side = ScriptedSource({"queue": 5.0})
        self.guarded = Guarded("eu", self.far_side, timeout_s=0.01, clock=self.clock, first_pause_s=10.0)

    async def ask(self) -> Sample | Missing:
        found: Found = await read_one(self.guarded, QUEUE, SUBJECT, self.clock())
        return found.readings[ReadingName.QUEUE]

    def break_down(self, why: str = "connection refused") -> None:
        self.far_side.breaks = SourceError(why)


async def test_what_the_source_finds_comes_through() -> None:
    house = House()
    assert await house.ask() == Sample(5.0, 1000.0)
    assert house.guarded.provides(SUBJECT) == house.far_side.provides(SUBJECT)
    await house.guarded.close()
    assert house.far_side.closed


async def test_one_failure_is_missing_and_the_next_question_is_put() -> None:
    house = House()
    house.break_down()
    assert await house.ask() == Missing("backend 'eu': connection refused")
    house.far_side.breaks = None
    assert await house.ask() == Sample(5.0, 1000.0)


async def test_a_silent_source_is_missing_after_its_time() -> None:
    house = House()
    house.far_side.hangs = True
    assert await house.ask() == Missing("backend 'eu': not read within 0.01 s")


async def test_after_three_failures_in_a_row_it_is_left_alone_for_longer_and_longer() -> None:
    house = House()
    house.break_down()
    for _ in range(3):
        await house.ask()
    asked: list[float] = []
    while house.clock() < 1400.0:
        calls = house.far_side.calls
        await house.ask()
        if house.far_side.calls > calls:
            asked.append(house.clock() - 1000.0)
        await house.clock.advance(5.0)
    assert asked == [10.0, 30.0, 70.0, 150.0, 270.0, 390.0]


async def test_while_it_is_left_alone_the_reason_is_told() -> None:
    house = House()
    house.break_down()
    for _ in range(3):
        await house.ask()
    assert await house.ask() == Missing(
        "backend 'eu': failed 3 times in a row, asked again in 10 s; the last time: connection refused"
    )


async def test_an_answer_closes_the_circuit() -> None:
    house = House()
    house.break_down()
    with capture_logs() as logs:
        for _ in range(4):
            await house.ask()
        house.far_side.breaks = None
        await house.clock.advance(10.0)
        assert await house.ask() == Sample(5.0, 1010.0)
    assert [(log["event"], log["failures"]) for log in logs] == [("source.down", 3), ("source.recovered", 3)]
    house.break_down()
    await house.ask()
    house.far_side.breaks = None
    assert await house.ask() == Sample(5.0, 1010.0)


async def test_a_defect_of_ours_is_no_outage() -> None:
    house = House()
    house.far_side.breaks = ZeroDivisionError("a defect")
    with pytest.raises(ZeroDivisionError):
        await house.ask()
