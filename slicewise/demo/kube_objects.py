"""What can be said of a Kubernetes object without knowing what it is: merging, selecting, refusing."""

from collections.abc import Callable, Mapping
from typing import Any

Json = dict[str, Any]


class RefusedError(Exception):
    """A Status object with a code, as the API server answers it."""

    def __init__(self, code: int, reason: str, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.reason = reason

    def status(self) -> Json:
        kind = {"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure"}
        return {**kind, "message": str(self), "reason": self.reason, "code": self.code}


def merged(target: Json, patch: Json) -> Json:
    """JSON merge patch (RFC 7386): a new value that shares no changed mapping with `target`.

    >>> merged({"a": 1, "b": {"c": 2, "d": 3}}, {"a": None, "b": {"c": 4}})
    {'b': {'c': 4, 'd': 3}}
    """
    result = dict(target)
    for key, value in patch.items():
        if value is None:
            result.pop(key, None)
        elif isinstance(value, dict):
            old = result.get(key)
            result[key] = merged(old if isinstance(old, dict) else {}, value)
        else:
            result[key] = value
    return result


def selector(label_selector: str = "", field_selector: str = "") -> Callable[[Json], bool]:
    """Equality-based selectors, `a=b,c!=d,e`. Raises RefusedError 400 on what it does not know."""
    tests = [_test(("metadata", "labels"), term) for term in label_selector.split(",") if term]
    tests += [_test((), term) for term in field_selector.split(",") if term]
    return lambda obj: all(test(obj) for test in tests)


def _test(root: tuple[str, ...], term: str) -> Callable[[Json], bool]:
    sign = next((s for s in ("!=", "==", "=") if s in term), "")
    if not sign and not root:
        raise RefusedError(400, "BadRequest", f"invalid field selector: {term!r}; want a=b or a!=b")
    if not sign:
        return lambda obj: _at(obj, (*root, term)) is not None
    name, _, value = term.partition(sign)
    path = (*root, name) if root else tuple(name.split("."))
    return lambda obj: ((_at(obj, path) or "") == value) is (sign != "!=")


def _at(obj: object, path: tuple[str, ...]) -> object:
    for key in path:
        obj = obj.get(key) if isinstance(obj, Mapping) else None
    return obj
