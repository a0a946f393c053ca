"""Order of events, random streams, times as text."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sim.kernel import Kernel, Rank
from sim.report.sparkline import sparkline
from sim.streams import stream
from sim.units import duration, seconds


def test_one_order_time_then_rank_then_sequence() -> None:
    kernel: Kernel[str] = Kernel()
    for time_s, rank, event in [
        (2.0, Rank.HPA, "hpa"),
        (2.0, Rank.POD, "pod"),
        (1.0, Rank.REPORT, "early"),
        (2.0, Rank.HPA, "hpa again"),
        (2.0, Rank.SCRAPE, "scrape"),
    ]:
        kernel.at(time_s, rank, event)
    seen = []
    while kernel.next_s() is not None:
        seen.append((kernel.pop(), kernel.now_s))
    assert seen == [("early", 1.0), ("pod", 2.0), ("scrape", 2.0), ("hpa", 2.0), ("hpa again", 2.0)]


@pytest.mark.parametrize("time_s", [4.9, float("nan")])
def test_nothing_is_scheduled_into_the_past(time_s: float) -> None:
    kernel: Kernel[str] = Kernel(now_s=5.0)
    with pytest.raises(ValueError, match=r"before the present, 5\.0 s: late"):
        kernel.at(time_s, Rank.POD, "late")


def test_streams_depend_on_seed_name_and_entity_alone() -> None:
    def first(seed: int, name: str, *entity: int) -> float:
        return float(stream(seed, name, *entity).uniform())

    assert first(1, "arrivals") == first(1, "arrivals")
    assert len({first(1, "arrivals"), first(2, "arrivals"), first(1, "phases"), first(1, "arrivals", 0)}) == 4
    many = [first(3, "pod", i) for i in range(1000)]
    assert np.mean(many) == pytest.approx(0.5, abs=0.03)


@pytest.mark.parametrize(
    ("text", "value_s"),
    [("500ms", 0.5), ("30s", 30.0), ("5m", 300.0), ("1h30m", 5400.0), ("7d", 604800.0), ("1.5s", 1.5)],
)
def test_times_have_units(text: str, value_s: float) -> None:
    assert seconds(text) == value_s


@pytest.mark.parametrize("text", ["30", "", "s", "5 m", "-5m", "5x", "5m5"])
def test_bare_and_strange_times_are_refused(text: str) -> None:
    with pytest.raises(ValueError, match="want a number with its unit"):
        seconds(text)


@pytest.mark.parametrize(
    ("value_s", "text"), [(0.0, "0ms"), (0.8504, "850ms"), (12.34, "12.3s"), (250.0, "4m10s"), (7500.0, "2h05m")]
)
def test_times_for_people(value_s: float, text: str) -> None:
    assert duration(value_s) == text


@pytest.mark.parametrize(
    ("values", "width", "line"),
    [
        pytest.param([0, 1, 4, 8, None], 5, " ▁▄█·", id="nothing is blank, unknown is a dot"),
        pytest.param([1, 9, 1, 1], 2, "█▁", id="folded: the highest shows"),
        pytest.param([], 5, "", id="no values"),
        pytest.param([None, None], 1, "·", id="nothing known"),
        pytest.param([0, 0], 2, "  ", id="all nothing"),
    ],
)
def test_sparkline(values: list[float | None], width: int, line: str) -> None:
    assert sparkline(values, width) == line


@given(values=st.lists(st.none() | st.floats(0, 1e6), max_size=300), width=st.integers(1, 120))
def test_a_sparkline_is_never_wider_than_asked(values: list[float | None], width: int) -> None:
    assert len(sparkline(values, width)) == min(width, len(values))


def test_of_a_share_the_lowest_may_show() -> None:
    assert sparkline([1.0, 0.1, 1.0, 1.0], 2, 1.0, fold=min) == "▁█"
