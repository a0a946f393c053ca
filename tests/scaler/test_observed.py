"""Which of what was seen counts: ghosts, stale pods, clocks that differ, series scraped twice."""

from math import inf, nan

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scaler.signals.observed import Coverage, Labels, Observation, coverage, fresh, living, once

series = st.lists(st.tuples(st.tuples(st.sampled_from("abc")), st.floats(0, 100)), max_size=8)


def seen(*instants: float) -> list[Observation]:
    return [Observation(at_s=at_s) for at_s in instants]


@given(series.flatmap(lambda drawn: st.tuples(st.just(drawn), st.permutations([*drawn, *drawn]))))
def test_a_series_scraped_twice_counts_once(
    drawn_and_mixed: tuple[list[tuple[Labels, float]], list[tuple[Labels, float]]],
) -> None:
    drawn, mixed = drawn_and_mixed
    assert once(mixed) == once(drawn)
    assert set(once(drawn)) == {labels for labels, _ in drawn}


def test_of_two_scrapes_the_higher_counts() -> None:
    assert once([(("0",), 3.0), (("1",), 5.0), (("0",), 4.0)]) == {("0",): 4.0, ("1",): 5.0}


@pytest.mark.parametrize("value", [nan, inf, -inf, -1.0])
def test_what_is_no_load_was_not_told(value: float) -> None:
    assert once([(("0",), value), (("1",), 5.0)]) == {("1",): 5.0}


def test_ghosts_are_named_and_left_out() -> None:
    pods = {"a": seen(1), "b": seen(2), "ghost": seen(3)}
    assert living(pods, {"a", "b", "new"}) == ({"a": pods["a"], "b": pods["b"]}, ("ghost",))


@pytest.mark.parametrize(
    ("instants", "counts"),
    [
        pytest.param((), False, id="never answered"),
        pytest.param((10.0, 70.0), True, id="as old as allowed"),
        pytest.param((10.0, 69.0), False, id="stale"),
        pytest.param((160.0, 90.0), True, id="out of order, and ahead of our clock by no more than that"),
        pytest.param((161.0,), False, id="from the future"),
    ],
)
def test_fresh(instants: tuple[float, ...], counts: bool) -> None:
    got = fresh({"a": seen(*instants)}, now_s=100.0, max_age_s=30.0 if 160.0 not in instants else 60.0)
    assert got == ({"a": seen(*sorted(instants))} if counts else {})


@pytest.mark.parametrize(
    ("pods", "expected", "want"),
    [
        pytest.param({"a", "b"}, {"a", "b"}, Coverage(2, 2), id="all"),
        pytest.param({"a"}, {"a", "b"}, Coverage(1, 2, ("b",)), id="one is silent"),
        pytest.param({"a", "c"}, {"a", "b"}, Coverage(1, 2, ("b",)), id="a stranger does not make up for it"),
        pytest.param(set(), set(), Coverage(0, 0), id="nobody is expected"),
    ],
)
def test_coverage(pods: set[str], expected: set[str], want: Coverage) -> None:
    assert coverage(pods, expected) == want
    assert want.whole == (want.seen == want.expected)
