"""How many times the demand that is seen must be asked for, so that enough is ready when it is needed.

A replica that is asked for now serves one lead time later. With a hold of W seconds, what is ready at any time is the
headroom times the highest demand between W and one lead time ago. So every moment of the past says how much headroom
would have been enough then: demand / held demand. Of all headrooms and holds, those are taken that would have cost
least in the last days, replicas and late work together, at a price of late work. No distribution and no season is
assumed, and what is learnt includes the effect of the hold itself.

The price is what a budget of late requests over `BUDGET_H` hours makes it: it rises with what was late beyond the
budget, and falls with what was left of it.

What is known is a function of the last `BUDGET_H` hours and of nothing older (of demand: of `HISTORY_H`), aligned to
whole hours: two scalers that have read the same for so long give the same answer.
"""

from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
from math import exp, floor, log
from typing import Final

HISTORY_H: Final = 48
BUDGET_H: Final = 168
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

LOWEST: Final = floor(log(LEAST) / BIN)
HIGHEST: Final = floor(log(MOST) / BIN)
TIMES: Final = {step: min(MOST, exp(BIN * (step + 1))) for step in range(LOWEST, HIGHEST + 1)}
"""Upper end of each bin."""

REVIEW_S: Final = 900
LEARNING_H: Final = 6
PRIOR: Final = 1.4
"""Before `LEARNING_H` hours are known: at least this, and at least the highest ratio that was ever seen."""

PRICE: Final = 0.24
"""Of late work, in replica-seconds for a second of it, times the share that may be late, while the budget is kept."""

AIM: Final = 0.65
"""The budget, in parts of the share that may be late."""

GAIN_PER_DAY: Final = 1.0
"""The price's logarithm for a day's budget that was overspent, or left."""

SWING: Final = 1.4
"""The price's logarithm moves by no more: to a fourth, or four times as much."""


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
    """Of one hour: sums over its observations. `held` and `ratios`: by hold (`HOLDS`)."""

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
    """What is remembered from observation to observation; immutable. `at_s`, `slow`: the latest, oldest first.

    `hours`: oldest first, the latest one still grows. `past`: sums over those before it that lie in `HISTORY_H`.
    """

    at_s: tuple[float, ...] = ()
    slow: tuple[float, ...] = ()
    hours: tuple[Hour, ...] = ()
    past: Hour = field(default=Hour(0))
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


@lru_cache(maxsize=256)
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
    number = floor(seen.at_s / HOUR_S)
    hours, past = learnt.hours, learnt.past
    if not hours or hours[-1].number != number:
        hours = (*(_aged(hour, number) for hour in hours if number - BUDGET_H < hour.number), Hour(number))
        past = _sum(hours[:-1])
    at_s, slow = (*learnt.at_s[keep:], seen.at_s), (*learnt.slow[keep:], max(0.0, seen.slow))
    hours = (*hours[:-1], _counted(hours[-1], at_s, slow, seen, cold_start_s))
    headroom, reviewed_s = learnt.headroom, learnt.reviewed_s
    if len(hours) <= LEARNING_H or floor(seen.at_s / REVIEW_S) > floor((reviewed_s or 0.0) / REVIEW_S):
        headroom, reviewed_s = _reviewed(hours, past, cold_start_s, late_share), seen.at_s
    return Learnt(at_s, slow, hours, past, headroom, reviewed_s)


def _aged(hour: Hour, number: int) -> Hour:
    """`hour`, as it is remembered in the hour `number`: of the older ones only what counts for the budget."""
    if number - HISTORY_H < hour.number or hour.demand == 0.0:
        return hour
    return Hour(hour.number, arrived=hour.arrived, late=hour.late)


