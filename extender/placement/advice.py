"""Which few evictions would make room, what each gains and costs, or why none helps. It only advises.

A proposal was tried as a whole: the pods go, what is wanted is placed, and the pods that went are placed again.
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import combinations
from typing import Final, Protocol

from extender.placement.allocation import Allocation, MigSlice
from extender.placement.demand import Demand
from extender.placement.fleet import Fleet
from extender.placement.fragment import expected
from extender.placement.holding import Holding, Phase
from extender.placement.masks import tables
from extender.placement.traffic import Traffic

MOST_EVICTIONS: Final = 3
MOST_TRIES: Final = 1_000  # whole rehearsals; each places everything that is wanted
MOST_IN_SETS: Final = 64  # pods that are combined with one another; alone each of them is tried
EPSILON: Final = 1e-9

Pods = frozenset[str]


@dataclass(frozen=True, slots=True)
class Asking:
    """A pod that wants a place, and the nodes where its selectors and tolerations let it go."""

    demand: Demand
    nodes: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Standing:
    """A pod that has a place. `asking`: what the pod made in its place will ask for, None where that is not known."""

    holding: Holding
    asking: Asking | None
    sessions: int = 0  # live ones that an eviction would break
    budgets: tuple[str, ...] = ()  # PodDisruptionBudgets that select it
    stays: str | None = None  # why it must not be evicted, whatever it would gain


@dataclass(frozen=True, slots=True)
class Rules:
    """What a proposal must keep to and what it must reach besides placing what is wanted."""

    budgets: Mapping[str, int] = field(default_factory=dict)  # evictions that each PodDisruptionBudget allows now
    priority: int = 0  # pods above it stay: nothing that matters more is moved for what matters less
    allow_sessions: bool = False
    evictions: int = MOST_EVICTIONS
    proposals: int = 3
    less: float = 0.0  # memory slices by which fragmentation must fall
    tries: int = MOST_TRIES


@dataclass(frozen=True, slots=True, order=True)
class Cost:
    """What evicting some pods costs; the first difference decides."""

    sessions: int
    restarts: int
    highest: int  # priority
    total: int  # sum of priorities
    uids: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Placed:
    """A place that was found for a pod."""

    demand: Demand
    node: str
    allocation: Allocation


@dataclass(frozen=True, slots=True)
class Unplaced:
    """A pod for which there is no place, and why."""

    demand: Demand
    why: str


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a rehearsal ended. `wanted` and `returned` in the order in which they were given."""

    wanted: tuple[Placed | Unplaced, ...]
    returned: tuple[Placed | Unplaced, ...]
    fragmentation: float  # memory slices that are free and that the next demand could not use
    room: Mapping[str, int]  # how many of each plain profile still fit in the fleet

    @property
    def complete(self) -> bool:
        return all(isinstance(p, Placed) for p in (*self.wanted, *self.returned))


class Board(Protocol):
    """A fleet on which moves can be tried. Every try leaves it as it was."""

    def opens(self, asking: Asking, node: str, gone: Pods) -> bool:
        """Whether a demand fits on a node without some of its pods."""

    def rehearse(self, gone: Sequence[Standing], wanted: Sequence[Asking], *, returning_first: bool = False) -> Outcome:
        """These pods go; then what is wanted and those that went are placed, each where production would place it."""


@dataclass(frozen=True, slots=True)
class Proposal:
    """Evictions that help. `order_matters`: only if what is wanted is placed before the evicted pods come back."""

    evicted: tuple[Standing, ...]
    cost: Cost
    outcome: Outcome
    before: Outcome
    order_matters: bool

    @property
    def fragmentation_falls(self) -> float:
        """Memory slices."""
        return self.before.fragmentation - self.outcome.fragmentation

    @property
    def placements(self) -> dict[str, int]:
        """Change of how many of each plain profile still fit, where there is one, when everything has its place."""
        rooms = self.before.room, self.outcome.room
        return {p: rooms[1][p] - rooms[0][p] for p in rooms[0] if rooms[0][p] != rooms[1][p]}

    @property
    def memory_slices(self) -> int:
        """Memory slices of MIG GPUs that what was stuck gets."""
        stuck = (b for a, b in zip(self.before.wanted, self.outcome.wanted, strict=True) if isinstance(a, Unplaced))
        grants = [g for p in stuck if isinstance(p, Placed) for g in p.allocation.grants()]
        return sum(g.size for g in grants if isinstance(g, MigSlice))


@dataclass(frozen=True, slots=True)
class Advice:
    """Proposals, cheapest first, or why there are none."""

    why: str
    needed: bool  # whether anything has to be done at all
    before: Outcome
    proposals: tuple[Proposal, ...] = ()
    stay: Mapping[str, tuple[str, ...]] = field(default_factory=dict)  # pods by the reason for which they stay
    tried: int = 0
    exhaustive: bool = True  # False: sets were left out, and a cheaper one may be among them


