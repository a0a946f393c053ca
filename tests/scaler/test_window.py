"""One series over a window: the laws, and answers worked out by hand from Prometheus's formulas."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scaler.signals.window import Point, in_order, increase, rate, slope, within

counts = st.lists(st.integers(0, 10**6).map(float), min_size=1, max_size=12)
points = st.lists(st.tuples(st.integers(0, 300).map(float), st.integers(0, 1000).map(float)), max_size=12)


@given(points.flatmap(lambda drawn: st.tuples(st.just(drawn), st.permutations([*drawn, *drawn]))))
def test_order_and_repeats_change_nothing(drawn_and_mixed: tuple[list[Point], list[Point]]) -> None:
    drawn, mixed = drawn_and_mixed
    assert in_order(mixed) == in_order(drawn)
    assert all(earlier[0] < later[0] for earlier, later in pairwise(in_order(drawn)))


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_what_is_no_number_is_no_point(value: float) -> None:
    assert in_order([(1.0, 2.0), (2.0, value)]) == ((1.0, 2.0),)


def test_a_window_is_open_at_its_start() -> None:
    assert within([(0.0, 1.0), (1.0, 2.0), (5.0, 3.0), (6.0, 4.0)], 0.0, 5.0) == ((1.0, 2.0), (5.0, 3.0))


@pytest.mark.parametrize(
    ("values", "want"),
    [
        pytest.param([], 0.0, id="nothing"),
        pytest.param([7.0], 0.0, id="one value says nothing of growth"),
        pytest.param([1.0, 4.0, 9.0], 8.0, id="grown"),
        pytest.param([10.0, 15.0, 2.0, 3.0], 8.0, id="restarted: what it has since counts whole"),
        pytest.param([10.0, 0.0, 0.0], 0.0, id="restarted and idle"),
    ],
)
def test_increase(values: list[float], want: float) -> None:
    assert increase(values) == want


@given(counts, counts)
def test_parts_add_up_to_the_whole(first: list[float], second: list[float]) -> None:
    joined = [*first, *second]
    assert increase(joined) == increase(first) + increase([first[-1], *second])
    assert increase(joined) >= 0


@given(counts, st.integers(0, 11))
def test_a_restart_never_adds_what_was_not_counted(values: list[float], n: int) -> None:
    """One that restarts just after a scrape and goes on as it would have; what overtakes its past unseen is lost."""
    grown = sorted(values)
    cut = min(n, len(grown) - 1)
    restarted = [*grown[: cut + 1], *(value - grown[cut] for value in grown[cut + 1 :])]
    assert increase(restarted) <= increase(grown)
    seen_to_fall = all(value - grown[cut] < grown[cut] for value in grown[cut + 1 : cut + 2])
    assert increase(restarted) == increase(grown) or not seen_to_fall


@pytest.mark.parametrize(
    ("series", "want"),
    [
        pytest.param([], None, id="no sample"),
        pytest.param([(100.0, 5.0)], None, id="one sample"),
        pytest.param([(t, 2.0 * t) for t in range(15, 121, 15)], 2.0, id="steady: exactly its pace"),
        pytest.param([(t, 100.0) for t in range(15, 121, 15)], 0.0, id="at rest"),
        pytest.param([(90.0, 300.0), (105.0, 330.0), (120.0, 360.0)], 0.625, id="born within: half an interval more"),
        pytest.param([(90.0, 0.0), (105.0, 30.0), (120.0, 60.0)], 0.5, id="born at 0: not beyond that instant"),
        pytest.param(
            [(15.0, 10.0), (30.0, 20.0), (45.0, 5.0), (60.0, 15.0)], 5 / 9, id="restarted, then late: it goes on so"
        ),
    ],
)
def test_rate_is_extrapolated_as_promql_does(series: list[Point], want: float | None) -> None:
    got = rate(within(series, 0.0, 120.0), 0.0, 120.0)
    assert got == (None if want is None else pytest.approx(want, abs=1e-4))


@given(counts.filter(lambda c: len(c) > 1))
def test_a_rate_is_never_negative(values: list[float]) -> None:
    series = tuple((10.0 * n, value) for n, value in enumerate(values, start=1))
    got = rate(series, 0.0, 10.0 * len(values))
    assert got is not None
    assert got >= 0


@pytest.mark.parametrize("series", [(), ((1.0, 5.0),)])
def test_no_slope_of_fewer_than_two_points(series: tuple[Point, ...]) -> None:
    assert slope(series) is None


@given(
    st.lists(st.integers(0, 300), min_size=2, max_size=9, unique=True),
    st.integers(-50, 50),
    st.integers(-50, 50),
)
def test_a_slope_is_exact_on_a_line(instants: list[int], start: int, pace: int) -> None:
    assert slope([(float(t), float(start + pace * t)) for t in instants]) == pytest.approx(pace, abs=1e-6)
