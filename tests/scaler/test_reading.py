import math

import pytest

from scaler.signals.reading import Missing, Reading, ReadingName, Sample, reading_of
from scaler.signals.signal import Signal, fresh, total

READY = Sample(3, 0)


@pytest.mark.parametrize(
    ("value", "at_s", "pods"),
    [
        pytest.param(math.nan, 0.0, None, id="not a number"),
        pytest.param(math.inf, 0.0, None, id="infinite"),
        pytest.param(-1.0, 0.0, None, id="negative"),
        pytest.param(1.0, math.nan, None, id="at no time"),
        pytest.param(1.0, 0.0, -1, id="of fewer than no pods"),
    ],
)
def test_a_sample_refuses(value: float, at_s: float, pods: int | None) -> None:
    with pytest.raises(ValueError, match="a sample"):
        Sample(value, at_s, pods)


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, -0.001])
def test_what_is_no_load_is_missing(value: float) -> None:
    reading = reading_of(value, 5.0)
    assert isinstance(reading, Missing)
    assert "want a finite number, 0 or more" in reading.why


def test_zero_is_a_load() -> None:
    assert reading_of(0.0, 5.0, 2) == Sample(0.0, 5.0, 2)


@pytest.mark.parametrize(
    ("at_s", "why"),
    [
        pytest.param(40.0, None, id="as old as allowed: used"),
        pytest.param(39.0, "61 s old, older than maxAge 60 s", id="older: missing"),
        pytest.param(160.0, None, id="clocks differ a little: used"),
        pytest.param(161.0, "61 s ahead of our clock, more than maxAge 60 s", id="from the future: missing"),
    ],
)
def test_fresh(at_s: float, why: str | None) -> None:
    sample = Sample(1.0, at_s)
    assert fresh(sample, now_s=100.0, max_age_s=60.0) == (sample if why is None else Missing(why))


def test_missing_stays_missing() -> None:
    assert fresh(Missing("down"), now_s=0, max_age_s=1) == Missing("down")


@pytest.mark.parametrize(
    ("queue", "running", "ready", "want"),
    [
        pytest.param(Sample(2, 0), Sample(3, 0), READY, Signal(5.0), id="all known: exact"),
        pytest.param(
            Sample(2, 0), Missing("down"), READY, Signal(2.0, ("running: down",)), id="one missing: at least the other"
        ),
        pytest.param(
            Sample(2, 0, doubt="a store is silent"),
            Sample(3, 0),
            READY,
            Signal(5.0, ("queue: a store is silent",)),
            id="one may be part of the truth",
        ),
        pytest.param(
            Missing("a"), Missing("b"), READY, Signal(None, ("queue: a", "running: b")), id="none known: nothing known"
        ),
        pytest.param(
            Sample(2, 0, 2), Sample(3, 0, 3), READY, Signal(5.0, ("queue: from 2 of 3 ready pods",)), id="a pod lacks"
        ),
        pytest.param(Sample(2, 0, 4), Sample(3, 0), READY, Signal(5.0), id="more pods answer than are ready: exact"),
        pytest.param(
            Sample(2, 0, 2),
            Sample(3, 0),
            Missing("no API"),
            Signal(5.0, ("queue: from 2 pods, and how many are ready is not known (no API)",)),
            id="nobody knows how many there should be",
        ),
    ],
)
def test_total(queue: Sample | Missing, running: Sample | Missing, ready: Sample | Missing, want: Signal) -> None:
    readings: dict[str, Reading] = {ReadingName.QUEUE: queue, ReadingName.RUNNING: running}
    assert total(readings, (ReadingName.QUEUE, ReadingName.RUNNING), ready) == want


def test_the_contract_names_of_readings() -> None:
    assert set(ReadingName) == {
        "replicas",
        "ready",
        "pending",
        "terminating",
        "queue",
        "running",
        "backlog",
        "taken",
        "oldest_wait_s",
        "sessions",
        "prompt_tokens_per_s",
        "generation_tokens_per_s",
        "cached_tokens_per_s",
        "kv_usage",
        "preemptions_per_s",
        "arrivals_per_s",
        "ended_per_s",
        "service_s",
        "p50_s",
        "p95_s",
        "ttft_p95_s",
        "itl_p95_s",
        "attainment",
        "ttft_attainment",
    }