def advise(board: Board, wanted: Sequence[Asking], standing: Sequence[Standing], rules: Rules) -> Advice:
    """The cheapest sets of at most `rules.evictions` pods that reach what is asked for."""
    before = board.rehearse((), wanted)
    stuck = [asking for asking, place in zip(wanted, before.wanted, strict=True) if isinstance(place, Unplaced)]
    if not stuck and not rules.less:
        return Advice("everything that is wanted has room already", needed=False, before=before)
    kept = {s.holding.uid: why for s in standing if (why := stays(s, rules)) is not None}
    stay = _by_reason(standing, kept)
    movable = [s for s in standing if s.holding.uid not in kept]
    key = _key_demand(board, stuck)
    hopeless = _hopeless(board, key, movable, before, rules)
    if hopeless is not None:
        return Advice(hopeless, needed=True, before=before, stay=stay)
    search = _Search(board, wanted, before, rules)
    search.run(movable, key)
    if search.found:
        why = f"{len(search.found)} found among {search.tried} tried"
    else:
        most = "1 eviction" if rules.evictions == 1 else f"up to {rules.evictions} evictions"
        goal = "makes room" if stuck else f"lowers fragmentation by {rules.less:g} memory slices"
        tried = "" if search.exhaustive else f" of the {search.tried} that were tried"
        why = f"no set of {most} among {len(movable)} pods that may go{tried} {goal} and has places for those that went"
    return Advice(
        why,
        needed=True,
        before=before,
        proposals=tuple(search.found),
        stay=stay,
        tried=search.tried,
        exhaustive=search.exhaustive,
    )


def cost(pods: Iterable[Standing]) -> Cost:
    listed = list(pods)
    priorities = [s.holding.priority for s in listed]
    uids = tuple(sorted(s.holding.uid for s in listed))
    return Cost(sum(s.sessions for s in listed), len(listed), max(priorities), sum(priorities), uids)


def stays(pod: Standing, rules: Rules) -> str | None:
    """Why a pod must not be evicted; None if it may be."""
    if pod.stays is not None:
        return pod.stays
    if pod.holding.phase is not Phase.BOUND:
        return f"is {pod.holding.phase.value}"
    if pod.asking is None:
        return "what it would ask for again is not known"
    if pod.holding.priority > rules.priority:
        return f"priority above {rules.priority}"
    if pod.sessions and not rules.allow_sessions:
        return "has live sessions"
    return _forbidden(pod.budgets, rules.budgets)


def _forbidden(budgets: Sequence[str], allowed: Mapping[str, int]) -> str | None:
    if len(budgets) > 1:
        return "several PodDisruptionBudgets select it: the API refuses to evict it"
    spent = [b for b in budgets if allowed.get(b, 0) < 1]
    return f"PodDisruptionBudget {spent[0]} allows no eviction now" if spent else None


def within_budgets(pods: Iterable[Standing], budgets: Mapping[str, int]) -> bool:
    """Whether evicting all of them together exceeds no budget."""
    used = Counter(budget for s in pods for budget in s.budgets)
    return all(count <= budgets.get(budget, 0) for budget, count in used.items())


def by_node(pods: Iterable[Standing]) -> dict[str, Pods]:
    """Uids."""
    uids: dict[str, set[str]] = {}
    for s in pods:
        uids.setdefault(s.holding.node, set()).add(s.holding.uid)
    return {node: frozenset(found) for node, found in uids.items()}


def fragmentation(fleet: Fleet, traffic: Traffic) -> float:
    """Memory slices of MIG GPUs that are free and that the next demand of the learnt mix could not use."""
    total = 0.0
    for model, first in zip(fleet.models, fleet.first_state, strict=True):
        if first:
            grid = tables(model)
            mix = traffic.counts(grid)
            unusable = expected(grid, mix / mix.sum())
            total += float(fleet.census[first : first + grid.states] @ unusable) * grid.unit
    return total


def plain_room(fleet: Fleet) -> dict[str, int]:
    """How many of each plain profile still fit on the MIG GPUs of the fleet, each profile for itself."""
    room: Counter[str] = Counter()
    for model, first in zip(fleet.models, fleet.first_state, strict=True):
        for k, profile in enumerate(model.profiles):
            if profile.plain:
                grid = tables(model)
                room[profile.name] += int(fleet.census[first : first + grid.states] @ grid.room[:, k])
    return dict(sorted(room.items()))


# ---- inside ----------------------------------------------------------------------------------------------------


