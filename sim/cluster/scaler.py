"""The scaler as a process: the production `evaluate` on its own tick, answers from memory.

What is imported is the decision; what stands here is the loop of `scaler/engine.py` and the error mapping of
`scaler/service.py`, on simulated time.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from math import floor
from typing import Final

from scaler.evaluate import NO_PAST, Decision, Past, evaluate
from scaler.signals.reading import Reading
from scaler.trigger import Trigger
from sim.cluster.hpa import Failed
from sim.cluster.keda import Answer
from sim.cluster.scaledobject import milli

METRIC: Final = "desired_replicas"
TARGET: Final = 1.0

Read = Callable[[frozenset[str], float, float, float | None], Mapping[str, Reading]]
"""Names, instant, window and promised latency -> readings."""


@dataclass(frozen=True, slots=True)
class Published:
    decision: Decision
    at_s: float


@dataclass(slots=True)
class Scaler:
    """`tick_s`, `delay_s`: as in the scaler's settings."""

    triggers: tuple[Trigger, ...]
    read: Read
    tick_s: float
    delay_s: float
    published: dict[int, Published] = field(default_factory=dict)
    pasts: dict[int, Past] = field(default_factory=dict)
    evaluations: int = 0

    def tick(self, now_s: float) -> None:
        """Evaluates everything as it was at the newest multiple of the tick whose measurements have arrived."""
        for number in range(len(self.triggers)):
            self._evaluate(number, self._instant(now_s))

    def _instant(self, now_s: float) -> float:
        return floor((now_s - self.delay_s) / self.tick_s + 1e-9) * self.tick_s

    def _evaluate(self, number: int, at_s: float) -> Decision:
        trigger = self.triggers[number]
        readings = self.read(trigger.wanted(), at_s, trigger.window_s, trigger.slo_s)
        past = self.pasts.get(number, NO_PAST)
        decision, self.pasts[number] = evaluate(trigger, readings, at_s, past)
        self.published[number] = Published(decision, at_s)
        self.evaluations += 1
        return decision

    def answer(self, number: int, now_s: float) -> Answer | Failed:
        """GetMetrics and IsActive, as KEDA calls them one after the other."""
        if number not in self.published:
            self._evaluate(number, self._instant(now_s))
        decision = self.published[number].decision
        if decision.replicas is None:
            return Failed(f"UNAVAILABLE: {decision.steps[-1].why if decision.steps else 'replicas not known'}")
        return Answer(milli(float(decision.replicas)), decision.active)
