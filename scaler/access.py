"""Who may ask what of a backend: the rule between a server's settings and a tenant's trigger. Pure."""

from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Final, Literal

Role = Literal["metrics", "backlog", "sessions"]
"""What a trigger may use a backend for: an engine's metrics, a message queue, live sessions."""

KEYS: Final[dict[Role, str]] = {"metrics": "backend", "backlog": "backlogBackend", "sessions": "sessionsBackend"}
NAME_KEYS: Final[dict[Role, str]] = {"metrics": "backend", "backlog": "backlogName", "sessions": "sessionsKey"}
"""The trigger keys that name a backend, and something in it, in each role."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Access:
    """Who may use a backend, and for what.

    `namespaces`: None for everybody. `names`: shell patterns of what may be named in it, in which `{namespace}` stands
    for the tenant's own; None for everything.
    """

    roles: frozenset[Role]
    namespaces: tuple[str, ...] | None = None
    names: tuple[str, ...] | None = None

    def allows(self, namespace: str) -> bool:
        return self.namespaces is None or namespace in self.namespaces

    def refusal(self, role: Role, name: str, namespace: str) -> str | None:
        """Why `namespace` may not ask for `name`; None if it may. A foreign backend's patterns are not told."""
        if self.names is None or any(fnmatchcase(name, p.replace("{namespace}", namespace)) for p in self.names):
            return None
        shown = ", ".join(p.replace("{namespace}", namespace) for p in self.names) or "nothing"
        return (
            f"trigger metadata {NAME_KEYS[role]!r}: namespace {namespace!r} may name {shown} there (got {name[:80]!r})"
        )