class _Search:
    """Sets of pods, the cheapest first. Supersets of what was found are not looked at: they cost more for the same."""

    def __init__(self, board: Board, wanted: Sequence[Asking], before: Outcome, rules: Rules) -> None:
        self._board, self._wanted, self._before, self._rules = board, wanted, before, rules
        self._opens: dict[tuple[str, Pods], bool] = {}
        self.found: list[Proposal] = []
        self.tried = 0
        self.exhaustive = True

    def run(self, movable: Sequence[Standing], key: Asking | None) -> None:
        """`key`: a demand that fits nowhere as things are; a set that opens no place for it needs no rehearsal."""
        for pods in self._sets(movable, key):
            if len(self.found) == self._rules.proposals:
                return
            if self.tried == self._rules.tries:
                self.exhaustive = False
                return
            uids = frozenset(s.holding.uid for s in pods)
            if any(uids > frozenset(p.cost.uids) for p in self.found):
                continue
            if key is None or self._opens_some(key, pods):
                self._try(pods)

    def _sets(self, movable: Sequence[Standing], key: Asking | None) -> Iterator[tuple[Standing, ...]]:
        """In the order of their cost: without sessions size by size, then those with sessions."""
        ordered = sorted(movable, key=lambda s: cost([s]))
        free = [s for s in ordered if not s.sessions]
        for size in range(1, self._rules.evictions + 1):
            yield from self._of_size(free if size == 1 else self._near(free, key), size)
        if len(free) < len(ordered):
            sets = self._of_size(ordered, 1)
            for size in range(2, self._rules.evictions + 1):
                sets += self._of_size(self._near(ordered, key), size)
            yield from sorted((c for c in sets if any(s.sessions for s in c)), key=cost)

    def _of_size(self, pods: Sequence[Standing], size: int) -> list[tuple[Standing, ...]]:
        allowed = (c for c in combinations(pods, size) if within_budgets(c, self._rules.budgets))
        return sorted(allowed, key=cost)

    def _near(self, pods: Sequence[Standing], key: Asking | None) -> list[Standing]:
        """The pods that are combined: first those of nodes that could have room for the key demand at all."""
        if len(pods) <= MOST_IN_SETS:
            return list(pods)
        self.exhaustive = False
        open_ = {n for n, gone in by_node(pods).items() if key is None or self._open(key, n, gone)}
        return sorted(pods, key=lambda s: (s.holding.node not in open_, cost([s])))[:MOST_IN_SETS]

    def _opens_some(self, key: Asking, pods: Sequence[Standing]) -> bool:
        return any(self._open(key, node, gone) for node, gone in by_node(pods).items())

    def _open(self, key: Asking, node: str, gone: Pods) -> bool:
        known = self._opens.get((node, gone))
        if known is None:
            known = self._opens[node, gone] = node in key.nodes and self._board.opens(key, node, gone)
        return known

    def _try(self, pods: tuple[Standing, ...]) -> None:
        self.tried += 1
        outcome = self._board.rehearse(pods, self._wanted)
        if self._reached(outcome):
            other = self._board.rehearse(pods, self._wanted, returning_first=True)
            self.found.append(Proposal(pods, cost(pods), outcome, self._before, not self._reached(other)))

    def _reached(self, outcome: Outcome) -> bool:
        falls = self._before.fragmentation - outcome.fragmentation
        return outcome.complete and (not self._rules.less or falls >= self._rules.less - EPSILON)


def _key_demand(board: Board, stuck: Sequence[Asking]) -> Asking | None:
    """A demand that has no room even alone; those that only have no room together say nothing about one node."""
    return next((a for a in stuck if isinstance(board.rehearse((), [a]).wanted[0], Unplaced)), None)


def _hopeless(
    board: Board, key: Asking | None, movable: Sequence[Standing], before: Outcome, rules: Rules
) -> str | None:
    """What makes a search needless: no set of pods, however large, could be enough."""
    if rules.less > before.fragmentation + EPSILON:
        return (
            f"fragmentation is {before.fragmentation:.2f} memory slices: it cannot fall by {rules.less:g}; "
            "want less, or nothing needs to be done"
        )
    if key is not None:
        uids = by_node(movable)
        if not any(node in key.nodes and board.opens(key, node, gone) for node, gone in uids.items()):
            return f"no node has room for {key.demand.key} even if all {len(movable)} pods that may go went"
    return None


def _by_reason(standing: Sequence[Standing], kept: Mapping[str, str]) -> dict[str, tuple[str, ...]]:
    reasons: dict[str, list[str]] = {}
    for s in standing:
        if s.holding.uid in kept:
            reasons.setdefault(kept[s.holding.uid], []).append(s.holding.key)
    return {why: tuple(sorted(reasons[why])) for why in sorted(reasons)}
