"""The arithmetic of recipes: what a way yields, given what is known of its leaves."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from math import inf
from typing import Final

from scaler.signals.reading import Missing
from scaler.signals.recipes import Expression, Known, Less, OrZero, Per, Total, Wait


@dataclass(frozen=True, slots=True)
class Term:
    """Part of a reading; unlike a sample it may be negative.

    `pods`: how many stand behind it, None where no pods do. `doubt`: why it may be only part of the truth.
    """

    value: float
    at_s: float
    pods: int | None = None
    count: float | None = None
    saturated: bool = False
    doubt: str | None = None


Part = Term | Missing
NOTHING: Final = Missing("no series")
"""Nothing is said, which is no fault: another witness may know."""


def combine(way: Expression, leaf: Callable[[Expression], Part]) -> Part:
    """What `way` yields. `leaf`: what is known of a part that is not made of others, NOTHING where nothing is said.

    A leaf that is missing for any other reason (nonsense, no answer) makes the whole missing, save under `OrZero`:
    unlike one that is silent it may be most of it.
    """

    def made(part: Expression) -> Part:
        return combine(part, leaf)

    match way:
        case Known(parts):
            said = [part for part in map(made, parts) if part != NOTHING]
            part = joined(sum, *said) if said else NOTHING
        case Total(parts):
            part = joined(sum, *map(made, parts))
        case Less(whole, less):
            part = joined(lambda values: max(0.0, values[0] - values[1]), made(whole), made(less))
        case OrZero(of):
            part = Term(0.0, inf) if isinstance(made(of), Missing) else made(of)
        case Per(over, under):
            part = _quotient(made(over), made(under))
        case Wait(line, pace):
            waiting = made(line)
            idle = isinstance(waiting, Term) and waiting.value == 0
            part = waiting if idle else _quotient(waiting, made(pace))
        case _:
            part = leaf(way)
    return part


def joined(law: Callable[[Sequence[float]], float], *parts: Part) -> Part:
    """One term of several, as old as the oldest and as sure as the least sure; missing where one is."""
    terms = [part for part in parts if isinstance(part, Term)]
    if len(terms) < len(parts):
        return Missing("; ".join(dict.fromkeys(part.why for part in parts if isinstance(part, Missing))))
    return Term(
        law([term.value for term in terms]),
        min(term.at_s for term in terms),
        min((term.pods for term in terms if term.pods is not None), default=None),
        count=min((term.count for term in terms if term.count is not None), default=None),
        saturated=any(term.saturated for term in terms),
        doubt=next((term.doubt for term in terms if term.doubt is not None), None),
    )


def _quotient(over: Part, under: Part) -> Part:
    if isinstance(under, Term) and under.value <= 0:
        return Missing("nothing ended within the window")
    part = joined(lambda values: values[0] / values[1], over, under)
    return replace(part, count=under.count) if isinstance(part, Term) and isinstance(under, Term) else part
