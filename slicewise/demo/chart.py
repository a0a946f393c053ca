"""Bars over time out of eighths of a character cell: one row is a sparkline, several rows are a chart."""

from collections.abc import Sequence
from typing import Final

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
    """A calm upper end of the axis: the next of 1, 2, 5 times a power of ten, so that it does not move every frame."""
    highest = max([value for value in values if value is not None], default=0.0)
    top = floor
    while top < highest:
        mantissa = float(f"{top:e}".split("e")[0])
        top *= 2.5 if 1.9 < mantissa < 2.1 else 2.0
    return top
