"""Who has what: reserved, assumed, bound and terminating, on every GPU of the cluster. The one source of every view.

Rebuilt from the API alone: node inventories and the allocation annotations of bound pods. Only reservations that are
on their way to the API live here alone, and they expire. No I/O, no locks: one thread calls it.
"""

from collections.abc import Iterable, Mapping
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, replace
from math import inf
from typing import Final

from extender.placement.allocation import Allocation, AllocationError
from extender.placement.asked import Asked
from extender.placement.demand import Demand, DemandError, Shape
from extender.placement.fleet import NO_NODE, Fleet
from extender.placement.holding import Holding, ObjectError, Phase, mapping, pod_key, text_of
from extender.placement.load import Load, comes_with_its_node
from extender.placement.model import GpuProblem, Inventory, InventoryError, NoInventory, inventory_text
from extender.placement.node import NOT_SEEN, Node, Problem, StaticRoom
from extender.placement.nominees import Nominees, view_beside
from extender.placement.plan import Misfit, NodeView, Prices, plan
from extender.placement.reserve import Guard, Guarded, Reserve
from extender.placement.scorers import DEFAULT, SCORERS, node_scorer
from extender.placement.traffic import NO_TRAFFIC, Traffic
from extender.placement.usage import Held
from extender.placement.warmth import Savings, Warmth

__all__ = ["Holding", "Ledger", "NodeView", "ObjectError", "Phase", "Problem", "Refusal"]

