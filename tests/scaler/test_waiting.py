"""Latencies of ended requests look well while the late ones are still in line; what waits corrects them."""

from dataclasses import replace
from math import inf

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scaler.signals.histogram import Buckets, Estimate, quantile
from scaler.signals.reading import Missing, Reading, Sample
from scaler.signals.waiting import Ages, corrected_attainment, corrected_quantile, oldest_wait
from tests.scaler.test_histogram import buckets

QUICK = Buckets((0.5, 1.0, 2.0, inf), (50.0, 100.0, 100.0, 100.0))
NOBODY = Buckets((0.5, 1.0, inf), (0.0, 0.0, 0.0))
DOWN = Missing("down")


@pytest.mark.parametrize(
    ("exported", "waiting", "ended_per_s", "want"),
    [
        pytest.param(Sample(7, 0), Sample(50, 0), Sample(1, 0), Sample(7, 0), id="exported: so it is"),
        pytest.param(DOWN, Sample(0, 5, 2), DOWN, Sample(0, 5, 2), id="nothing waits: 0, whatever else is known"),
        pytest.param(DOWN, Sample(30, 9, 3), Sample(2, 8, 2), Sample(15, 8, 2), id="what the line needs at its pace"),
        pytest.param(DOWN, Sample(30, 9), Sample(2, 8), Sample(15, 8), id="of no pods"),
        pytest.param(DOWN, DOWN, Sample(2, 0), DOWN, id="how many wait is not known"),
        pytest.param(DOWN, Sample(30, 0), DOWN, DOWN, id="the pace is not known"),
        pytest.param(
            DOWN,
            Sample(30, 0),
            Sample(0, 0),
            Missing("30 requests wait and none has ended within the window"),
            id="none ends: nobody knows, and it is not 0",
        ),
    ],
)
def test_oldest_wait(exported: Reading, waiting: Reading, ended_per_s: Reading, want: Reading) -> None:
    assert oldest_wait(exported, waiting, ended_per_s) == want


@pytest.mark.parametrize(
    ("ended", "ages", "want"),
    [
        pytest.param(QUICK, Ages(0, 0), Estimate(0.95, 100.0), id="nothing waits: as those that ended"),
        pytest.param(QUICK, Ages(10, 0.2), Estimate(0.95, 110.0), id="a short line: the plain one is higher"),
        pytest.param(QUICK, Ages(100, 60.0), Estimate(54.0, 200.0), id="half of all wait, up to a minute"),
        pytest.param(QUICK, Ages(100, 60.0, running=100), Estimate(51.0, 300.0), id="those in service count as early"),
        pytest.param(NOBODY, Ages(100, 60.0), Estimate(57.0, 100.0), id="none has ended"),
        pytest.param(Buckets((inf,), (10.0,)), Ages(10, 60.0), Estimate(54.0, 20.0), id="no finite bucket"),
        pytest.param(NOBODY, Ages(0, 0), Missing("0 observations in the window; a quantile wants 20"), id="nothing"),
        pytest.param(NOBODY, Ages(5, 9), Missing("0 observations in the window; a quantile wants 20"), id="too few"),
    ],
)
def test_corrected_quantile(ended: Buckets, ages: Ages, want: Estimate | Missing) -> None:
    got = corrected_quantile(0.95, ended, ages, fewest=20)
    assert (replace(got, value=round(got.value, 3)) if isinstance(got, Estimate) else got) == want


counts = st.floats(0, 1000)


@given(buckets(), st.builds(Ages, counts, st.floats(0.01, 1000), counts), st.floats(0.5, 1))
def test_a_corrected_quantile_is_never_below_the_plain_one(ended: Buckets, ages: Ages, p: float) -> None:
    plain, corrected = quantile(p, ended), corrected_quantile(p, ended, ages)
    if isinstance(plain, Estimate):
        assert isinstance(corrected, Estimate)
        assert corrected.value >= plain.value
        assert corrected == plain or ages.number > 0


@given(buckets(), counts, st.floats(0.01, 500), st.floats(0, 500))
def test_it_never_falls_as_requests_wait_longer(ended: Buckets, number: float, oldest_s: float, more_s: float) -> None:
    now = corrected_quantile(0.95, ended, Ages(number, oldest_s))
    later = corrected_quantile(0.95, ended, Ages(number, oldest_s + more_s))
    assert isinstance(now, Estimate) == isinstance(later, Estimate)
    if isinstance(now, Estimate) and isinstance(later, Estimate):
        assert later.value >= now.value - 1e-6


@pytest.mark.parametrize(
    ("ended", "ages", "want"),
    [
        pytest.param(QUICK, Ages(0, 0), Estimate(1.0, 100.0), id="nothing waits"),
        pytest.param(QUICK, Ages(100, 2.0), Estimate(100 / 150, 150.0), id="half of the line is late"),
        pytest.param(QUICK, Ages(100, 0.5), Estimate(1.0, 100.0), id="nobody in line is late yet: left out"),
        pytest.param(NOBODY, Ages(100, 2.0), Estimate(0.0, 50.0), id="none has ended, and some are late"),
        pytest.param(
            NOBODY, Ages(0, 0), Missing("0 requests ended or are late; a share wants 20"), id="nothing is known"
        ),
    ],
)
def test_corrected_attainment(ended: Buckets, ages: Ages, want: Estimate | Missing) -> None:
    assert corrected_attainment(1.0, ended, ages, fewest=20) == want


@given(buckets(), st.builds(Ages, counts, st.floats(0.01, 1000)), st.floats(0.1, 100))
def test_a_corrected_share_is_never_above_the_plain_one(ended: Buckets, ages: Ages, limit_s: float) -> None:
    plain, corrected = corrected_attainment(limit_s, ended, Ages(0, 0)), corrected_attainment(limit_s, ended, ages)
    if isinstance(plain, Estimate):
        assert isinstance(corrected, Estimate)
        assert corrected.value <= plain.value
