"""Native histograms: decoded from the API and from the wire, and what they say."""

from math import inf

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scaler.signals.histogram import Estimate
from scaler.signals.native import Bucket, Native, Span, decoded, from_spans, quantile, share_within
from scaler.signals.reading import Missing

#: As in Prometheus's documentation of the HTTP API: [rule, lower, upper, count], numbers as text.
ROWS = [[0, "1", "2", "10"], [0, "2", "4", "30"], [0, "4", "8", "10"]]
LATENCY = Native((Bucket(1.0, 2.0, 10.0), Bucket(2.0, 4.0, 30.0), Bucket(4.0, 8.0, 10.0)), 150.0)


def native(found: Native | Missing) -> Native:
    assert isinstance(found, Native)
    return found


def assert_near(got: Estimate | Missing, want: Estimate) -> None:
    assert isinstance(got, Estimate)
    assert got.value == pytest.approx(want.value)
    assert (got.count, got.saturated) == (want.count, want.saturated)


def test_the_apis_rows_are_decoded() -> None:
    assert decoded(ROWS, 150.0) == LATENCY


@pytest.mark.parametrize(
    "row",
    [
        pytest.param([0, "1", "2"], id="a field is lacking"),
        pytest.param([0, "1", "two", "3"], id="no number"),
        pytest.param([0, "2", "1", "3"], id="it ends before it begins"),
        pytest.param([0, "1", "2", "Inf"], id="it counts no number"),
    ],
)
def test_what_is_no_bucket_is_missing(row: list[object]) -> None:
    assert isinstance(decoded([row], 1.0), Missing)


def test_spans_and_deltas_are_decoded() -> None:
    """Schema 0 doubles: index 1 is (1, 2], index 2 (2, 4], and after a gap of two index 5 (16, 32]."""
    got = from_spans(0, [Span(1, 2), Span(2, 1)], [10, 20, -25], zero_threshold=1e-128, zero_count=0.0, total=150.0)
    assert got == Native((Bucket(1.0, 2.0, 10.0), Bucket(2.0, 4.0, 30.0), Bucket(16.0, 32.0, 5.0)), 150.0)


@pytest.mark.parametrize(
    ("schema", "deltas", "why"),
    [
        pytest.param(-53, [1.0], "schema -53", id="bounds of its own"),
        pytest.param(0, [1.0, 1.0], "2 counts for 1 buckets", id="counts and buckets differ"),
    ],
)
def test_what_cannot_be_decoded_is_missing(schema: int, deltas: list[float], why: str) -> None:
    got = from_spans(schema, [Span(0, 1)], deltas, zero_threshold=0.0, zero_count=0.0, total=0.0)
    assert isinstance(got, Missing)
    assert why in got.why


def test_a_finer_schema_has_finer_buckets() -> None:
    got = native(from_spans(1, [Span(2, 1)], [4.0], zero_threshold=0.0, zero_count=0.0, total=0.0))
    assert got.buckets == (Bucket(2.0**0.5, 2.0, 4.0),)


@pytest.mark.parametrize(
    ("p", "want"),
    [
        pytest.param(0.2, 2.0, id="at a bound"),
        pytest.param(0.5, 2 * 2**0.5, id="within a bucket, by powers"),
        pytest.param(1.0, 8.0, id="all"),
    ],
)
def test_quantile(p: float, want: float) -> None:
    assert_near(quantile(p, LATENCY), Estimate(want, 50.0))


def test_the_zero_bucket_counts_from_zero_and_evenly() -> None:
    found = native(decoded([[3, "-0.5", "0.5", "10"], [0, "1", "2", "10"]], 20.0))
    assert quantile(0.25, found) == Estimate(0.25, 20.0)
    assert share_within(0.25, found) == Estimate(0.25, 20.0)


def test_negative_sizes_are_taken_as_they_are() -> None:
    found = native(decoded([[1, "-4", "-2", "10"], [3, "-0.5", "0.5", "10"]], 0.0))
    assert quantile(0.25, found) == Estimate(-3.0, 20.0)
    assert quantile(0.75, found) == Estimate(0.0, 20.0)


def test_a_bucket_without_an_upper_bound_saturates() -> None:
    found = native(decoded([[0, "1", "2", "1"], [0, "2", "+Inf", "9"]], 20.0))
    assert quantile(0.95, found) == Estimate(2.0, 10.0, saturated=True)
    assert share_within(100.0, found) == Estimate(0.1, 10.0)


@pytest.mark.parametrize(
    ("limit", "want"),
    [
        pytest.param(0.5, 0.0, id="below all"),
        pytest.param(2.0, 0.2, id="a bucket ends there"),
        pytest.param(2 * 2**0.5, 0.5, id="within a bucket: interpolated"),
        pytest.param(9.0, 1.0, id="above all"),
    ],
)
def test_share_within(limit: float, want: float) -> None:
    assert_near(share_within(limit, LATENCY), Estimate(want, 50.0))


def test_nothing_of_too_few() -> None:
    assert quantile(0.5, LATENCY, fewest=51) == Missing("50 observations in the window; a quantile wants 51")
    assert quantile(0.5, Native((), 0.0)) == Missing("0 observations in the window; a quantile wants 1")
    assert share_within(1.0, LATENCY, fewest=51) == Missing("50 observations in the window; a share wants 51")
    assert share_within(1.0, Native((), 0.0)) == Missing("0 observations in the window; a share wants 1")


natives = st.lists(st.tuples(st.integers(-3, 8), st.integers(1, 20)), min_size=1, max_size=6).map(
    lambda rows: native(decoded([[0, 2.0**i, 2.0 ** (i + 1), n] for i, n in dict(rows).items()], 0.0))
)


@given(natives, st.floats(0, 1), st.floats(0, 1))
def test_a_quantile_never_falls_with_its_share(found: Native, p: float, q: float) -> None:
    low, high = quantile(min(p, q), found), quantile(max(p, q), found)
    assert isinstance(low, Estimate)
    assert isinstance(high, Estimate)
    assert found.buckets[0].lower - 1e-9 <= low.value <= high.value + 1e-9 <= found.buckets[-1].upper + inf


@given(natives, st.floats(0.01, 1))
def test_quantile_and_share_undo_each_other(found: Native, p: float) -> None:
    at = quantile(p, found)
    assert isinstance(at, Estimate)
    share = share_within(at.value, found)
    assert isinstance(share, Estimate)
    assert share.value == pytest.approx(p, abs=1e-6)


def test_buckets_of_a_converted_classic_histogram_are_even() -> None:
    custom = decoded([[0, "-Inf", "0.5", "1"], [0, "0.5", "2", "1"], [0, "2", "+Inf", "1"]], 3.0)
    assert isinstance(custom, Native)
    assert [bucket.even for bucket in custom.buckets] == [True, True, True]
    schema_3 = decoded([[0, "1", str(2**0.125), "1"], [0, str(2**0.125), str(2**0.25), "1"]], 2.0)
    assert isinstance(schema_3, Native)
    assert [bucket.even for bucket in schema_3.buckets] == [False, False]
