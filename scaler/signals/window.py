"""One series over a window: what it grew by, how fast, and where it is heading. Times [s], any order.

Sources: prometheus/prometheus v3 promql/functions.go (`extrapolatedRate`, `linearRegression`), whose answers these are,
so that a trigger reads the same from Prometheus and from a direct scrape.
"""

from collections.abc import Iterable, Sequence
from itertools import pairwise
from math import isfinite

Point = tuple[float, float]
"""(time [s], value)."""


def in_order(points: Iterable[Point]) -> tuple[Point, ...]:
    """`points` by time, one an instant, finite ones only.

    Of several at one instant the highest stays: a counter that two scrapes caught at once has really been so high.
    Law: the order of `points` and repeats of them change nothing.
    """
    highest: dict[float, float] = {}
    for at_s, value in points:
        if isfinite(value) and isfinite(at_s):
            highest[at_s] = max(value, highest.get(at_s, value))
    return tuple(sorted(highest.items()))


def within(points: Iterable[Point], start_s: float, end_s: float) -> tuple[Point, ...]:
    """`points` in order, later than `start_s` and not later than `end_s`."""
    return tuple(point for point in in_order(points) if start_s < point[0] <= end_s)


def increase(values: Iterable[float]) -> float:
    """What a counter grew by from its first to its last value; a fall is a reset, after which it began at 0.

    Law: 0 or more; the parts of a series that share an end add up to the whole.

    >>> increase([10, 15, 2, 3])
    8.0
    """
    grown, last = 0.0, None
    for value in values:
        if last is not None:
            grown += value - last if value >= last else value
        last = value
    return grown


def was_reset(points: Sequence[Point]) -> bool:
    """Whether a counter fell."""
    return any(later < earlier for (_, earlier), (_, later) in pairwise(points))


def rate(points: Sequence[Point], start_s: float, end_s: float) -> float | None:
    """Increase a second of a counter over the window, extrapolated to its ends.

    To the start as PromQL's `rate` does: all the way where that is no farther than 1.1 mean intervals, else by half an
    interval, and never beyond the instant at which the counter was 0. To the end all the way, which PromQL does only
    for a near one: that the newest points are late, or stamped by a clock that runs ahead, is no sign of less load.
    None of fewer than two points. `points`: of `within`.
    """
    if len(points) < 2:
        return None
    (first_s, first), (last_s, _) = points[0], points[-1]
    grown, covered_s = increase(value for _, value in points), last_s - first_s
    mean_s = covered_s / (len(points) - 1)
    to_start_s, to_end_s = first_s - start_s, end_s - last_s
    if to_start_s >= 1.1 * mean_s:
        to_start_s = mean_s / 2
    if grown > 0 and first >= 0:
        to_start_s = min(to_start_s, covered_s * (first / grown))
    return grown * ((covered_s + to_start_s + to_end_s) / covered_s) / (end_s - start_s)


def slope(points: Sequence[Point]) -> float | None:
    """Change a second by least squares, as PromQL's `deriv`; None of fewer than two points.

    Law: exact on a line, whatever the instants.
    """
    if len(points) < 2:
        return None
    mean_s = sum(at_s for at_s, _ in points) / len(points)
    mean = sum(value for _, value in points) / len(points)
    spread = sum((at_s - mean_s) ** 2 for at_s, _ in points)
    return sum((at_s - mean_s) * (value - mean) for at_s, value in points) / spread
