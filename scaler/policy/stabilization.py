"""Damping: a recommendation rises to the lowest of its up-window and falls to the highest of its down-window.

The answer is a function of the recommendations within the two windows and of nothing older, so that several replicas
of the scaler which read the same give the same answer once their windows are filled. Until then, and while anything is
in doubt, it is at least the floor: the highest of the last answer and the replicas that run.
"""

from dataclasses import dataclass, replace
from typing import Final

from scaler.forecast.headroom import NOTHING_LEARNT, Learnt
from scaler.policy.base import Recommendation, Step


@dataclass(frozen=True, slots=True, kw_only=True)
class Windows:
    """`up_s`, `down_s`: lengths of the windows. `gap_s`: not knowing for longer than this empties both."""

    up_s: float
    down_s: float
    gap_s: float


@dataclass(frozen=True, slots=True)
class Noted:
    at_s: float
    replicas: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Past:
    """What an evaluation remembers of the earlier ones; immutable.

    `wanted`: recommendations as they came; `risen`: the same after the up-window. `sure_since_s`, `sure_at_s`: first
    and last instant of the time in which recommendations were free of doubt. `answer`: the last one, before min and
    max. `active`: the last decision's. `learnt`: what a policy that learns has learnt.
    """

    wanted: tuple[Noted, ...] = ()
    risen: tuple[Noted, ...] = ()
    sure_since_s: float | None = None
    sure_at_s: float | None = None
    answer: int | None = None
    active: bool = False
    learnt: Learnt = NOTHING_LEARNT


NO_PAST: Final = Past()


def damp(
    wish: Recommendation, windows: Windows, *, now_s: float, past: Past, current: int | None
) -> tuple[int | None, tuple[Step, ...], Past]:
    """The damped recommendation (None: not known), its steps, and what to remember."""
    floor = max((replicas for replicas in (past.answer, current) if replicas is not None), default=None)
    if wish.replicas is None:
        return floor, (_floored("hold", None, floor, "demand not known"),), replace(past, answer=floor)
    wanted = _noting(past.wanted, Noted(now_s, wish.replicas), keep_s=windows.up_s, gap_s=windows.gap_s)
    sure_since_s, sure_at_s = _sure(past, wish, now_s=now_s, gap_s=windows.gap_s)
    if (lowest := _lowest(wanted, since_s=now_s - windows.up_s, floor=floor)) is None:
        why = f"demand known for less than {windows.up_s:g} s"
        past = replace(past, wanted=wanted, sure_since_s=sure_since_s, sure_at_s=sure_at_s)
        return None, (_floored("warm-up", wish.replicas, None, why),), past
    risen = _noting(past.risen, Noted(now_s, lowest), keep_s=windows.down_s, gap_s=windows.gap_s)
    since_s = now_s - windows.down_s
    highest = max([noted.replicas for noted in risen if noted.at_s >= since_s])

    steps: list[Step] = []
    if lowest != wish.replicas:
        steps.append(Step("stabilization-up", wish.replicas, lowest, f"lowest of the last {windows.up_s:g} s"))
    if highest != lowest:
        steps.append(Step("stabilization-down", lowest, highest, f"highest of the last {windows.down_s:g} s"))
    answer: int | None = highest
    if (doubt := _doubt(wish, windows, now_s, sure_since_s)) is not None and (floor is None or floor > highest):
        steps.append(_floored(doubt[0], highest, floor, doubt[1]))
        answer = floor
    past = Past(
        wanted=wanted,
        risen=risen,
        sure_since_s=sure_since_s,
        sure_at_s=sure_at_s,
        answer=past.answer if answer is None else answer,
        active=past.active,
        learnt=past.learnt,
    )
    return answer, tuple(steps), past


def _noting(history: tuple[Noted, ...], new: Noted, *, keep_s: float, gap_s: float) -> tuple[Noted, ...]:
    """`history` with `new` in place of what stands at or after its time, and one entry more than `keep_s` covers."""
    until = len(history)
    while until > 0 and history[until - 1].at_s >= new.at_s:
        until -= 1
    if until == 0 or new.at_s - history[until - 1].at_s > gap_s:
        return (new,)
    first = 0
    while first < until and history[first].at_s <= new.at_s - keep_s:
        first += 1
    return (*history[max(0, first - 1) : until], new)


def _lowest(wanted: tuple[Noted, ...], *, since_s: float, floor: int | None) -> int | None:
    """The lowest recommendation since `since_s`; where they do not reach back so far, not above the floor.

    None where there is no floor to stay at either.
    """
    lowest = min(noted.replicas for noted in wanted if noted.at_s >= since_s)
    if wanted[0].at_s <= since_s:
        return lowest
    return None if floor is None else min(lowest, floor)


def _sure(past: Past, wish: Recommendation, *, now_s: float, gap_s: float) -> tuple[float | None, float | None]:
    """Since when and until when recommendations have been free of doubt."""
    if wish.doubts:
        return past.sure_since_s, past.sure_at_s
    unbroken = past.sure_at_s is not None and 0 <= now_s - past.sure_at_s <= gap_s
    return past.sure_since_s if unbroken else now_s, now_s


def _doubt(wish: Recommendation, windows: Windows, now_s: float, sure_since_s: float | None) -> tuple[str, str] | None:
    """Rule and reason why the answer may not be lowered now; None where it may."""
    if wish.doubts:
        return "partial", f"demand may be higher: {'; '.join(wish.doubts)}"
    sure_s = now_s - (now_s if sure_since_s is None else sure_since_s)
    if sure_s < windows.down_s:
        return "warm-up", f"demand known for {sure_s:g} s, lowered only after {windows.down_s:g} s"
    return None


def _floored(rule: str, before: int | None, floor: int | None, why: str) -> Step:
    if floor is None:
        return Step(rule, before, None, f"{why}; neither the replicas that run nor an earlier answer are known")
    return Step(rule, before, floor, f"{why}; holds the highest of the last answer and the replicas that run")
