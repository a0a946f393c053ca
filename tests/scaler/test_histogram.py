"""Classic histograms: what they say, and what they cannot."""

from itertools import pairwise
from math import inf, nan

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scaler.signals.histogram import Buckets, Estimate, Share, buckets_of, mean, merged, quantile, share_within
from scaler.signals.reading import Missing

LATENCY = Buckets((0.5, 1.0, 2.0, inf), (10.0, 50.0, 90.0, 100.0))
SHARES = st.floats(0, 1)


@st.composite
def buckets(draw: st.DrawFn, bounds: tuple[float, ...] | None = None) -> Buckets:
    if bounds is None:
        bounds = (*sorted(draw(st.sets(st.integers(1, 100).map(float), min_size=1, max_size=6))), inf)
    own = draw(st.lists(st.integers(0, 50), min_size=len(bounds), max_size=len(bounds)))
    total, counts = 0, []
    for count in own:
        total += count
        counts.append(float(total))
    return Buckets(bounds, tuple(counts))


@pytest.mark.parametrize(
    ("counts", "want"),
    [
        pytest.param([(inf, 3.0), (1.0, 2.0)], Buckets((1.0, inf), (2.0, 3.0)), id="in any order"),
        pytest.param(
            [(1.0, 5.0), (2.0, 4.0), (inf, 6.0)], Buckets((1.0, 2.0, inf), (5.0, 5.0, 6.0)), id="fell: mended"
        ),
        pytest.param([(1.0, 5.0), (inf, 4.0)], Buckets((1.0, inf), (5.0, 5.0)), id="more within than in all: mended"),
        pytest.param([(1.0, 2.0), (1.0, 3.0), (inf, 3.0)], Buckets((1.0, inf), (3.0, 3.0)), id='le="1" and le="1.0"'),
        pytest.param([(1.0, nan), (nan, 1.0), (inf, 3.0)], Buckets((inf,), (3.0,)), id="no numbers: left out"),
        pytest.param([(1.0, 2.0)], Missing("the histogram has no bucket +Inf"), id="without the open bucket"),
    ],
)
def test_buckets(counts: list[tuple[float, float]], want: Buckets | Missing) -> None:
    assert buckets_of(counts) == want


@given(buckets())
def test_what_never_fell_is_kept(drawn: Buckets) -> None:
    assert buckets_of(zip(drawn.bounds, drawn.counts, strict=True)) == drawn


@pytest.mark.parametrize(
    ("p", "want"),
    [
        pytest.param(0.0, Estimate(0.0, 100.0), id="the least: the first bucket begins at 0"),
        pytest.param(0.05, Estimate(0.25, 100.0), id="within the first bucket"),
        pytest.param(0.5, Estimate(1.0, 100.0), id="at a bound"),
        pytest.param(0.7, Estimate(1.5, 100.0), id="between bounds"),
        pytest.param(0.95, Estimate(2.0, 100.0, saturated=True), id="in the open bucket: at least so much"),
    ],
)
def test_quantile(p: float, want: Estimate) -> None:
    assert quantile(p, LATENCY) == want


@pytest.mark.parametrize(
    ("found", "fewest", "why"),
    [
        pytest.param(Buckets((1.0, inf), (0.0, 0.0)), 1, "0 observations in the window", id="nothing was observed"),
        pytest.param(LATENCY, 101, "100 observations in the window; a quantile wants 101", id="too few"),
        pytest.param(Buckets((inf,), (30.0,)), 1, "the histogram has no bucket but +Inf", id="no finite bucket"),
    ],
)
def test_no_quantile(found: Buckets, fewest: float, why: str) -> None:
    got = quantile(0.95, found, fewest=fewest)
    assert isinstance(got, Missing)
    assert why in got.why


def test_an_empty_bucket_before_the_first_observation_is_passed_over() -> None:
    assert quantile(0.0, Buckets((1.0, 2.0, inf), (0.0, 5.0, 5.0))) == Estimate(0.0, 5.0)
    assert quantile(0.5, Buckets((-1.0, 2.0, inf), (4.0, 4.0, 4.0))) == Estimate(-1.0, 4.0)


@given(buckets(), SHARES, SHARES)
def test_a_quantile_lies_within_the_bounds_and_never_falls_with_its_share(drawn: Buckets, p: float, q: float) -> None:
    low, high = quantile(min(p, q), drawn), quantile(max(p, q), drawn)
    assert isinstance(low, Estimate) == isinstance(high, Estimate) == (drawn.count > 0)
    if isinstance(low, Estimate) and isinstance(high, Estimate):
        assert 0 <= low.value <= high.value + 1e-9
        assert high.value <= drawn.bounds[-2]


@pytest.mark.parametrize(
    ("limit", "want"),
    [
        pytest.param(1.0, Share(0.5, 0.5, 100.0), id="a bucket ends there: exact"),
        pytest.param(1.5, Share(0.5, 0.9, 100.0), id="it cuts a bucket: between its neighbours"),
        pytest.param(0.1, Share(0.0, 0.1, 100.0), id="below the first bound"),
        pytest.param(10.0, Share(0.9, 1.0, 100.0), id="in the open bucket"),
        pytest.param(inf, Share(1.0, 1.0, 100.0), id="no limit"),
    ],
)
def test_share_within(limit: float, want: Share) -> None:
    assert share_within(limit, LATENCY) == want


def test_no_share_of_too_few() -> None:
    assert share_within(1.0, LATENCY, fewest=101) == Missing("100 observations in the window; a share wants 101")
    assert share_within(1.0, Buckets((inf,), (0.0,))) == Missing("0 observations in the window; a share wants 1")


@given(buckets(), st.floats(0, 200), st.floats(0, 200))
def test_a_share_never_falls_with_its_limit(drawn: Buckets, a: float, b: float) -> None:
    low, high = share_within(min(a, b), drawn), share_within(max(a, b), drawn)
    if isinstance(low, Share) and isinstance(high, Share):
        assert low.at_least <= low.at_most
        assert low.at_least <= high.at_least
        assert low.at_most <= high.at_most


def test_buckets_of_two_versions_meet_on_their_common_bounds() -> None:
    old, new = Buckets((1.0, 2.0, inf), (5.0, 8.0, 10.0)), Buckets((0.5, 2.0, 4.0, inf), (1.0, 6.0, 9.0, 9.0))
    assert merged([old, new]) == Buckets((2.0, inf), (14.0, 19.0))


@given(st.lists(buckets(), min_size=1, max_size=4))
def test_merging_keeps_every_observation(parts: list[Buckets]) -> None:
    whole = merged(parts)
    assert whole.count == sum(part.count for part in parts)
    assert all(low <= high for low, high in pairwise(whole.counts))
    assert set(whole.bounds) <= set(parts[0].bounds)


@given(buckets(bounds=(1.0, 2.0, 5.0, inf)), SHARES)
def test_one_pod_twice_has_the_quantiles_of_one(drawn: Buckets, p: float) -> None:
    one, two = quantile(p, drawn), quantile(p, merged([drawn, drawn]))
    if isinstance(one, Estimate) and isinstance(two, Estimate):
        assert two.value == pytest.approx(one.value)


def test_mean() -> None:
    assert mean(30.0, 20.0) == Estimate(1.5, 20.0)
    assert mean(0.0, 0.0) == Missing("no observations in the window")
