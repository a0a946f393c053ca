"""What the parts of a scaling formula compute, as expr-lang does: whole numbers stay whole, `/` and `**` give floats.

Source: expr-lang/expr v1.17.8 `vm/runtime/helpers`, `builtin/lib.go`.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from math import ceil, floor, fmod, inf, isfinite, isnan, nan
from statistics import median
from types import MappingProxyType
from typing import Final

Value = float | int | bool | None | Sequence["Value"]


class FormulaError(ValueError):
    """What cannot be read, with its column, or computed."""


@dataclass(frozen=True, slots=True)
class Scope:
    """`item`: what `#` is. `eager`: nothing is left out, so that every part of a formula is tried."""

    names: Mapping[str, Value]
    item: Value = None
    eager: bool = False


Node = Callable[[Scope], Value]


def number(value: Value, of: str) -> float | int:
    if isinstance(value, bool) or not isinstance(value, float | int):
        raise FormulaError(f"{of}: want a number (got {_said(value)})")
    return value


def boolean(value: Value, of: str) -> bool:
    if not isinstance(value, bool):
        raise FormulaError(f"{of}: want true or false (got {_said(value)})")
    return value


def _said(value: Value) -> str:
    if value is None or isinstance(value, bool):
        return {None: "nil", True: "true", False: "false"}[value]
    return f"{value:g}" if isinstance(value, float | int) else "an array"


def unary(sign: str, node: Node) -> Node:
    if sign in {"!", "not"}:
        return lambda scope: not boolean(node(scope), sign)
    return lambda scope: -number(node(scope), sign) if sign == "-" else number(node(scope), sign)


def both(left: Node, right: Node) -> Node:
    def holds(scope: Scope) -> Value:
        first = boolean(left(scope), "and")
        return (boolean(right(scope), "and") and first) if first or scope.eager else False

    return holds


def _or(left: Node, right: Node) -> Node:
    def either(scope: Scope) -> Value:
        first = boolean(left(scope), "or")
        return (boolean(right(scope), "or") or first) if not first or scope.eager else True

    return either


def _coalesce(left: Node, right: Node) -> Node:
    def first_known(scope: Scope) -> Value:
        first = left(scope)
        second = right(scope) if first is None or scope.eager else None
        return second if first is None else first

    return first_known


LAZY: Final = MappingProxyType({"&&": both, "and": both, "||": _or, "or": _or, "??": _coalesce})


def strict(sign: str, left: Node, right: Node) -> Node:
    if sign in {"==", "!="}:
        return lambda scope: _equal(left(scope), right(scope)) is (sign == "==")
    compute = _COMPUTE[sign]
    return lambda scope: compute(number(left(scope), sign), number(right(scope), sign))


def _equal(a: Value, b: Value) -> bool:
    if a is not None and b is not None and isinstance(a, bool) is not isinstance(b, bool):
        raise FormulaError(f"==: want two of a kind (got {_said(a)} and {_said(b)})")
    return a == b


def _divide(a: float, b: float) -> float:
    """IEEE division, as Go does it."""
    if b:
        return a / b
    return nan if not a or isnan(a) else inf if a > 0 else -inf


def _rest(a: float, b: float) -> int:
    if not (isinstance(a, int) and isinstance(b, int)):
        raise FormulaError("%: want whole numbers, int(…) of a trigger's value (got a float)")
    if not b:
        raise FormulaError("%: division by zero")
    return int(fmod(a, b))


def _power(a: float, b: float) -> float:
    try:
        found = float(a) ** float(b)
    except ZeroDivisionError:
        return inf
    except OverflowError:
        return inf
    return found if isinstance(found, float) else nan


_COMPUTE: Final[Mapping[str, Callable[[float, float], Value]]] = MappingProxyType(
    {
        "+": lambda a, b: a + b,
        "-": lambda a, b: a - b,
        "*": lambda a, b: a * b,
        "/": _divide,
        "%": _rest,
        "**": _power,
        "^": _power,
        "<": lambda a, b: a < b,
        ">": lambda a, b: a > b,
        "<=": lambda a, b: a <= b,
        ">=": lambda a, b: a >= b,
    }
)


def _numbers(values: Iterable[Value], of: str) -> list[float | int]:
    """Of all arguments, arrays laid flat."""
    found = list[float | int]()
    for value in values:
        found += _numbers(value, of) if isinstance(value, Sequence) else [number(value, of)]
    return found


def _some(name: str, compute: Callable[[list[float | int]], Value]) -> Callable[[list[Value]], Value]:
    def call(arguments: list[Value]) -> Value:
        numbers = _numbers(arguments, name)
        if not numbers:
            raise FormulaError(f"{name}: want at least one number")
        return compute(numbers)

    return call


def _one(name: str, compute: Callable[[float | int], Value]) -> Callable[[list[Value]], Value]:
    def call(arguments: list[Value]) -> Value:
        if len(arguments) != 1:
            raise FormulaError(f"{name}: want one number (got {len(arguments)})")
        return compute(number(arguments[0], name))

    return call


def _whole(round_: Callable[[float], int]) -> Callable[[float | int], Value]:
    """A float, as expr-lang's ceil, floor and round answer; infinite numbers stay."""
    return lambda x: float(round_(x)) if isfinite(x) else x


