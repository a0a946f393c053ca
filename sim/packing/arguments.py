"""What `slicewise sim pack` is told, read from text. A fault is a `ValueError` with option, rule and value."""

from collections.abc import Sequence
from typing import Final

#: What production uses, whatever that is: a name that every lab knows.
DEFAULT_SCORER: Final = "default"


def listed(text: str) -> list[str]:
    """Parts between commas, each once, in order."""
    return list(dict.fromkeys(part.strip() for part in text.split(",") if part.strip()))


def seeds_of(text: str) -> list[int]:
    """`42-51`, `42,44` or both."""
    seeds: list[int] = []
    for part in text.split(","):
        first, dash, last = part.partition("-")
        bounds = (first, last) if dash else (first, first)
        if not all(bound.isascii() and bound.isdecimal() and len(bound) <= 9 for bound in bounds):
            raise ValueError(f"--seeds: whole numbers and ranges such as 42-51, with commas between (got {part!r})")
        if int(bounds[1]) < int(bounds[0]):
            raise ValueError(f"--seeds: a range goes upwards (got {part!r})")
        seeds += range(int(bounds[0]), int(bounds[1]) + 1)
    return list(dict.fromkeys(seeds))


def scorers_of(text: str, known: Sequence[str]) -> list[str]:
    """Names with commas between, `default` among them."""
    return _names("scorer", text, [DEFAULT_SCORER, *known])


def mixes_of(text: str, known: Sequence[str]) -> list[str]:
    """Names with commas between, or `all`."""
    return list(known) if text == "all" else _names("mix", text, known)


def _names(kind: str, text: str, known: Sequence[str]) -> list[str]:
    names = listed(text)
    if strange := [name for name in names if name not in known] or ([] if names else [repr(text)]):
        raise ValueError(f"--{kind}{'s' * (kind == 'scorer')}: no such {kind}: {', '.join(strange)}; "
                         f"there are {', '.join(known)}")  # fmt: skip
    return names
