"""How many times the demand that is seen must be asked for, so that enough is ready when it is needed.

A replica that is asked for now serves one lead time later. With a hold of W seconds, what is ready at any time is the
headroom times the highest demand between W and one lead time ago. So every moment of the past says how much headroom
would have been enough then: demand / held demand. The headroom is the quantile of that ratio, weighted by demand, which
lets the share of demand through that may be late; no distribution and no season is assumed, and what is learnt includes
the effect of the hold itself. Of several holds, the one that would have cost least is taken.

What is known is a function of the last `HISTORY_H` hours and of nothing older, aligned to whole hours: two scalers that
have read the same for so long give the same answer.
"""

from bisect import bisect_left, bisect_right
from collections.abc import Mapping
from dataclasses import dataclass, replace
from math import exp, floor, log
from typing import Final

HISTORY_H: Final = 48
HOUR_S: Final = 3600
HOLDS: Final = (1.0, 1.6, 2.5, 4.0, 6.0, 10.0)
"""Holds that are compared, in lead times."""

SHORTEST_LEAD_S: Final = 90.0
"""Holds are at least this times `HOLDS`: shorter ones only flap."""

LONGEST_HOLD_S: Final = 6000.0
METRIC_AGE_S: Final = 30.0
"""What is seen is so old on average: scrape, rule and poll."""

BIN: Final = 0.04
"""Width of a bin of the ratio's logarithm: headrooms are told apart to 4 %."""

LEAST: Final = 0.5
MOST: Final = 20.0
"""A headroom is never outside of these, whatever was seen."""

REVIEW_S: Final = 300
LEARNING_H: Final = 6
PRIOR: Final = 1.4
"""Before `LEARNING_H` hours are known: at least this, and at least the highest ratio that was ever seen."""

LET_THROUGH: Final = 0.45
"""Share of demand above what would be ready, in parts of the share that may be late: when too little is ready, what
comes after waits as well."""

AIM: Final = 0.8
"""Late requests of the last day that are aimed at, in parts of the share that may be late."""


@dataclass(frozen=True, slots=True)
class Observed:
    """One look at the demand.

    `slow`, `fast`: replicas kept busy by what arrives, mean over about 60 s and 30 s. `arrived`, `late`: requests since
    the observation before, and how many of them were late; 0 where that is not measured.
    """

    at_s: float
    slow: float
    fast: float
    arrived: float = 0.0
    late: float = 0.0


@dataclass(frozen=True, slots=True)
class Hour:
    """Of one hour: sums over its observations, by hold where there are several."""

    number: int
    demand: float = 0.0
    held: tuple[float, ...] = (0.0,) * len(HOLDS)
    ratios: tuple[Mapping[int, float], ...] = ({},) * len(HOLDS)
    arrived: float = 0.0
    late: float = 0.0


@dataclass(frozen=True, slots=True)
class Headroom:
    """`times`: the demand; `hold_s`: how long the highest demand stands."""

    times: float = PRIOR
    hold_s: float = 2.5 * SHORTEST_LEAD_S


@dataclass(frozen=True, slots=True)
class Learnt:
    """What is remembered from observation to observation; immutable. `at_s`, `slow`: the latest, oldest first."""

    at_s: tuple[float, ...] = ()
    slow: tuple[float, ...] = ()
    hours: tuple[Hour, ...] = ()
    headroom: Headroom = Headroom()
    reviewed_s: float | None = None

    def highest(self, since_s: float, until_s: float) -> float | None:
        """Highest demand between two instants; None where nothing was observed."""
        first, last = bisect_left(self.at_s, since_s), bisect_right(self.at_s, until_s)
        return max(self.slow[first:last], default=None)

    @property
    def known_s(self) -> float:
        """How far back what is held reaches."""
        return self.at_s[-1] - self.at_s[0] if self.at_s else 0.0


NOTHING_LEARNT: Final = Learnt()


def holds_s(cold_start_s: float) -> tuple[float, ...]:
    base_s = max(cold_start_s, SHORTEST_LEAD_S)
    return tuple(min(times * base_s, LONGEST_HOLD_S) for times in HOLDS)


