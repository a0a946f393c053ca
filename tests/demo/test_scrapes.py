import numpy as np
import pytest

from sim.serving.pool import BUCKETS_S, COLUMNS, GAUGES, Counter, Gauge, Readout
from slicewise.demo.scrapes import KEPT_S, Scrapes, quantile


def readout(*generated: int, waiting: int = 0) -> Readout:
    table = np.zeros((len(generated), COLUMNS), np.int64)
    table[:, [Gauge.QUEUED, Gauge.RUNNING, Gauge.SESSIONS]] = waiting, 1, 2
    table[:, GAUGES + Counter.GENERATED_TOKENS] = generated
    return Readout(tuple(range(len(generated))), table)


def test_a_rate_is_the_increase_of_all_pods_within_the_window() -> None:
    scrapes = Scrapes()
    for i in range(5):
        scrapes.scrape(10.0 * i, ["a", "b"], readout(100 * i, 50 * i))
    assert scrapes.rate(Counter.GENERATED_TOKENS, 35.0) == pytest.approx(15.0)


def test_one_sample_gives_no_rate_which_is_not_a_rate_of_0() -> None:
    scrapes = Scrapes()
    assert scrapes.rate(Counter.GENERATED_TOKENS, 60.0) is None
    scrapes.scrape(0.0, ["a"], readout(100))
    assert scrapes.rate(Counter.GENERATED_TOKENS, 60.0) is None


def test_a_pod_that_is_gone_has_no_samples_any_more() -> None:
    scrapes = Scrapes()
    scrapes.scrape(0.0, ["a", "b"], readout(1, 1))
    scrapes.scrape(5.0, ["b"], readout(2))
    assert list(scrapes.by_pod) == ["b"]
    assert [scrape.sessions for scrape in scrapes.newest()] == [2]


def test_old_samples_are_forgotten() -> None:
    scrapes = Scrapes()
    for i in range(int(KEPT_S)):
        scrapes.scrape(5.0 * i, ["a"], readout(i))
    assert len(scrapes.by_pod["a"]) == KEPT_S // 5 + 1


@pytest.mark.parametrize(
    ("counts", "want"),
    [
        pytest.param({}, None, id="no observations: not known"),
        pytest.param({7: 10}, 2.5 + 2.5 * 0.95, id="linear inside the bucket"),
        pytest.param({0: 10}, 0.3 * 0.95, id="the first bucket begins at 0"),
        pytest.param({len(BUCKETS_S): 10}, BUCKETS_S[-1], id="+Inf: the highest bound"),
    ],
)
def test_quantile_is_the_one_of_promql(counts: dict[int, int], want: float | None) -> None:
    buckets = [float(counts.get(i, 0)) for i in range(len(BUCKETS_S) + 1)]
    assert quantile(0.95, buckets) == (None if want is None else pytest.approx(want))
