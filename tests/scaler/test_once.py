import asyncio

import pytest

from scaler.sources.once import Once, Patience
from tests.fakes.clock import settle


async def test_one_who_gives_up_does_not_take_the_answer_from_the_others() -> None:
    once, answer, asked = Once[str, int](), asyncio.Event(), 0

    async def ask() -> int:
        nonlocal asked
        asked += 1
        await answer.wait()
        return 42

    impatient, patient = (asyncio.create_task(once.get("q", 0.0, ask)) for _ in range(2))
    await settle()
    impatient.cancel()
    await settle()
    answer.set()
    assert (await patient, asked) == (42, 1)
    with pytest.raises(asyncio.CancelledError):
        await impatient


async def test_another_instant_asks_again() -> None:
    once, asked = Once[str, int](), []

    async def ask() -> int:
        asked.append(1)
        return len(asked)

    assert [await once.get("q", at_s, ask) for at_s in (0.0, 0.0, 15.0)] == [1, 1, 2]


def test_patience_ends_for_one_who_is_silent_and_comes_back_with_the_next_instant() -> None:
    patience = Patience(limit=2)
    asked = []
    for at_s in (0.0, 0.0, 0.0, 15.0):
        asked.append(not patience.ended("eu", at_s))
        patience.silence("eu", at_s)
    assert asked == [True, True, False, True]
    assert not patience.ended("us", 15.0)
