"""The arithmetic of recipes: what is known, what is not, and what stands behind it."""

from collections.abc import Mapping

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scaler.signals.combining import NOTHING, Part, Term, combine
from scaler.signals.reading import Missing
from scaler.signals.recipes import (
    Counter,
    Expression,
    Gateway,
    Gauge,
    Growth,
    Known,
    Less,
    OrZero,
    Own,
    Per,
    Rate,
    Sum,
    Total,
    Wait,
)

WAITING, RUNNING, HELD = Sum(Gauge.WAITING), Sum(Gauge.RUNNING), Gateway(Own.REQUESTS_WAITING)
ENDED, CACHED, GROWTH = Rate(Counter.ENDED), Rate(Counter.CACHED_TOKENS), Growth(Gauge.RUNNING)
BROKEN = Missing("the value is nan; want a finite number, 0 or more")
QUEUE = Known((WAITING, HELD))


def combined(way: Expression, leaves: Mapping[Expression, Part]) -> Part:
    return combine(way, lambda part: leaves.get(part, NOTHING))


@pytest.mark.parametrize(
    ("way", "leaves", "want"),
    [
        pytest.param(WAITING, {WAITING: Term(3, 10.0)}, Term(3, 10.0), id="a leaf is itself"),
        pytest.param(QUEUE, {}, NOTHING, id="nobody says anything"),
        pytest.param(
            QUEUE,
            {WAITING: Term(3, 10.0, pods=2), HELD: Term(5, 12.0)},
            Term(8, 10.0, pods=2),
            id="known: added, as old as the older, of the pods that there are",
        ),
        pytest.param(QUEUE, {HELD: Term(5, 12.0)}, Term(5, 12.0), id="known: one of two says something"),
        pytest.param(QUEUE, {WAITING: BROKEN, HELD: Term(5, 12.0)}, BROKEN, id="known: one of two says nonsense"),
        pytest.param(Total((ENDED, GROWTH)), {ENDED: Term(3, 10.0)}, NOTHING, id="total: a part is silent"),
        pytest.param(
            Total((ENDED, GROWTH)),
            {ENDED: Term(3, 10.0, pods=3), GROWTH: Term(-1, 11.0, pods=2, doubt="partial")},
            Term(2, 10.0, pods=2, doubt="partial"),
            id="total: of the fewest pods, in any part's doubt",
        ),
        pytest.param(
            Less(ENDED, CACHED), {ENDED: Term(3, 10.0), CACHED: Term(5, 9.0)}, Term(0, 9.0), id="never below 0"
        ),
        pytest.param(Less(ENDED, CACHED), {ENDED: Term(3, 10.0)}, NOTHING, id="less: a part is silent"),
        pytest.param(
            Less(ENDED, OrZero(CACHED)), {ENDED: Term(3, 10.0, pods=1)}, Term(3, 10.0, pods=1), id="less nothing"
        ),
        pytest.param(
            Less(ENDED, OrZero(CACHED)), {ENDED: Term(3, 10.0), CACHED: BROKEN}, Term(3, 10.0), id="less nonsense"
        ),
        pytest.param(
            Less(ENDED, OrZero(CACHED)), {ENDED: Term(3, 10.0), CACHED: Term(1, 9.0)}, Term(2, 9.0), id="less something"
        ),
        pytest.param(
            Per(WAITING, ENDED),
            {WAITING: Term(6, 10.0, pods=2), ENDED: Term(3, 9.0, pods=2, count=360)},
            Term(2, 9.0, pods=2, count=360),
            id="per: of as many observations as stand below",
        ),
        pytest.param(
            Per(WAITING, ENDED),
            {WAITING: Term(0, 10.0), ENDED: Term(0, 9.0)},
            Missing("nothing ended within the window"),
            id="per: nothing over nothing",
        ),
        pytest.param(Per(WAITING, ENDED), {WAITING: Term(6, 10.0)}, NOTHING, id="per: below is silent"),
        pytest.param(Per(WAITING, ENDED), {ENDED: Term(6, 10.0)}, NOTHING, id="per: above is silent"),
        pytest.param(Wait(WAITING, ENDED), {WAITING: Term(0, 10.0)}, Term(0, 10.0), id="wait: nobody waits"),
        pytest.param(
            Wait(WAITING, ENDED), {WAITING: Term(6, 10.0), ENDED: Term(3, 9.0)}, Term(2, 9.0), id="wait: at its pace"
        ),
        pytest.param(Wait(WAITING, ENDED), {}, NOTHING, id="wait: nobody says how many wait"),
    ],
)
def test_combine(way: Expression, leaves: Mapping[Expression, Part], want: Part) -> None:
    assert combined(way, leaves) == want


@given(
    st.dictionaries(
        st.sampled_from([WAITING, HELD]), st.builds(Term, st.floats(0, 1e9), st.floats(0, 1e9)), min_size=1
    ),
    st.sampled_from([WAITING, HELD]),
)
def test_a_witness_that_turns_to_nonsense_never_lowers_what_is_known(
    leaves: dict[Expression, Term], who: Expression
) -> None:
    before, after = combined(QUEUE, leaves), combined(QUEUE, {**leaves, who: BROKEN})
    assert isinstance(before, Term)
    assert after == BROKEN