def _sum(hours: Sequence[Hour]) -> Hour:
    """All of them as one."""
    ratios: list[Mapping[int, float]] = []
    for hold in range(len(HOLDS)):
        sums: dict[int, float] = {}
        for hour in hours:
            for step, demand in hour.ratios[hold].items():
                sums[step] = sums.get(step, 0.0) + demand
        ratios.append(sums)
    held = tuple(sum(column) for column in zip(*(hour.held for hour in hours), strict=True)) or Hour(0).held
    arrived, late = sum(hour.arrived for hour in hours), sum(hour.late for hour in hours)
    return Hour(len(hours), sum(hour.demand for hour in hours), held, tuple(ratios), arrived, late)


def _counted(hour: Hour, at_s: Sequence[float], slow: Sequence[float], seen: Observed, cold_start_s: float) -> Hour:
    """`hour` with what this moment says of each hold; nothing, as long as no demand is known from a lead time ago."""
    arrived, late = hour.arrived + seen.arrived, hour.late + seen.late
    until_s = seen.at_s - (cold_start_s + METRIC_AGE_S)
    until = bisect_right(at_s, until_s)
    if until == 0 or seen.fast <= 0.0:
        return replace(hour, arrived=arrived, late=late)
    firsts = [
        min(until - 1, bisect_left(at_s, until_s - max(hold_s - cold_start_s, 0.0))) for hold_s in holds_s(cold_start_s)
    ]
    held = tuple(_highest(slow, firsts, until))
    ratios: list[Mapping[int, float]] = []
    for before, highest in zip(hour.ratios, held, strict=True):
        counted, step = dict(before), _bin(seen.fast, highest)
        counted[step] = counted.get(step, 0.0) + seen.fast
        ratios.append(counted)
    sums = tuple([before + highest for before, highest in zip(hour.held, held, strict=True)])
    return Hour(hour.number, hour.demand + seen.fast, sums, tuple(ratios), arrived, late)


def _highest(values: Sequence[float], firsts: Iterable[int], until: int) -> Iterable[float]:
    """Of `values` from each of `firsts` (descending) to before `until`."""
    highest = 0.0
    for first in firsts:
        if first < until:
            highest = max(highest, *values[first:until])
            until = first
        yield highest


def _bin(demand: float, held: float) -> int:
    if held <= 0.0 or demand >= MOST * held:
        return HIGHEST
    ratio = demand / held
    return floor(log(ratio) / BIN) if ratio > LEAST else LOWEST


def _reviewed(hours: Sequence[Hour], past: Hour, cold_start_s: float, late_share: float) -> Headroom:
    """The headroom and hold that would have cost least; while little is known, nothing is given up."""
    known = _sum((past, hours[-1]))
    holds = holds_s(cold_start_s)
    if len(hours) <= LEARNING_H:
        return Headroom(max(PRIOR, TIMES[max(known.ratios[-1], default=LOWEST)]), holds[-1])
    price = _price(hours, late_share)
    costs = [
        (*_cheapest(ratios, held, price), hold_s)
        for ratios, held, hold_s in zip(known.ratios, known.held, holds, strict=True)
    ]
    _, times, hold_s = min(costs)
    return Headroom(times, hold_s)


def _price(hours: Sequence[Hour], late_share: float) -> float:
    """Of late work, by what of the budget was spent; where nothing is known of that, as if it had been kept."""
    arrived, late = sum(hour.arrived for hour in hours), sum(hour.late for hour in hours)
    over = late / arrived / (AIM * late_share) - 1.0 if arrived > 0.0 else 0.0
    days = len(hours) * HOUR_S / 86_400
    return PRICE / late_share * exp(min(SWING, max(-SWING, GAIN_PER_DAY * days * over)))


def _cheapest(ratios: Mapping[int, float], held: float, price: float) -> tuple[float, float]:
    """The least cost and its headroom, of those that would have been enough up to some bin."""
    least, headroom, above = float("inf"), PRIOR, 0.0
    for step in sorted(ratios, reverse=True):
        cost = TIMES[step] * held + price * above
        if cost < least:
            least, headroom = cost, TIMES[step]
        above += ratios[step]
    return least, headroom