def learn(learnt: Learnt, seen: Observed, *, cold_start_s: float, late_share: float) -> Learnt:
    """`learnt` and this observation. One that is not newer than the latest is left out: asking twice changes nothing.

    `late_share`: of requests, may be late.
    """
    if learnt.at_s and seen.at_s <= learnt.at_s[-1]:
        return learnt
    lead_s = cold_start_s + METRIC_AGE_S
    keep = bisect_left(learnt.at_s, seen.at_s - LONGEST_HOLD_S - lead_s)
    learnt = replace(learnt, at_s=(*learnt.at_s[keep:], seen.at_s), slow=(*learnt.slow[keep:], max(0.0, seen.slow)))
    number = floor(seen.at_s / HOUR_S)
    hours = tuple(hour for hour in learnt.hours if number - HISTORY_H < hour.number <= number)
    latest = hours[-1] if hours and hours[-1].number == number else Hour(number)
    before = hours[:-1] if hours and hours[-1].number == number else hours
    learnt = replace(learnt, hours=(*before, _counted(latest, learnt, seen, cold_start_s, lead_s)))
    if learnt.reviewed_s is None or floor(seen.at_s / REVIEW_S) > floor(learnt.reviewed_s / REVIEW_S):
        learnt = replace(learnt, headroom=_reviewed(learnt.hours, cold_start_s, late_share), reviewed_s=seen.at_s)
    return learnt


def _counted(hour: Hour, learnt: Learnt, seen: Observed, cold_start_s: float, lead_s: float) -> Hour:
    """`hour` with what this moment says of each hold; nothing, as long as no demand is known from a lead time ago."""
    hour = replace(hour, arrived=hour.arrived + seen.arrived, late=hour.late + seen.late)
    until = bisect_right(learnt.at_s, seen.at_s - lead_s)
    if until == 0 or seen.fast <= 0.0:
        return hour
    held: list[float] = []
    ratios: list[Mapping[int, float]] = []
    highest, since = 0.0, until
    for i, hold_s in enumerate(holds_s(cold_start_s)):
        reach_s = max(hold_s - cold_start_s, 0.0)
        first = min(until - 1, bisect_left(learnt.at_s, seen.at_s - lead_s - reach_s))
        highest = max(highest, *learnt.slow[first:since]) if first < since else highest
        since = min(since, first)
        step = _bin(seen.fast, highest)
        ratios.append({**hour.ratios[i], step: hour.ratios[i].get(step, 0.0) + seen.fast})
        held.append(hour.held[i] + highest)
    return replace(hour, demand=hour.demand + seen.fast, held=tuple(held), ratios=tuple(ratios))


def _bin(demand: float, held: float) -> int:
    ratio = min(max(demand / held if held > 0.0 else MOST, LEAST), MOST)
    return floor(log(ratio) / BIN)


def _reviewed(hours: tuple[Hour, ...], cold_start_s: float, late_share: float) -> Headroom:
    """The cheapest pair of hold and headroom that would have been enough."""
    demand = sum(hour.demand for hour in hours)
    options = [
        (_enough(hours, i, _let_through(hours, late_share) * demand), sum(hour.held[i] for hour in hours), hold_s)
        for i, hold_s in enumerate(holds_s(cold_start_s))
    ]
    times, _, hold_s = min(options, key=lambda option: option[0] * option[1])
    if len(hours) <= LEARNING_H:
        return Headroom(max(times, PRIOR), options[2][2])
    return Headroom(times, hold_s)


def _let_through(hours: tuple[Hour, ...], late_share: float) -> float:
    """Less where the last day had more late requests than are aimed at, up to e squared times; more where fewer."""
    if len(hours) <= LEARNING_H:
        return 0.0
    arrived, late = (sum(getattr(hour, name) for hour in hours[-24:]) for name in ("arrived", "late"))
    burn = late / arrived / (AIM * late_share) if arrived > 0.0 else 1.0
    return LET_THROUGH * late_share * exp(max(-2.0, 1.0 - burn))


def _enough(hours: tuple[Hour, ...], hold: int, through: float) -> float:
    """The headroom above which no more than `through` of the demand was."""
    sums: dict[int, float] = {}
    for hour in hours:
        for step, demand in hour.ratios[hold].items():
            sums[step] = sums.get(step, 0.0) + demand
    above = 0.0
    for step in sorted(sums, reverse=True):
        if above + sums[step] > through:
            part = (through - above) / sums[step]  # evenly within the bin
            return min(MOST, max(LEAST, exp(BIN * (step + 1 - part))))
        above += sums[step]
    return PRIOR