TERMINAL: Final = frozenset({"Succeeded", "Failed"})
MAX_WAITING: Final = 1 << 16  # pods that wait; more are not looked at
NO_REPORT: Final = NoInventory("no inventory: the node agent has not reported its GPUs")


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why a pod cannot be assumed on a node."""

    why: str


class Ledger:
    """Keeps every node's state and the fleet's arrays in step.

    `stale_after_s`: an inventory whose heartbeat is older is not used. `assume_ttl_s`: a reservation that is neither
    confirmed nor forgotten ends after this; longer than the longest Binding call. `scorer`: a name of SCORERS.
    `savings`: what a warm place is worth. `reserves`: room that is kept for important pods.
    """

    def __init__(
        self,
        *,
        stale_after_s: float = 60.0,
        assume_ttl_s: float = 120.0,
        scorer: str = DEFAULT,
        savings: Savings = Savings(),  # noqa: B008  # frozen
        reserves: Iterable[Reserve] = (),
    ) -> None:
        if scorer not in SCORERS:
            raise ValueError(f"scorer: want one of {', '.join(SCORERS)}, got {scorer!r}")
        self.stale_after_s = stale_after_s
        self.assume_ttl_s = assume_ttl_s
        self.scorer_name, self.scorer = scorer, SCORERS[scorer]
        self.fleet = Fleet()
        self.node_scorer = node_scorer(scorer, self.fleet)
        self.reserves = tuple(reserves)
        self.warmth = Warmth(self.fleet, savings, whole_in_gib=self.node_scorer is not None)
        self.traffic: Traffic = NO_TRAFFIC  # learnt: what is asked for, and whether pods leave
        self._waiting: dict[str, tuple[Shape, int]] = {}  # pods that the API shows without a place
        self._asked = Asked()  # those that traffic has counted
        self._nodes: dict[str, Node] = {}
        self._texts: dict[str, str] = {}  # inventory annotations as read last
        self._renewed_s: dict[str, float] = {}
        self._where: dict[str, str] = {}  # node of each pod that holds something
        self._nominees = Nominees()
        self._pod_problems: dict[str, Problem] = {}
        self._others: dict[str, str] = {}  # node of each bound pod that holds nothing of ours
        self._listing = False  # what is read now are all pods that there are: no moment at which they came

    # ---- nodes -------------------------------------------------------------------------------------------------

    def put_node(self, name: str, inventory: Inventory | NoInventory, refused: Iterable[GpuProblem] = ()) -> None:
        """A node's GPUs as reported now. `refused`: the GPUs that its inventory had and that are not used."""
        node = self._nodes.setdefault(name, Node(name))
        node.report(inventory, refused)
        self._texts.pop(name, None)
        if isinstance(inventory, NoInventory):
            self._drop_column(name)
            return
        self.fleet.put(name, list(zip(node.gpus, node.usages, node.base(), strict=True)))
        self._tell_fleet(node, ())
        self.fleet.renewed_s[self.fleet.slots[name]] = self._renewed_s.get(name, -inf)

    def put_node_object(self, node: Mapping[str, object]) -> None:
        """A Node object (its JSON). Reads the inventory annotation only if it changed."""
        name = text_of(mapping(node.get("metadata")), "name", "Node")
        self._nodes.setdefault(name, Node(name)).tell(node)
        text = inventory_text(node)
        if text is None:
            self.put_node(name, NO_REPORT)
        elif self._texts.get(name) != text:
            try:
                self.put_node(name, *Inventory.parse(text))
            except InventoryError as e:
                self.put_node(name, NoInventory(f"unreadable inventory: {e}"))
            self._texts[name] = text
        self.warmth.put_node(name, node)
        self._tell_fleet(self._nodes[name], ())

    def drop_node(self, name: str) -> None:
        """The node is gone. What its pods hold is remembered until they are gone too."""
        if name not in self._nodes:
            return
        self._texts.pop(name, None)
        self._renewed_s.pop(name, None)
        self._drop_column(name)
        self.warmth.drop_node(name)
        self._nodes[name].report(NOT_SEEN)
        self._tidy(name)

    def replace_nodes(self, nodes: Iterable[Mapping[str, object]]) -> None:
        """The full list: nodes that are not in it are gone."""
        seen = set()
        for node in nodes:
            self.put_node_object(node)
            seen.add(text_of(mapping(node.get("metadata")), "name", "Node"))
        for name in self._nodes.keys() - seen:
            self.drop_node(name)

    def heartbeat(self, name: str, renewed_s: float) -> None:
        """The node agent was alive at `renewed_s`, seconds since the epoch. May come before the node itself."""
        self._renewed_s[name] = renewed_s
        slot = self.fleet.slots.get(name, NO_NODE)
        if slot != NO_NODE:
            self.fleet.renewed_s[slot] = renewed_s

    # ---- pods from the API -------------------------------------------------------------------------------------

    def put_pod(self, pod: Mapping[str, object]) -> None:
        """A Pod object (its JSON) as the API has it now. Raises ObjectError if it has no uid."""
        meta, spec = mapping(pod.get("metadata")), mapping(pod.get("spec"))
        status = mapping(pod.get("status"))
        uid = text_of(meta, "uid", "Pod")
        if status.get("phase") in TERMINAL:
            self.drop_pod(uid)
            return
        node = spec.get("nodeName")
        if isinstance(node, str) and node:
            self._nominees.drop(uid)
            self._put_bound(uid, node, pod)
        else:
            self._put_pending(uid, status.get("nominatedNodeName"), pod)

    def drop_pod(self, uid: str) -> None:
        """The pod object is gone: so are its processes, and its slices are free."""
        holding = self.holding(uid)
        if holding is not None and holding.phase is not Phase.ASSUMED and holding.uuids:
            self.traffic = self.traffic.leave()
        self._stop_waiting(uid)
        self._nominees.drop(uid)
        self._drop_other(uid)
        self._pod_problems.pop(uid, None)
        self.warmth.drop_pod(uid)
        self._release(uid)

    def replace_pods(self, pods: Iterable[Mapping[str, object]], now_s: float) -> None:
        """The full list: pods that are not in it are gone.

        The list may be older than a Binding of ours, so a confirmed pod that it does not show gets the time of a
        reservation to appear.
        """
        seen, self._listing = set(), True
        for pod in pods:
            self.put_pod(pod)
            seen.add(mapping(pod.get("metadata")).get("uid"))
        self._listing = False
        by_uid = (self._where, self._nominees.uids, self._pod_problems, self._waiting, self._others)
        for uid in set().union(*by_uid) - seen:
            holding = self.holding(uid)
            if holding is None or holding.phase in {Phase.BOUND, Phase.TERMINATING}:
                self.drop_pod(uid)
            elif holding.phase is Phase.CONFIRMED and holding.expires_s == inf:
                self._hold(replace(holding, expires_s=now_s + self.assume_ttl_s))

    # ---- demands -----------------------------------------------------------------------------------------------

    def ask(self, demand: Demand, *, at_once: bool = True) -> None:
        """A pod looks for a place, for the first time or again: it is counted once, whether it finds one or not.

        `at_once`: what is due to be renewed in the scorer is renewed first; else the place was chosen already.
        """
        self._stop_waiting(demand.uid)
        if demand.shape is None:
            return
        new = self._is_new(demand.uid)
        if new:
            self.traffic = self.traffic.arrive(demand.shape, demand.count)
        if self.node_scorer is not None:
            self.node_scorer.hear(demand, new=new, at_once=at_once)

    def learn_from(self, other: "Ledger") -> None:
        """Expects what another ledger with the same scorer does."""
        self.traffic = other.traffic
        if self.node_scorer is not None and other.node_scorer is not None:
            self.node_scorer.learn_from(other.node_scorer)

    def wait(self, demand: Demand) -> None:
        """A pod has no place and will ask for one, for the first time or again: scorers know what is still to come."""
        self._stop_waiting(demand.uid)
        if demand.shape is not None and demand.uid not in self._where and len(self._waiting) < MAX_WAITING:
            self._waiting[demand.uid] = demand.shape, demand.count
            self.traffic = self.traffic.wait(demand.shape, demand.count)

    # ---- reservations ------------------------------------------------------------------------------------------

    def assume(self, uid: str, pod_key: str, demand: Demand, node: str, now_s: float) -> Allocation | Refusal:
        """Reserves a place for a pod. The same pod on the same node gets the same answer, however often it asks."""
        if demand.uid != uid:
            return Refusal(f"the demand is of pod {demand.uid}, not of {uid}")
        self.ask(demand, at_once=False)
        current = self.holding(uid)
        if current is not None and current.node == node:
            if current.phase is Phase.ASSUMED:
                self._hold(replace(current, expires_s=now_s + self.assume_ttl_s))
            return current.allocation
        if current is not None and current.phase is not Phase.ASSUMED:
            return Refusal(f"the pod is already bound to {current.node}")
        why = self.unusable(node, now_s)
        if why is not None:
            return Refusal(why)
        self._release(uid)  # an attempt on another node that nobody forgot
        chosen = self.choose(demand, node, self.guard(demand, now_s))
        if isinstance(chosen, Misfit):
            return Refusal(chosen.why)
        self.traffic = self.traffic.place()
        self._hold(Holding.assumed(demand, pod_key, node, chosen, now_s + self.assume_ttl_s))
        return chosen

    def confirm(self, uid: str) -> bool:
        """The API took the Binding. False: the reservation is not known any more (it expired before)."""
        holding = self.holding(uid)
        if holding is None:
            return False
        if holding.phase is Phase.ASSUMED:
            self._hold(replace(holding, phase=Phase.CONFIRMED, expires_s=inf))
        return True

    def forget(self, uid: str) -> None:
        """The Binding failed for good. What the API has confirmed stays."""
        holding = self.holding(uid)
        if holding is not None and holding.phase is Phase.ASSUMED:
            self._release(uid)

    def expire(self, now_s: float) -> tuple[Holding, ...]:
        """Ends the reservations whose time is over, and returns them. What pods brought to nodes grows cold."""
        self.warmth.passes(now_s)
        over = tuple(h for h in self.holdings() if h.expires_s <= now_s)
        for holding in over:
            self._release(holding.uid)
        return over

    # ---- views -------------------------------------------------------------------------------------------------

    def holding(self, uid: str) -> Holding | None:
        node = self._where.get(uid)
        return None if node is None else self._nodes[node].pods[uid]

    def holdings(self) -> tuple[Holding, ...]:
        return tuple(self._nodes[node].pods[uid] for uid, node in self._where.items())

    def static_room(self, name: str) -> StaticRoom:
        """Existing MIG instances of a node that the API has shown."""
        return self._nodes[name].static_room()

    def knows(self, name: str) -> bool:
        """Whether the API has shown this node."""
        return name in self._nodes and self._nodes[name].inventory is not NOT_SEEN

    def node(self, name: str) -> Node | None:
        return self._nodes.get(name)

    def nodes(self) -> tuple[str, ...]:
        """Every node that the API has shown, or on which a pod holds something."""
        return tuple(self._nodes)

    def nominees(self, node: str, demand: Demand) -> list[Demand]:
        """Pods for which room is made on a node and that go before a demand: the most important first."""
        return self._nominees.before(node, demand, self._where)

    def special_nodes(self, demand: Demand) -> set[str]:
        """Nodes where a demand has a reservation of its own, or where nominated pods go before it."""
        found = {node for node in self._nominees if self.nominees(node, demand)}
        own = self._where.get(demand.uid)
        return found | {own} if own is not None else found

    def view_for(self, node: str, demand: Demand, without: AbstractSet[str] = frozenset()) -> NodeView:
        """What a node can give to a demand: less what nominated pods of at least its priority wait for."""
        first = self.nominees(node, demand)
        return view_beside(self._nodes[node], first, self.prices(), without | {demand.uid})

    def choose(
        self, demand: Demand, node: str, guard: Guard | None, without: AbstractSet[str] = frozenset()
    ) -> Allocation | Misfit:
        """The place that a demand gets on a node, without some pods, and that `guard` lets it take."""
        chosen = plan(demand, self.view_for(node, demand, without), self.prices(guard))
        if guard is None or isinstance(chosen, Misfit):
            return chosen
        taken = [Held(demand.uid, demand.tenant, grant) for grant in chosen.grants()]
        state = self._nodes[node]
        why = guard.why_not(state.view(), state.view(without | {demand.uid}, taken))
        return chosen if why is None else Misfit(why)

    def guard(self, demand: Demand, now_s: float) -> Guard | None:
        """What keeps a pod of this priority from the last room of more important ones; None: nothing is near."""
        return Guard.of(self.fleet, self.reserves, demand, now_s - self.stale_after_s)

    def unusable(self, node: str, now_s: float) -> str | None:
        """Why a node is not used at all; None if it is."""
        known = self._nodes.get(node)
        inventory = NOT_SEEN if known is None else known.inventory
        if isinstance(inventory, NoInventory):
            return inventory.why
        fresh = now_s - self._renewed_s.get(node, -inf) <= self.stale_after_s
        return None if fresh else self.stale()

    def stale(self) -> str:
        return f"stale inventory: no heartbeat of the node agent for {self.stale_after_s:g} s"

    def prices(self, guard: Guard | None = None) -> Prices:
        """The scorer's prices now; to be asked for again when something changed. Infinite where `guard` forbids."""
        of = self.fleet, self.scorer, self.traffic, self.node_scorer
        return Prices(*of) if guard is None else Guarded(guard, *of)

    def problems(self) -> tuple[Problem, ...]:
        """Everything that does not add up, by node."""
        found = [p for node in self._nodes.values() for p in node.problems()]
        return tuple(sorted([*found, *self._pod_problems.values()], key=lambda p: (p.node, p.why)))

    # ---- inside ------------------------------------------------------------------------------------------------

    def _put_bound(self, uid: str, node: str, pod: Mapping[str, object]) -> None:
        self._pod_problems.pop(uid, None)
        self._stop_waiting(uid)
        self.warmth.put_pod(uid, node, pod)
        try:
            holding = Holding.of(pod, uid, node)
        except (DemandError, AllocationError) as e:
            self._pod_problems[uid] = Problem(node, f"pod {pod_key(pod)} is bound, and what it holds is not known: {e}")
            known = self.holding(uid)
            if known is not None and known.node != node:
                self._release(uid)  # a reservation elsewhere, overtaken by the API
            if known is None or known.node != node:
                self._put_other(uid, node, pod)
            return
        if holding is None:
            self._release(uid)
            self._put_other(uid, node, pod)
            return
        self._drop_other(uid)
        if holding.uuids and self._is_new(uid):
            self._learn(pod)
        self._hold(holding)

    def _learn(self, pod: Mapping[str, object]) -> None:
        """A bound pod that never asked here: it was placed before a restart, or by another replica."""
        try:
            demand = Demand.of(pod)
        except DemandError:
            return  # what it holds is known by its record; what it wanted is not
        if demand is not None and demand.shape is not None:
            self.traffic = self.traffic.present(demand.shape, demand.count)
            if self.node_scorer is not None:
                self.node_scorer.hear(demand, new=True, at_once=not self._listing)

    def _put_other(self, uid: str, name: str, pod: Mapping[str, object]) -> None:
        load, new = Load.of(pod), uid not in self._others
        if new and self.node_scorer is not None and not comes_with_its_node(pod):
            self.node_scorer.hear_other(name, load, at_once=not self._listing)
        if self._others.get(uid, name) != name:
            self._drop_other(uid)
        self._others[uid] = name
        node = self._nodes.setdefault(name, Node(name))
        node.put_other(uid, load)
        self._tell_fleet(node, ())

    def _drop_other(self, uid: str) -> None:
        name = self._others.pop(uid, None)
        if name is not None:
            node = self._nodes[name]
            node.drop_other(uid)
            self._tell_fleet(node, ())
            self._tidy(name)

    def _is_new(self, uid: str) -> bool:
        """Whether a pod has not been counted yet; it is from now on."""
        return self._asked.add(uid) and uid not in self._where

    def _put_pending(self, uid: str, node: object, pod: Mapping[str, object]) -> None:
        self._nominees.drop(uid)
        try:
            demand = Demand.of(pod)
        except DemandError:
            return  # it will be refused when it is scheduled, with this reason
        if demand is None:
            return
        if not mapping(pod.get("spec")).get("schedulingGates"):
            self.wait(demand)
        if isinstance(node, str) and node:
            self._nominees.put(node, demand)

    def _stop_waiting(self, uid: str) -> None:
        shape, slices = self._waiting.pop(uid, (None, 0))
        if shape is not None:
            self.traffic = self.traffic.wait(shape, -slices)

    def _hold(self, holding: Holding) -> None:
        if self._where.get(holding.uid, holding.node) != holding.node:
            self._release(holding.uid)
        self._where[holding.uid] = holding.node
        node = self._nodes.setdefault(holding.node, Node(holding.node))
        self._tell_fleet(node, node.hold(holding))

    def _release(self, uid: str) -> None:
        name = self._where.pop(uid, None)
        if name is not None:
            node = self._nodes[name]
            self._tell_fleet(node, node.release(uid))
            self._tidy(name)

    def _drop_column(self, name: str) -> None:
        if name in self.fleet.slots:
            self.warmth.drop_column(name)
            self.fleet.drop(name)

    def _tell_fleet(self, node: Node, changed: Iterable[int]) -> None:
        slot = self.fleet.slots.get(node.name, NO_NODE)
        if slot != NO_NODE:
            for position in changed:
                self.fleet.update(slot, position, node.gpus[position], node.usages[position])
            self.fleet.pod_kinds[slot] = node.pod_kinds
            self.fleet.set_room(slot, node.allocatable, node.free)
            self.fleet.cordoned[slot] = node.cordoned

    def _tidy(self, name: str) -> None:
        """Forgets a node that the API does not have and on which nothing is held any more."""
        node = self._nodes[name]
        if node.inventory is NOT_SEEN and not node.pods and not node.others:
            del self._nodes[name]
