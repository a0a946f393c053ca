"""Recipes as data: what they are made of, and the rules that their shape keeps."""

import pytest

from scaler.signals.recipes import (
    RECIPES,
    Counter,
    Expression,
    Gateway,
    Gauge,
    Histogram,
    Less,
    OrZero,
    Own,
    Pods,
    Rate,
    Sum,
    is_of_pods,
    parts_of,
    quantities_of,
    ways,
)

ALL = frozenset((*Gauge, *Counter, *Histogram))
EVERY = [pytest.param(way, id=f"{name} {n}") for name, found in RECIPES.items() for n, way in enumerate(found)]


def test_quantities_have_names_of_their_own() -> None:
    assert len({str(quantity) for quantity in ALL}) == len(Gauge) + len(Counter) + len(Histogram)


@pytest.mark.parametrize("way", EVERY)
def test_zero_for_the_unknown_is_only_ever_subtracted(way: Expression) -> None:
    """Not knowing then reads as more load, never as less."""
    parts = list(parts_of(way))
    subtracted = [part.part for part in parts if isinstance(part, Less)]
    assert [part for part in parts if isinstance(part, OrZero)] == [p for p in subtracted if isinstance(p, OrZero)]


def test_what_may_be_lacking_is_not_asked_of_a_preset() -> None:
    (way,) = RECIPES["prompt_tokens_per_s"]
    assert quantities_of(way) == {Counter.PROMPT_TOKENS}


def test_ways_that_need_what_a_preset_lacks_are_left_out() -> None:
    assert ways("arrivals_per_s", ALL)[0] == Rate(Counter.ARRIVED)
    assert len(ways("arrivals_per_s", ALL - {Counter.ARRIVED})) == 1
    assert ways("arrivals_per_s", ALL - {Counter.ARRIVED, Gauge.RUNNING}) == ()
    assert ways("replicas", ALL) == ()


def test_an_engine_that_exports_nothing_is_known_through_its_gateway() -> None:
    known = {name for name in RECIPES if ways(name, frozenset())}
    assert known == {"queue", "sessions"}


@pytest.mark.parametrize(
    ("way", "of_pods"),
    [
        pytest.param(Sum(Gauge.WAITING), True, id="what pods export"),
        pytest.param(Pods(Own.SESSIONS_ACTIVE), True, id="what agents in the pods export"),
        pytest.param(Gateway(Own.SESSIONS_ACTIVE), False, id="a gateway's word"),
        pytest.param(RECIPES["queue"][0], True, id="both"),
    ],
)
def test_coverage_is_of_pods(way: Expression, of_pods: bool) -> None:
    assert is_of_pods(way) == of_pods
