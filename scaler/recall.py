"""The past, as far as backends remember it: what a new process fills its windows with, and what it learns from."""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from scaler.evaluate import Past, evaluate, studied
from scaler.forecast.headroom import BUDGET_H, HISTORY_H, HOUR_S, LONGEST_HOLD_S, METRIC_AGE_S, Learnt
from scaler.policy.tokens_ahead import STEP_S
from scaler.signals.reading import Reading, ReadingName
from scaler.sources.base import Remembers, Source, Subject
from scaler.trigger import Trigger

IN_A_ROW: Final = 16
"""Evaluations before calls have their turn: a few milliseconds, so that thousands of triggers delay no answer."""

STRETCH: Final = 240
"""Instants of one question: four hours, whose answer is parsed in a few hundredths of a second."""

POINTS: Final = 20_000
"""Subjects times instants of one question, so that it is answered in time however many ask."""

Wanted = Sequence[tuple[Trigger, Subject]]


@dataclass(frozen=True, slots=True)
class Span:
    """Instants from `from_s` to `to_s`, both of them, `step_s` apart."""

    from_s: float
    to_s: float
    step_s: float


Moment = tuple[float, Mapping[Subject, Mapping[str, Reading]]]


async def moments(sources: Sequence[Source], wanted: Wanted, span: Span) -> Sequence[Moment]:
    """What the sources that know the past would have found at each instant, the oldest first."""
    told: dict[float, dict[Subject, dict[str, Reading]]] = {}
    for source in sources:
        if not isinstance(source, Remembers):
            continue
        asks: dict[Subject, frozenset[str]] = {}
        for trigger, subject in wanted:
            if names := trigger.wanted() & source.provides(subject):
                asks[subject] = asks.get(subject, frozenset()) | names
        for then_s, found in await source.history(asks, span.from_s, span.to_s, span.step_s) if asks else ():
            moment = told.setdefault(then_s, {})
            for subject, one in found.items():
                moment.setdefault(subject, {}).update(one.readings)
    return sorted(told.items())


async def relive(sources: Sequence[Source], wanted: Wanted, pasts: Sequence[Past], span: Span) -> Sequence[Past]:
    """The pasts that evaluations at every tick of `span` would have left; the same where nothing is known."""
    told = await moments(sources, wanted, span)
    found = list(pasts)
    for n, (trigger, subject) in enumerate(wanted):
        if n % IN_A_ROW == IN_A_ROW - 1:
            await asyncio.sleep(0)
        for then_s, of in told:
            if readings := of.get(subject):
                _, found[n] = evaluate(trigger, readings, then_s, found[n])
    return found


def beginning_s(now_s: float, trigger: Trigger) -> float:
    """From when on readings matter: the hours that are known now, and what was held when the first of them began.

    A trigger that counts who was late knows as many hours as the budget has: else two processes would price it apart.
    """
    hours = BUDGET_H if ReadingName.TTFT_ATTAINMENT in trigger.wanted() else HISTORY_H
    hour_s = (now_s // HOUR_S - hours + 1) * HOUR_S
    return (hour_s - LONGEST_HOLD_S - METRIC_AGE_S - (trigger.cold_start_s or 0.0)) // STEP_S * STEP_S


async def study(
    sources: Sequence[Source], pupils: Wanted, learnt: Sequence[Learnt], from_s: float, to_s: float
) -> Sequence[Learnt]:
    """What each pupil has learnt, once it has read every minute from `from_s` to `to_s`, both multiples of a minute.

    Asks for a stretch at a time, and keeps no more than one. A stretch that is not answered teaches nothing.
    """
    at_once = max(1, min(STRETCH, POINTS // max(1, len(pupils))))
    for first_s in range(int(from_s), int(to_s) + 1, at_once * STEP_S):
        last_s = min(to_s, first_s + (at_once - 1) * STEP_S)
        told = await moments(sources, pupils, Span(first_s, last_s, STEP_S))
        learnt = await asyncio.to_thread(_after, told, pupils, learnt)
    return learnt


def _after(told: Sequence[Moment], pupils: Wanted, learnt: Sequence[Learnt]) -> Sequence[Learnt]:
    found = list(learnt)
    for then_s, of in told:
        for n, (trigger, subject) in enumerate(pupils):
            if readings := of.get(subject):
                found[n] = studied(trigger, readings, then_s, found[n])
    return found
