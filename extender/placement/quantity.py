"""Kubernetes quantities, such as `20Gi`, `1500M`, `2` or `1e3`, as exact numbers."""

import re
from fractions import Fraction
from typing import Final

# apimachinery pkg/api/resource/quantity.go: binary and decimal suffixes, or a decimal exponent.
_QUANTITY: Final = re.compile(r"([+-]?(?:\d+\.?\d*|\.\d+))(?:([eE][+-]?\d{1,2})|([KMGTPE]i|[numkMGTPE]))?")
_SUFFIX: Final = {
    "n": Fraction(1, 10**9), "u": Fraction(1, 10**6), "m": Fraction(1, 10**3),
    "k": Fraction(10**3), "M": Fraction(10**6), "G": Fraction(10**9),
    "T": Fraction(10**12), "P": Fraction(10**15), "E": Fraction(10**18),
    "Ki": Fraction(2**10), "Mi": Fraction(2**20), "Gi": Fraction(2**30),
    "Ti": Fraction(2**40), "Pi": Fraction(2**50), "Ei": Fraction(2**60),
}  # fmt: skip
_MAX_CHARS: Final = 32


def parse_quantity(value: object) -> Fraction | None:
    """Exact value of a quantity, in its base unit; None if it is none.

    >>> parse_quantity("1.5Ki"), parse_quantity("100m"), parse_quantity(2), parse_quantity("20 GB")
    (Fraction(1536, 1), Fraction(1, 10), Fraction(2, 1), None)
    """
    if isinstance(value, bool) or not isinstance(value, str | int):
        return None
    text = str(value)
    if text.isascii() and text.isdigit() and len(text) <= _MAX_CHARS:
        return Fraction(int(text))  # the usual case
    m = _QUANTITY.fullmatch(text) if len(text) <= _MAX_CHARS else None
    if m is None:
        return None
    number = Fraction(m[1])
    if m[2]:
        return number * Fraction(10) ** int(m[2][1:])
    return number * _SUFFIX[m[3]] if m[3] else number


def parse_count(value: object) -> int | None:
    """A quantity that is a whole number >= 0, as extended resources must be; else None."""
    number = parse_quantity(value)
    return int(number) if number is not None and number >= 0 and number.denominator == 1 else None


def parse_mib(value: object) -> int | None:
    """Bytes as MiB, rounded up; None unless the quantity is a positive number of bytes."""
    number = parse_quantity(value)
    return -int(-number // 2**20) if number is not None and number > 0 else None
