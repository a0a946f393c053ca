"""Moves tried on a ledger by the scheduler's own questions, and taken back: what would be placed where, if."""

from collections.abc import Mapping, Sequence

from extender.ledger import Ledger
from extender.placement.advice import Asking, Outcome, Placed, Standing, Unplaced, fragmentation, plain_room
from extender.placement.allocation import Allocation
from extender.verbs import filter_nodes, score_nodes


class Rehearsal:
    """A board for `advise`. The ledger is its own: nothing else may change it meanwhile.

    `pods`: the Pod objects of all that may be moved, by uid.
    """

    def __init__(self, ledger: Ledger, pods: Mapping[str, Mapping[str, object]], now_s: float) -> None:
        self._ledger, self._pods, self._now_s = ledger, pods, now_s
        if ledger.node_scorer is not None:
            ledger.node_scorer.freeze()

    def opens(self, asking: Asking, node: str, gone: frozenset[str]) -> bool:
        if self._ledger.unusable(node, self._now_s) is not None:
            return False
        guard = self._ledger.guard(asking.demand, self._now_s)
        return isinstance(self._ledger.choose(asking.demand, node, guard, gone), Allocation)

    def rehearse(self, gone: Sequence[Standing], wanted: Sequence[Asking], *, returning_first: bool = False) -> Outcome:
        ledger = self._ledger
        for asking in wanted:
            ledger.ask(asking.demand)  # counted once, before the traffic is remembered: every try sees the same mix
        traffic = ledger.traffic
        for s in gone:
            ledger.drop_pod(s.holding.uid)
        back = sorted(gone, key=lambda s: (-s.holding.priority, s.holding.key))
        returning = [s.asking for s in back if s.asking is not None]
        if returning_first:
            returned = self._place(returning)
            placed = self._place(wanted)
        else:
            placed = self._place(wanted)
            returned = self._place(returning)
        outcome = Outcome(placed, returned, fragmentation(ledger.fleet, traffic), plain_room(ledger.fleet))
        for asking in (*wanted, *returning):
            ledger.forget(asking.demand.uid)
        for s in gone:
            ledger.put_pod(self._pods[s.holding.uid])
        ledger.traffic = traffic
        return outcome

    def _place(self, asking: Sequence[Asking]) -> tuple[Placed | Unplaced, ...]:
        return tuple(self._place_one(a) for a in asking)

    def _place_one(self, asking: Asking) -> Placed | Unplaced:
        """On the node with the best score; of several the first by name."""
        ledger, demand = self._ledger, asking.demand
        fit = sorted(filter_nodes(ledger, demand, asking.nodes, self._now_s).fit)
        best_first = sorted(score_nodes(ledger, demand, fit, self._now_s), key=lambda scored: -scored[1])
        answers = ((n, ledger.assume(demand.uid, demand.key, demand, n, self._now_s)) for n, _ in best_first)
        placed = next((Placed(demand, n, found) for n, found in answers if isinstance(found, Allocation)), None)
        return placed or Unplaced(demand, f"no room on any of the {len(asking.nodes)} nodes where it may go")
