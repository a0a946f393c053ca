"""Kinds of values in a trigger's metadata: how each is written, read, and told to the one who wrote it wrong. Pure."""

import re
from dataclasses import dataclass
from typing import Annotated, Any, Final, Literal, get_args

from annotated_types import Ge, Gt, Le, Lt
from pydantic import BeforeValidator
from pydantic.fields import FieldInfo

UNITS_S: Final = {"ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0}


@dataclass(frozen=True, slots=True)
class Kind:
    """How a value is written; `unit`: of the bounds that stand beside it."""

    written: str
    unit: str = ""


@dataclass(frozen=True, slots=True)
class QueueTarget:
    amount: float
    unit: Literal["requests", "s"]


def _seconds(text: object) -> float:
    match = re.fullmatch(r"([0-9]{1,9}(?:\.[0-9]{1,6})?)(ms|s|m|h)", str(text))
    if match is None:
        raise ValueError("not a duration")
    return float(match[1]) * UNITS_S[match[2]]


def _number(text: object) -> float:
    if re.fullmatch(r"[0-9]{1,9}(?:\.[0-9]{1,6})?", str(text)) is None:
        raise ValueError("not a plain number")
    return float(str(text))


def _count(text: object) -> int:
    if re.fullmatch(r"[0-9]{1,9}", str(text)) is None:
        raise ValueError("not a whole number")
    return int(str(text))


def _name(text: object) -> str:
    # RFC 1123 subdomain: what Kubernetes accepts as the name of most objects.
    if (
        len(str(text)) > 253
        or re.fullmatch(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*", str(text)) is None
    ):
        raise ValueError("not a name")
    return str(text)


def _names(text: object) -> tuple[str, ...]:
    names = tuple(_name(part) for part in str(text).split(","))
    if len(set(names)) < len(names) or len(names) > 8:
        raise ValueError("not a list of different names")
    return names


def _resource(text: object) -> str:
    if re.fullmatch(r"[!-~]{1,255}", str(text)) is None:
        raise ValueError("not a name in a backend")
    return str(text)


def _requests_or_work(text: object) -> QueueTarget:
    bare = re.fullmatch(r"[0-9.]+", str(text)) is not None
    target = QueueTarget(_number(text), "requests") if bare else QueueTarget(_seconds(text), "s")
    if not 0 < target.amount <= (1_000_000 if bare else 3600):
        raise ValueError("out of range")
    return target


Duration = Annotated[float, BeforeValidator(_seconds), Kind("a number with its unit, such as 500ms, 30s or 5m", " s")]
Number = Annotated[float, BeforeValidator(_number), Kind("a plain number, such as 4 or 2.5")]
Count = Annotated[int, BeforeValidator(_count), Kind("a whole number")]
Name = Annotated[
    str, BeforeValidator(_name), Kind("a name of lower-case letters, digits, '-' and '.', as Kubernetes has them")
]
Names = Annotated[
    tuple[str, ...],
    BeforeValidator(_names),
    Kind("up to 8 different names of lower-case letters, digits, '-' and '.', separated by commas"),
]
Resource = Annotated[
    str,
    BeforeValidator(_resource),
    Kind("1 to 255 printable ASCII characters without blanks, as the backend has the name"),
]
RequestsOrWork = Annotated[
    QueueTarget,
    BeforeValidator(_requests_or_work),
    Kind("requests such as 4, above 0, or seconds of work with their unit such as 30s, above 0 s and at most 3600 s"),
]

_BOUNDS: Final[tuple[tuple[type[Any], str, str], ...]] = (
    (Gt, "gt", "above"),
    (Ge, "ge", "at least"),
    (Lt, "lt", "below"),
    (Le, "le", "at most"),
)


def rule_of(field: FieldInfo) -> str:
    """The rule for a field's value, for error messages and for the documentation."""
    metadata = [
        *field.metadata,
        *(item for arg in get_args(field.annotation) for item in getattr(arg, "__metadata__", ())),
    ]
    kind = next((item for item in metadata if isinstance(item, Kind)), None)
    if kind is None:
        return f"one of {', '.join(map(str, get_args(field.annotation)))}"
    bounds = [
        f"{word} {getattr(item, name):g}{kind.unit}"
        for cls, name, word in _BOUNDS
        for item in metadata
        if isinstance(item, cls)
    ]
    return ", ".join([kind.written, " and ".join(bounds)] if bounds else [kind.written])
