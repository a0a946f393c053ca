"""Pods for which room is made on a node: the scheduler nominated it for them."""

from collections import Counter
from collections.abc import Container, Iterable, Iterator, Sequence
from collections.abc import Set as AbstractSet

from extender.placement.allocation import Allocation
from extender.placement.demand import Demand
from extender.placement.holding import Phase
from extender.placement.node import Node
from extender.placement.plan import NodeView, Prices, plan
from extender.placement.usage import Held


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

    def before(self, node: str, demand: Demand, placed: Container[str]) -> list[Demand]:
        """Those on a node that go before a demand and are not `placed` yet: the most important first."""
        found = [
            d for d in self.on(node) if d.uid != demand.uid and d.uid not in placed and d.priority >= demand.priority
        ]
        return sorted(found, key=lambda d: (-d.priority, d.key))

    def put(self, node: str, demand: Demand) -> None:
        self._node[demand.uid] = node
        self._on.setdefault(node, {})[demand.uid] = demand

    def drop(self, uid: str) -> None:
        node = self._node.pop(uid, None)
        if node is not None:
            del self._on[node][uid]
            if not self._on[node]:
                del self._on[node]


def view_beside(state: Node, first: Sequence[Demand], prices: Prices, without: AbstractSet[str]) -> NodeView:
    """What a node can give without some pods, less what nominated pods wait for that go `first`.

    A nominee's place may still be held by the pods that leave for it; then it is kept among those.
    """
    extra: list[Held] = []
    static: Counter[str] = Counter()
    for nominee in first:
        leaving = frozenset(h.uid for h in state.pods.values() if h.phase is Phase.TERMINATING)
        lesser = frozenset(h.uid for h in state.pods.values() if h.priority < nominee.priority)
        for gone in (frozenset[str](), leaving, leaving | lesser):
            place = plan(nominee, state.view(without | gone, extra, static), prices)
            if isinstance(place, Allocation):
                extra += [Held(nominee.uid, nominee.tenant, g) for g in place.grants()]
                static.update(dict(nominee.static))
                break
    return state.view(without, extra, static)
