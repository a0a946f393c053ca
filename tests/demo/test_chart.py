import pytest
from hypothesis import given
from hypothesis import strategies as st

from slicewise.demo.chart import bars, round_top


@pytest.mark.parametrize(
    ("values", "rows"),
    [
        pytest.param([], ["    "], id="nothing yet: an empty axis"),
        pytest.param([0.0, 1.0, 4.0, 8.0], [" ▁▄█"], id="eighths of the height"),
        pytest.param([None, 8.0], [" █  "], id="not known: a gap, which is not a bar of 0"),
        pytest.param([0.001], ["▁   "], id="almost nothing still shows"),
        pytest.param([80.0], ["█   "], id="above the top: cut, not wrapped"),
    ],
)
def test_one_row_is_a_sparkline(values: list[float | None], rows: list[str]) -> None:
    assert bars(values, samples=4, width=4, height=1, top=8.0) == rows


def test_several_rows_are_a_chart() -> None:
    assert bars([4.0, 8.0], samples=2, width=2, height=2, top=8.0) == [" █", "██"]


def test_a_narrow_window_keeps_the_peak() -> None:
    values = [0.0] * 10
    values[7] = 8.0
    assert bars(values, samples=10, width=2, height=1, top=8.0) == [" █"]


@given(
    values=st.lists(st.none() | st.floats(0, 1e6), max_size=50),
    width=st.integers(1, 40),
    height=st.integers(1, 5),
    top=st.floats(0.1, 1e6),
)
def test_the_picture_has_the_size_that_was_asked_for(
    values: list[float | None], width: int, height: int, top: float
) -> None:
    rows = bars(values, samples=50, width=width, height=height, top=top)
    assert [len(row) for row in rows] == [width] * height


@pytest.mark.parametrize(
    ("values", "top"),
    [
        pytest.param([], 1.0, id="nothing: the floor"),
        pytest.param([None, 0.4], 1.0, id="small: the floor"),
        pytest.param([1.5], 1.5, id="then 1.5"),
        pytest.param([4.1], 5.0, id="then 5"),
        pytest.param([8.5], 10.0, id="then 10"),
        pytest.param([130.0], 150.0, id="and so on"),
    ],
)
def test_the_axis_ends_at_a_round_number(values: list[float | None], top: float) -> None:
    assert round_top(values, 1.0) == pytest.approx(top)
