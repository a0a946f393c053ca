from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from extender.placement.quantity import parse_count, parse_mib, parse_quantity


@pytest.mark.parametrize(
    ("text", "want"),
    [
        pytest.param("2", 2, id="a bare number"),
        pytest.param(3, 3, id="a JSON integer"),
        pytest.param("1.5Gi", Fraction(3, 2) * 2**30, id="a fraction of a binary unit"),
        pytest.param("100m", Fraction(1, 10), id="thousandths"),
        pytest.param("20G", 20 * 10**9, id="a decimal unit"),
        pytest.param("1e3", 1000, id="a decimal exponent"),
        pytest.param("1E3", 1000, id="an exponent in capitals"),
        pytest.param("5E", 5 * 10**18, id="exa, not an exponent"),
        pytest.param("25e-1", Fraction(5, 2), id="a negative exponent"),
        pytest.param("+.5", Fraction(1, 2), id="a sign and no leading zero"),
        pytest.param("-1Ki", -1024, id="a negative quantity is one"),
        pytest.param("20 Gi", None, id="no space inside"),
        pytest.param("20GB", None, id="no bytes in the suffix"),
        pytest.param("NaN", None, id="not a number"),
        pytest.param("", None, id="empty"),
        pytest.param("1e999", None, id="an exponent out of all proportion"),
        pytest.param("9" * 40, None, id="too long to be meant"),
        pytest.param(1.5, None, id="JSON floats are not quantities"),
        pytest.param(True, None, id="nor booleans"),
        pytest.param(None, None, id="nor null"),
    ],
)
def test_quantities(text: object, want: Fraction | None) -> None:
    assert parse_quantity(text) == want


@pytest.mark.parametrize(
    ("text", "want"),
    [("2", 2), ("0", 0), ("1k", 1000), ("1500m", None), ("-1", None), ("x", None), ("2000m", 2)],
)
def test_counts_are_whole_and_not_negative(text: str, want: int | None) -> None:
    assert parse_count(text) == want


@pytest.mark.parametrize(
    ("text", "want"),
    [("1Gi", 1024), ("1", 1), ("1048577", 2), ("0", None), ("-1Gi", None), ("?", None), ("1M", 1)],
)
def test_mib_is_rounded_up(text: str, want: int | None) -> None:
    assert parse_mib(text) == want


@given(st.text(max_size=40) | st.integers())
def test_anything_is_a_quantity_or_none(value: object) -> None:
    assert parse_quantity(value) is None or isinstance(parse_quantity(value), Fraction)
