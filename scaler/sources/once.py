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


class Patience:
    """Counts the questions of one instant that somebody left unanswered, so that a silent one does not take all day.

    With hundreds of questions queued, waiting out each time-out would make every answer too old to be used.
    """

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self._at_s: float | None = None
        self._silences: dict[str, int] = {}

    def ended(self, who: str, at_s: float) -> bool:
        return at_s == self._at_s and self._silences.get(who, 0) >= self.limit

    def silence(self, who: str, at_s: float) -> None:
        if at_s != self._at_s:
            self._at_s, self._silences = at_s, {}
        self._silences[who] = self._silences.get(who, 0) + 1
