"""Bars over time out of eighths of a character cell: one row is a sparkline, several rows are a chart."""

import math
from collections.abc import Sequence
from typing import Final

ROUND_STEPS: Final = (1.0, 1.5, 2.0, 3.0, 4.0, 5.0, 6.0, 8.0, 10.0)
EIGHTHS: Final = " ▁▂▃▄▅▆▇█"


def bars(values: Sequence[float | None], *, samples: int, width: int, height: int, top: float) -> list[str]:
    """`height` rows of `width` characters, top row first; the axis holds `samples` values, `top` fills the height.

    A column shows the highest of its samples: a peak must not vanish because the window is narrow. An unknown value
    leaves its column empty, a known one that is not 0 shows at least one eighth.
    """
    columns = [_level(part, top, height) for part in _columns(values, samples, width)]
    rows = []
    for row in reversed(range(height)):
        filled = (min(8, max(0, level - 8 * row)) for level in columns)
        rows.append("".join(EIGHTHS[eighths] for eighths in filled).ljust(width))
    return rows


def _columns(values: Sequence[float | None], samples: int, width: int) -> list[list[float]]:
    """The known values of each column that time has reached."""
    columns: list[list[float]] = []
    for column in range(width):
        first = column * samples // width
        last = max((column + 1) * samples // width, first + 1)
        if first >= len(values):
            break
        columns.append([value for value in values[first:last] if value is not None])
    return columns


def _level(part: Sequence[float], top: float, height: int) -> int:
    if not part or max(part) <= 0 or top <= 0:
        return 0
    return max(1, round(min(max(part) / top, 1.0) * 8 * height))


def round_top(values: Sequence[float | None], floor: float) -> float:
    """A calm upper end of the axis, a round number, so that it does not move with every frame."""
    highest = max([floor, *(value for value in values if value is not None)])
    power = 10.0 ** floor_log10(highest)
    return next(step * power for step in ROUND_STEPS if step * power >= highest * (1 - 1e-12))


def floor_log10(value: float) -> int:
    return math.floor(math.log10(value))