def int64(value: float) -> int:
    """Go's conversion on amd64: towards zero; what does not fit, NaN as well, is the smallest number."""
    return int(value) if -(2.0**63) <= value < 2.0**63 else -(2**63)


def _half_away(x: float) -> int:
    return floor(abs(x) + 0.5) * (1 if x >= 0 else -1)


def _array(value: Value, of: str) -> Sequence[Value]:
    if not isinstance(value, Sequence):
        raise FormulaError(f"{of}: want an array (got {_said(value)})")
    return value


def _length(arguments: list[Value]) -> Value:
    if len(arguments) != 1:
        raise FormulaError(f"len: want one array (got {len(arguments)})")
    return len(_array(arguments[0], "len"))


FUNCTIONS: Final[Mapping[str, Callable[[list[Value]], Value]]] = MappingProxyType(
    {
        "abs": _one("abs", abs),
        "ceil": _one("ceil", _whole(ceil)),
        "floor": _one("floor", _whole(floor)),
        "round": _one("round", _whole(_half_away)),
        "int": _one("int", int64),
        "float": _one("float", float),
        "len": _length,
        "max": _some("max", max),
        "min": _some("min", min),
        "sum": _some("sum", sum),
        "mean": _some("mean", lambda numbers: sum(numbers) / len(numbers)),
        "median": _some("median", lambda numbers: float(median(numbers))),
    }
)


def _held(values: list[Value], of: str) -> list[bool]:
    return [boolean(value, of) for value in values]


#: name -> (of each item its predicate's value, and the item), and how many arguments it may have.
PREDICATES: Final[Mapping[str, tuple[Callable[[list[Value], Sequence[Value]], Value], tuple[int, ...]]]] = (
    MappingProxyType(
        {
            "all": (lambda found, _: all(_held(found, "all")), (2,)),
            "any": (lambda found, _: any(_held(found, "any")), (2,)),
            "none": (lambda found, _: not any(_held(found, "none")), (2,)),
            "one": (lambda found, _: sum(_held(found, "one")) == 1, (2,)),
            "count": (lambda found, _: sum(_held(found, "count")), (1, 2)),
            "filter": (
                lambda found, items: tuple(x for x, held in zip(items, _held(found, "filter"), strict=True) if held),
                (2,),
            ),
            "map": (lambda found, _: tuple(found), (2,)),
            "sum": (lambda found, _: sum(_numbers(found, "sum")), (2,)),
        }
    )
)


def of_each(name: str, arguments: Sequence[Node]) -> Node:
    compute = PREDICATES[name][0]
    predicate: Node = arguments[1] if len(arguments) > 1 else lambda scope: scope.item

    def call(scope: Scope) -> Value:
        items = _array(arguments[0](scope), name)
        return compute([predicate(replace(scope, item=item)) for item in items], items)

    return call


def always(value: Value) -> Node:
    return lambda _: value


def named(name: str) -> Node:
    def look(scope: Scope) -> Value:
        if name not in scope.names:
            there = ", ".join(sorted(scope.names)) or "none; give the triggers names"
            raise FormulaError(f"{name} is no trigger's name; there are {there}")
        return scope.names[name]

    return look
