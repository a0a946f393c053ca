"""`scalingModifiers.formula`: the part of expr-lang that computes with numbers, as KEDA runs it over triggers' values.

Numbers, `+ - * / % ** ^`, comparisons (chained as well), `and or not`, `? :`, `??`, arrays, `let`, and functions of
numbers and arrays with `#` in predicates. Texts, maps, ranges and pipes are refused: no formula over metrics needs any.
Source: expr-lang/expr v1.17.8 `parser/operator/operator.go`, `parser/parser.go`, `builtin/builtin.go`; kedacore/keda
v2.21.0 `apis/keda/v1alpha1/scaledobject_webhook.go` (a dry run with -1 for every trigger; the result cast to float).
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Final

from sim.cluster import compute
from sim.cluster.compute import LAZY, FormulaError, Node, Scope, Value, always, boolean, both, named, number, strict

__all__ = ["Formula", "FormulaError"]


@dataclass(frozen=True, slots=True)
class Formula:
    text: str
    _node: Node

    @classmethod
    def parse(cls, text: str, names: Iterable[str]) -> "Formula":
        """`names`: of the triggers. Raises `FormulaError`."""
        found = cls(text, _Parser(text).whole())
        found._run(Scope(dict.fromkeys(names, -1.0), eager=True))
        return found

    def value(self, values: Mapping[str, float | None]) -> float | None:
        """None where `??` left nothing. Raises `FormulaError`."""
        return self._run(Scope(values))

    def _run(self, scope: Scope) -> float | None:
        found = self._node(scope)
        return None if found is None and "??" in self.text else float(number(found, "the result"))


# -- reading -----------------------------------------------------------------------------------------------------------

_TOKEN: Final = re.compile(
    r"\s*(?:(?P<number>(?:\d[\d_]*(?:\.\d+)?|\.\d+)(?:[eE][+-]?\d+)?)|(?P<name>[A-Za-z_$][\w$]*)"
    r"|(?P<sign>\*\*|\?\?|&&|\|\||[=!<>]=|[-+*/%^<>!?:;,=#(){}\[\]]))"
)
_BINARY: Final = MappingProxyType(
    {"||": 10, "or": 10, "&&": 15, "and": 15}
    | dict.fromkeys(("==", "!=", "<", ">", "<=", ">="), 20)
    | {"+": 30, "-": 30, "*": 60, "/": 60, "%": 60, "**": 100, "^": 100, "??": 500}
)
_RIGHT: Final = frozenset({"**", "^"})
_UNARY: Final = MappingProxyType({"not": 50, "!": 50, "-": 90, "+": 90})
_COMPARES: Final = frozenset({"<", ">", "<=", ">="})
_WORDS: Final = frozenset({"or", "and", "not", "let", "true", "false", "nil"})


@dataclass(frozen=True, slots=True)
class _Token:
    kind: str
    text: str
    column: int


class _Parser:
    def __init__(self, text: str) -> None:
        self._tokens, at = list[_Token](), 0
        while text[at:].strip():
            match = _TOKEN.match(text, at)
            if match is None or match.lastgroup is None:
                begin = at + len(text[at:]) - len(text[at:].lstrip())
                raise FormulaError(f"column {begin + 1}: {text[begin : begin + 8]!r} is not modelled, or no expression")
            word = match[match.lastgroup]
            kind = "sign" if word in _WORDS else match.lastgroup
            self._tokens.append(_Token(kind, word, match.start(match.lastgroup) + 1))
            at = match.end()
        self._tokens.append(_Token("end", "the end", len(text) + 1))
        self._at = 0

    def whole(self) -> Node:
        node = self._expression(0)
        self._expect("end")
        return node

    @property
    def _next(self) -> _Token:
        return self._tokens[self._at]

    def _take(self, *texts: str) -> bool:
        if self._next.kind == "sign" and self._next.text in texts:
            self._at += 1
            return True
        return False

    def _expect(self, text: str) -> None:
        if not (self._take(text) or (text == self._next.kind == "end")):
            raise self._wrong(f"want {text}")

    def _wrong(self, rule: str) -> FormulaError:
        return FormulaError(f"column {self._next.column}: {rule} (got {self._next.text})")

    def _name(self) -> str:
        token = self._next
        if token.kind != "name":
            raise self._wrong("want a name")
        self._at += 1
        return token.text

    def _expression(self, least: int) -> Node:
        if least == 0 and self._take("let"):
            return self._let()
        left, before = self._primary(), ""
        while self._next.kind == "sign" and _BINARY.get(self._next.text, -1) >= least:
            sign = self._next.text
            if before == "??" and sign != "??":
                raise self._wrong("want parentheses around either: ?? and other operators cannot be mixed")
            self._at += 1
            if sign in _COMPARES:
                left = self._comparison(left, sign)
            else:
                right = self._expression(_BINARY[sign] + (sign not in _RIGHT))
                left = LAZY[sign](left, right) if sign in LAZY else strict(sign, left, right)
            before = sign
        while least == 0 and self._take("?"):
            left = self._choice(left)
        return left

    def _let(self) -> Node:
        name = self._name()
        self._expect("=")
        bound = self._expression(0)
        self._expect(";")
        body = self._expression(0)
        return lambda scope: body(replace(scope, names={**scope.names, name: bound(scope)}))

    def _comparison(self, left: Node, sign: str) -> Node:
        """`a < b < c` is `a < b and b < c`."""
        right = self._expression(_BINARY[sign] + 1)
        node = strict(sign, left, right)
        while self._next.kind == "sign" and self._next.text in _COMPARES:
            sign, left = self._next.text, right
            self._at += 1
            right = self._expression(_BINARY[sign] + 1)
            node = both(node, strict(sign, left, right))
        return node

    def _choice(self, condition: Node) -> Node:
        yes = condition if self._next.text == ":" else self._expression(0)
        self._expect(":")
        no = self._expression(0)

        def choose(scope: Scope) -> Value:
            chosen = boolean(condition(scope), "?")
            if scope.eager:
                yes(scope), no(scope)
            return yes(scope) if chosen else no(scope)

        return choose

    def _primary(self) -> Node:
        token = self._next
        if token.kind == "number":
            self._at += 1
            text = token.text.replace("_", "")
            return always(int(text) if text.isdecimal() else float(text))
        if token.kind == "name":
            self._at += 1
            return self._call(token) if self._take("(") else named(token.text)
        for sign, precedence in _UNARY.items():
            if self._take(sign):
                return compute.unary(sign, self._expression(precedence))
        if self._take("#"):
            return lambda scope: scope.item
        return self._bracketed()

    def _bracketed(self) -> Node:
        if self._take("("):
            node = self._expression(0)
            self._expect(")")
            return node
        if self._take("["):
            items = self._list("]")
            return lambda scope: tuple(item(scope) for item in items)
        for word, value in (("true", True), ("false", False), ("nil", None)):
            if self._take(word):
                return always(value)
        raise self._wrong("want a number, a trigger's name, a function, ( or [")

    def _call(self, token: _Token) -> Node:
        """Arguments, or an array and a predicate of `#`, in braces or without."""
        name, arguments = token.text, list[Node]()
        while not self._take(")"):
            if arguments:
                self._expect(",")
            braced = self._take("{")
            arguments.append(self._expression(0))
            if braced:
                self._expect("}")
        if name in compute.PREDICATES and len(arguments) in compute.PREDICATES[name][1]:
            return compute.of_each(name, arguments)
        if name not in compute.FUNCTIONS:
            known = ", ".join(sorted([*compute.FUNCTIONS, *compute.PREDICATES]))
            raise FormulaError(f"column {token.column}: function {name} is not modelled; there are {known}")
        function = compute.FUNCTIONS[name]
        return lambda scope: function([argument(scope) for argument in arguments])

    def _list(self, end: str) -> list[Node]:
        items = list[Node]()
        while not self._take(end):
            if items:
                self._expect(",")
            items.append(self._expression(0))
        return items
