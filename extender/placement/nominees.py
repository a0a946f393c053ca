"""Pods for which room is made on a node: the scheduler nominated it for them."""

from collections.abc import Iterable, Iterator
from collections.abc import Set as AbstractSet

from extender.placement.demand import Demand


class Nominees:
    """Mutable; owned by the ledger."""

    def __init__(self) -> None:
        self._on: dict[str, dict[str, Demand]] = {}  # by node, then uid
        self._node: dict[str, str] = {}  # of each

    @property
    def uids(self) -> AbstractSet[str]:
        return self._node.keys()

    def __iter__(self) -> Iterator[str]:
        """The nodes that have some."""
        return iter(self._on)

    def on(self, node: str) -> Iterable[Demand]:
        return self._on.get(node, {}).values()

    def put(self, node: str, demand: Demand) -> None:
        self._node[demand.uid] = node
        self._on.setdefault(node, {})[demand.uid] = demand

    def drop(self, uid: str) -> None:
        node = self._node.pop(uid, None)
        if node is not None:
            del self._on[node][uid]
            if not self._on[node]:
                del self._on[node]
