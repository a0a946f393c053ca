"""The words of a decision: what a policy may see, what it recommends, what is decided, and each step on the way."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import ceil
from typing import ClassVar, Final, Protocol

from scaler.forecast.headroom import NOTHING_LEARNT, Learnt
from scaler.signals.reading import Missing, Reading, ReadingName
from scaler.signals.signal import Signal, total

MAX_REPLICAS: Final = 100_000
"""No answer is higher, whatever the readings say: twenty times the nodes that one Kubernetes cluster is built for."""

NOISE: Final = 1e-9
"""Demand below this is 0: what is left when rates are added up in floating point."""


@dataclass(frozen=True, slots=True)
class Step:
    """One rule at work: `before` -> `after`, and why. None: not known."""

    rule: str
    before: float | None
    after: float | None
    why: str

    def __str__(self) -> str:
        return f"{self.rule}: {_shown(self.before)} -> {_shown(self.after)} ({self.why})"


def _shown(number: float | None) -> str:
    return "?" if number is None else f"{number:g}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """The answer with its story.

    `replicas`: what KEDA and the HPA are told, None where it is not known (the edge then answers UNAVAILABLE).
    `active`: may the workload run at all. `current`: the replicas it was decided from. `hpa`: what the HPA will make of
    `replicas`, given its tolerance; equal to `replicas` unless the last step is `hpa-tolerance`.
    `steps`: each begins where the one before it ended, or at `current` where a policy opens; all but `hpa-tolerance`
    lead to `replicas`.
    """

    replicas: int | None
    active: bool
    steps: tuple[Step, ...]
    current: int | None = None
    hpa: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Recommendation:
    """What a policy wants, before any limit.

    `replicas`: None where nothing is known of its demand. `doubts`: why the demand may be higher than was seen; with
    doubts the recommendation may raise the replicas and may never lower them. `learnt`: what is to be remembered, None
    where nothing is to be learnt from what was seen.
    """

    replicas: int | None
    steps: tuple[Step, ...]
    doubts: tuple[str, ...] = ()
    learnt: Learnt | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class View:
    """All that a policy may look at: fresh readings only, each wanted name present.

    `at_s`: the instant that is decided for; `learnt`: what the instants before it have taught.
    """

    readings: Mapping[str, Reading]
    at_s: float = 0.0
    learnt: Learnt = NOTHING_LEARNT

    @property
    def current(self) -> int | None:
        reading = self.readings[ReadingName.REPLICAS]
        return None if isinstance(reading, Missing) else int(reading.value)

    def total(self, *names: str) -> Signal:
        return total(self.readings, names, self.readings[ReadingName.READY])


class Policy(Protocol):
    """One way to turn readings into replicas."""

    rule: ClassVar[str]

    @property
    def reads(self) -> frozenset[str]: ...

    def recommend(self, view: View) -> Recommendation: ...


def replicas_for(demand: float, per_replica: float) -> int:
    """The fewest replicas that carry `demand`; 0 only for none. Floating-point dust never asks for one more."""
    if demand < NOISE:
        return 0
    need = demand / per_replica
    return MAX_REPLICAS if need >= MAX_REPLICAS else max(1, ceil(round(need, 9)))


def recommend(rule: str, view: View, signal: Signal, replicas: int | None, why: str) -> Recommendation:
    """A recommendation of one step, from the current replicas."""
    return Recommendation(replicas=replicas, steps=(Step(rule, view.current, replicas, why),), doubts=signal.doubts)


def unknown(rule: str, view: View, doubts: Sequence[str]) -> Recommendation:
    return Recommendation(
        replicas=None,
        steps=(Step(rule, view.current, None, f"demand not known: {'; '.join(doubts)}"),),
        doubts=tuple(doubts),
    )
