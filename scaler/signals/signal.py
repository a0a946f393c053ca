"""Several readings as one signal: at least so much, and why it may be more."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from scaler.signals.reading import Missing, Reading


@dataclass(frozen=True, slots=True)
class Signal:
    """A sum of readings.

    `at_least`: the sum of what is known; None where nothing is. `doubts`: why the truth may be higher, one line each;
    without doubts the signal is exact. A signal in doubt may raise a recommendation and may never lower one.
    """

    at_least: float | None
    doubts: tuple[str, ...] = ()


def fresh(reading: Reading, *, now_s: float, max_age_s: float) -> Reading:
    """`reading`, or `Missing` where its sample is older than `max_age_s`, or as far ahead of `now_s`."""
    if isinstance(reading, Missing):
        return reading
    age_s = now_s - reading.at_s
    if age_s > max_age_s:
        return Missing(f"{age_s:g} s old, older than maxAge {max_age_s:g} s")
    if -age_s > max_age_s:
        return Missing(f"{-age_s:g} s ahead of our clock, more than maxAge {max_age_s:g} s")
    return reading


def total(readings: Mapping[str, Reading], names: Sequence[str], ready: Reading) -> Signal:
    """The sum of the readings `names`; a missing reading, one in doubt, or one that lacks pods, leaves a doubt.

    `ready`: how many pods of the workload are ready, hence how many should stand behind a per-pod value.
    """
    known: list[float] = []
    doubts: list[str] = []
    for name in names:
        reading = readings[name]
        if isinstance(reading, Missing):
            doubts.append(f"{name}: {reading.why}")
            continue
        known.append(reading.value)
        if reading.doubt is not None:
            doubts.append(f"{name}: {reading.doubt}")
        if reading.pods is not None:
            doubts.extend(_uncovered(name, reading.pods, ready))
    return Signal(sum(known) if known else None, tuple(doubts))


def _uncovered(name: str, pods: int, ready: Reading) -> list[str]:
    if isinstance(ready, Missing):
        return [f"{name}: from {pods} pods, and how many are ready is not known ({ready.why})"]
    if pods < ready.value:
        return [f"{name}: from {pods} of {ready.value:g} ready pods"]
    return []
