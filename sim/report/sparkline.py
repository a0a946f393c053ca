"""A series as one line of text."""

from collections.abc import Callable, Iterable, Sequence
from itertools import pairwise
from typing import Final

LEVELS: Final = " ▁▂▃▄▅▆▇█"
GAP: Final = "·"


def sparkline(
    values: Sequence[float | None],
    width: int,
    top: float | None = None,
    fold: Callable[[Iterable[float]], float] = max,
) -> str:
    """At most `width` characters; each shows the highest (`fold`) of the values it stands for, `·` where there is none.

    0 is a blank and anything above it shows. `top`: the value of a full block; default the highest.

    >>> sparkline([0, 1, 4, 8, None], 5)
    ' ▁▄█·'
    """
    known = [v for v in values if v is not None]
    highest = max(known, default=0.0) if top is None else top
    return "".join(_level(v, highest) for v in _folded(values, width, fold))


def _level(value: float | None, highest: float) -> str:
    if value is None:
        return GAP
    if value <= 0 or highest <= 0:
        return LEVELS[0]
    return LEVELS[max(1, min(8, round(8 * value / highest)))]


def _folded(values: Sequence[float | None], width: int, fold: Callable[[Iterable[float]], float]) -> list[float | None]:
    count = min(width, len(values))
    edges = [i * len(values) // count for i in range(count + 1)] if count else [0]
    parts = [[v for v in values[a:b] if v is not None] for a, b in pairwise(edges)]
    return [fold(part) if part else None for part in parts]
