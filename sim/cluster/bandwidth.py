"""A store that feeds many copies: so many at full speed, more of them share it (processor sharing)."""

from collections.abc import Callable
from dataclasses import dataclass, field
from math import inf
from typing import Protocol

from sim.kernel import Rank

Handler = Callable[[], None]
DONE_S = 1e-9  # left of a copy that is as good as done


class Clock(Protocol):
    @property
    def now_s(self) -> float: ...

    def after(self, wait_s: float, rank: Rank, handler: Handler) -> None: ...


@dataclass(slots=True)
class _Copy:
    left_s: float  #: at full speed
    done: Handler


@dataclass(slots=True)
class Store:
    """`at_once`: copies at full speed."""

    clock: Clock
    at_once: float = inf
    copies: dict[str, _Copy] = field(default_factory=dict)
    _settled_s: float = 0.0
    _turn: int = 0  #: an end that was foretold before the last change is none

    def begin(self, name: str, alone_s: float, done: Handler) -> None:
        """`alone_s`: how long the copy takes if it has the store to itself."""
        self._settle()
        self.copies[name] = _Copy(alone_s, done)
        self._foretell()

    def stop(self, name: str) -> None:
        """Nobody wants it any more."""
        self._settle()
        if self.copies.pop(name, None) is not None:
            self._foretell()

    @property
    def speed(self) -> float:
        return min(1.0, self.at_once / len(self.copies)) if self.copies else 1.0

    def _settle(self) -> None:
        passed_s = (self.clock.now_s - self._settled_s) * self.speed
        for copy in self.copies.values():
            copy.left_s -= passed_s
        self._settled_s = self.clock.now_s

    def _foretell(self) -> None:
        self._turn += 1
        turn = self._turn
        if self.copies:
            wait_s = max(0.0, min(copy.left_s for copy in self.copies.values())) / self.speed
            self.clock.after(wait_s, Rank.POD, lambda: self._end(turn))

    def _end(self, turn: int) -> None:
        if turn != self._turn:
            return
        self._settle()
        least_s = min(copy.left_s for copy in self.copies.values())
        ended = [name for name, copy in self.copies.items() if copy.left_s <= max(DONE_S, least_s)]
        handlers = [self.copies.pop(name).done for name in ended]
        self._foretell()
        for handler in handlers:
            handler()
