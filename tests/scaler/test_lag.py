"""How far a consumer group is behind: tables of cases, and laws."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scaler.signals.lag import Partition, Reset, StreamGroup, StreamId, group_lag
from scaler.signals.reading import Missing, Reading, ReadingName, Sample
from scaler.signals.signal import total

AT_S = 1000.0
NO_LEADER = Missing("it has no leader now")


def partition(start: int, end: int, committed: int | None) -> Partition:
    return Partition(start=start, end=end, committed=committed)


@pytest.mark.parametrize(
    ("place", "reset", "waiting"),
    [
        pytest.param(partition(0, 10, 4), None, 6, id="from the committed offset to the end"),
        pytest.param(partition(0, 10, 10), None, 0, id="all is done"),
        pytest.param(partition(0, 10, 0), "latest", 10, id="a commit of offset 0 is a position"),
        pytest.param(partition(5, 5, None), None, 0, id="an empty partition, whatever the policy"),
        pytest.param(partition(3, 10, None), "earliest", 7, id="nothing committed, earliest: all that is kept"),
        pytest.param(partition(3, 10, None), "latest", 0, id="nothing committed, latest: nothing"),
        pytest.param(partition(6, 10, 2), "earliest", 4, id="retention has passed the position, earliest"),
        pytest.param(partition(6, 10, 2), "latest", 0, id="retention has passed the position, latest"),
        pytest.param(partition(0, 3, 90), "earliest", 3, id="the topic was made anew below the position"),
        pytest.param(partition(0, 3, 90), "latest", 0, id="the topic was made anew, latest"),
    ],
)
def test_what_waits_in_a_partition(place: Partition, reset: Reset | None, waiting: int) -> None:
    assert place.waiting(reset) == waiting


@pytest.mark.parametrize(
    ("place", "why"),
    [
        pytest.param(partition(0, 10, None), "nothing is committed", id="nothing committed"),
        pytest.param(partition(6, 10, 2), "what is committed is not there any more", id="retention has passed it"),
    ],
)
def test_without_a_position_and_a_policy_nothing_is_known(place: Partition, why: str) -> None:
    waiting = place.waiting(None)
    assert isinstance(waiting, Missing)
    assert waiting.why == f"{why}, and the backend's offset_reset does not say where the group then begins"


@pytest.mark.parametrize(
    ("partitions", "reset", "known", "lag"),
    [
        pytest.param({0: partition(0, 9, 4), 1: partition(0, 3, 3)}, None, True, Sample(5, AT_S), id="the sum"),
        pytest.param({}, "earliest", True, Missing("the topic has no partitions"), id="no partitions"),
        pytest.param({0: partition(0, 9, None)}, "earliest", False, Sample(9, AT_S), id="a new group, from the start"),
        pytest.param(
            {0: partition(0, 9, None)},
            "latest",
            False,
            Missing("the brokers know no such group: nobody is in it, and nothing is committed"),
            id="a group that nobody knows, from the end: perhaps a typing error",
        ),
        pytest.param(
            {0: partition(0, 9, 4), 7: NO_LEADER},
            None,
            True,
            Sample(5, AT_S, doubt="1 of 2 partitions are not known (partition 7: it has no leader now)"),
            id="a partition without a leader: at least so much",
        ),
        pytest.param(
            dict.fromkeys(range(5), NO_LEADER),
            None,
            True,
            Missing(
                "5 of 5 partitions are not known (partition 0: it has no leader now; partition 1: it has no leader "
                "now; partition 2: it has no leader now; and 2 more)"
            ),
            id="nothing known",
        ),
    ],
)
def test_a_groups_lag(
    partitions: dict[int, Partition | Missing], reset: Reset | None, known: bool, lag: Reading
) -> None:
    assert group_lag(partitions, reset, known=known, at_s=AT_S) == lag


def test_a_lag_in_doubt_may_raise_and_never_lower() -> None:
    lag = Sample(5, AT_S, doubt="1 of 2 partitions are not known")
    signal = total({"backlog": lag}, [ReadingName.BACKLOG], Missing("not asked"))
    assert (signal.at_least, signal.doubts) == (5, ("backlog: 1 of 2 partitions are not known",))


offsets = st.integers(0, 10**12)
places = st.builds(partition, offsets, offsets, st.none() | offsets).filter(lambda p: p.start <= p.end)
resets = st.sampled_from(["earliest", "latest", None])


@given(places, resets)
def test_never_negative_and_never_more_than_is_kept(place: Partition, reset: Reset | None) -> None:
    waiting = place.waiting(reset)
    assert isinstance(waiting, Missing) or 0 <= waiting <= place.end - place.start


@given(st.dictionaries(st.integers(0, 50), places, min_size=1), st.integers(0, 50), resets)
def test_a_fault_is_never_an_exact_number(
    partitions: dict[int, Partition | Missing], number: int, reset: Reset | None
) -> None:
    faulty = group_lag({**partitions, number: NO_LEADER}, reset, known=True, at_s=AT_S)
    assert isinstance(faulty, Missing) or faulty.doubt is not None


def stream(
    delivered: StreamId, *, lag: int | None = None, length: int = 4, first: StreamId | None = (1, 0)
) -> StreamGroup:
    return StreamGroup(length=length, first=first, last=(9, 0), delivered=delivered, lag=lag)


@pytest.mark.parametrize(
    ("group", "undelivered"),
    [
        pytest.param(stream((5, 0), lag=3), 3, id="Redis' own count"),
        pytest.param(stream((5, 0), lag=0), 0, id="Redis' own 0"),
        pytest.param(stream((9, 0)), 0, id="unknown to Redis: the newest was delivered"),
        pytest.param(stream((0, 0)), 4, id="unknown to Redis: nothing was delivered"),
        pytest.param(stream((0, 7)), 4, id="unknown to Redis: what was delivered is trimmed"),
        pytest.param(stream((5, 0), length=0, first=None), 0, id="unknown to Redis: the stream is empty"),
    ],
)
def test_what_a_streams_group_has_not_got(group: StreamGroup, undelivered: int) -> None:
    assert group.undelivered() == undelivered


def test_a_lag_that_cannot_be_computed_is_missing() -> None:
    found = stream((1, 0)).undelivered()
    assert isinstance(found, Missing)
    assert "at most 4 entries wait" in found.why
