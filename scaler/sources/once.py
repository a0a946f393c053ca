"""Each question of a tick is asked once, however many want the answer."""

import asyncio
from collections.abc import Callable, Coroutine, Hashable
from typing import Any, Generic, TypeVar

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")


class Once(Generic[K, V]):
    """Answers by question, for one instant; the first question about another instant forgets them."""

    def __init__(self) -> None:
        self._at_s: float | None = None
        self._answers: dict[K, asyncio.Task[V]] = {}
        self._open: set[asyncio.Task[V]] = set()

    async def get(self, question: K, at_s: float, ask: Callable[[], Coroutine[Any, Any, V]]) -> V:
        """The answer of `ask`, which is called for the first of those who want it and ends by itself."""
        if at_s != self._at_s:
            self._at_s, self._answers = at_s, {}
        task = self._answers.get(question)
        if task is None:
            task = self._answers[question] = asyncio.create_task(ask())
            self._open.add(task)
            task.add_done_callback(self._open.discard)
        return await asyncio.shield(task)  # one who gives up does not take the answer from the others

    async def close(self) -> None:
        for task in self._open:
            task.cancel()
        await asyncio.gather(*self._open, return_exceptions=True)
