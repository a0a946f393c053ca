"""Who may ask what of a backend: the rule between a server's settings and a tenant's trigger. Pure."""

import re
from dataclasses import dataclass
from typing import Final, Literal

Role = Literal["metrics", "backlog", "sessions"]
"""What a trigger may use a backend for: an engine's metrics, a message queue, live sessions."""

KEYS: Final[dict[Role, str]] = {"metrics": "backend", "backlog": "backlogBackend", "sessions": "sessionsBackend"}
NAME_KEYS: Final[dict[Role, str]] = {"metrics": "backend", "backlog": "backlogName", "sessions": "sessionsKey"}
"""The trigger keys that name a backend, and something in it, in each role."""

NAMESPACE: Final = "{namespace}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Access:
    """Who may use a backend, and for what.

    `namespaces`: None for everybody. `names`: patterns of what may be named in it, None for everything: `*` stands for
    any text, `{namespace}` for the tenant's own.
    """

    roles: frozenset[Role]
    namespaces: tuple[str, ...] | None = None
    names: tuple[str, ...] | None = None

    def allows(self, namespace: str) -> bool:
        return self.namespaces is None or namespace in self.namespaces

    def refusal(self, role: Role, name: str, namespace: str) -> str | None:
        """Why `namespace` may not ask for `name`; None if it may. A foreign backend's patterns are not told.

        A `*` in `name` (a pattern of keys) is matched by a `*` of ours alone: what the one covers, the other covers.
        """
        if self.names is None or any(covers(p.replace(NAMESPACE, namespace), name) for p in self.names):
            return None
        shown = ", ".join(p.replace(NAMESPACE, namespace) for p in self.names) or "nothing"
        return (
            f"trigger metadata {NAME_KEYS[role]!r}: namespace {namespace!r} may name {shown} there (got {name[:80]!r})"
        )


def covers(pattern: str, name: str) -> bool:
    """Whether `pattern`, in which `*` is any text and all else is itself, makes `name`."""
    head, *rest = pattern.split("*")
    if not rest:
        return name == pattern
    *middle, tail = rest
    if not (name.startswith(head) and name.endswith(tail) and len(name) >= len(head) + len(tail)):
        return False
    at, end = len(head), len(name) - len(tail)
    for part in middle:
        found = name.find(part, at, end)
        if found < 0:
            return False
        at = found + len(part)
    return True


def leak(pattern: str) -> str | None:
    """Why a pattern of the settings does not keep tenants apart as it seems to; None where it does.

    `{namespace}-*` would let namespace `a` name what `a-b` owns: beside a wildcard, what touches the namespace has to
    be a character that no namespace's name has.
    """
    rest = pattern.replace(NAMESPACE, "")
    if "{" in rest or "}" in rest:
        return f"the only variable is {NAMESPACE} (got {pattern[:80]!r})"
    head, _, tail = pattern.partition(NAMESPACE)
    if "*" in head and "*" in tail:
        return f"a '*' on both sides of {NAMESPACE} lets two namespaces name the same (got {pattern[:80]!r})"
    touching = re.search(r"[-a-z0-9*}]\{namespace\}|\{namespace\}[-a-z0-9*]", pattern)
    if "*" not in pattern or touching is None:
        return None
    return (
        f"{touching[0]!r} in a pattern with '*' matches names of namespaces that begin or end alike, too; separate it "
        f"by a character that no namespace has, such as '.', ':', '/' or '_' (got {pattern[:80]!r})"
    )
