"""Scarcity-priced rollout over a fleet: arrivals are learnt, prices renewed, nodes that changed are scored anew."""

from collections.abc import Callable
from copy import deepcopy
from dataclasses import dataclass
from math import log2
from typing import Final

import numpy as np

from extender.placement.demand import Demand
from extender.placement.fleet import Fleet, Lookup
from extender.placement.load import Load
from extender.placement.milli import milli_of
from extender.placement.scorers.base import CLOSED, Bools, Floats
from extender.placement.spr.choice import NOWHERE, Offers, Scratch, Sight, Wanted, key_of, new_scratch, score_nodes
from extender.placement.spr.kinds import Kind, Row, Wish
from extender.placement.spr.learner import MixLearner
from extender.placement.spr.mirror import Mirror
from extender.placement.spr.model import GPU_MILLI, IntArray, Nodes
from extender.placement.spr.policy import Spr, due_after
from extender.placement.spr.potential import Expected
from extender.placement.spr.states import States, forget_states, new_states
from extender.placement.spr.watch import no_watch

MAX_WISHES: Final = 1024  # that are told apart; the rarest is forgotten
MAX_PENDING: Final = 1 << 16  # arrivals until prices are renewed; more are not counted
MAX_SCORED: Final = 128  # demands whose scores are kept; the one that was asked for longest ago goes
_NO_NODES: Final = Nodes(*(np.zeros(0, np.int64) for _ in range(4)))


class Wishes:
    """What pods ask for, numbered, and those that have arrived and are not yet part of the mix."""

    def __init__(self) -> None:
        self.learner = MixLearner(_NO_NODES)
        self.arrived = 0
        self._numbers: dict[Wish, int] = {}
        self._rows: dict[Wish, tuple[tuple[Row, float], ...]] = {}
        self._kinds: tuple[Kind, ...] = ()
        self._pending: list[tuple[str, int]] = []  # where it was found, if that was not chosen here; its number

    def note(self, wish: Wish, times: int = 1, found_on: str = "") -> None:
        if len(self._pending) + times > MAX_PENDING:
            return
        if wish not in self._numbers:
            self._numbers[wish] = len(self._numbers) if len(self._numbers) < MAX_WISHES else self._rarest()
            self._rows.clear()
        self._pending += [(found_on, self._numbers[wish])] * times
        self.arrived += times

    def take(self, mirror: Mirror) -> IntArray:
        """Those that have arrived since, in order; the learner can count them now.

        Pods without a GPU that were found on a node without one say nothing of the nodes that are looked at.
        """
        self.describe(mirror.kinds.listed)
        taken = [n for found_on, n in self._pending if not found_on or mirror.has_gpus(found_on)]
        self._pending.clear()
        return np.array(taken, np.int64)

    def describe(self, kinds: tuple[Kind, ...]) -> None:
        """Wishes as classes of pods, if there are new ones or other kinds of node."""
        if kinds == self._kinds and len(self._rows) == len(self._numbers):
            return
        self._kinds = kinds
        self._rows = {wish: tuple(wish.rows(kinds)) for wish in self._numbers}
        listed = [(row, number, part) for wish, number in self._numbers.items() for row, part in self._rows[wish]]
        self.learner.describe(
            len(self._numbers),
            np.array([row for row, _, _ in listed], np.int64).reshape(-1, 5),
            np.array([number for _, number, _ in listed], np.int64),
            np.array([part for _, _, part in listed]),
        )

    def _rarest(self) -> int:
        """Its number is free for another; what has arrived of it is forgotten with it."""
        self.describe(self._kinds)
        number = self.learner.forget_rarest()
        self._pending = [(found_on, n) for found_on, n in self._pending if n != number]
        self._numbers = {wish: n for wish, n in self._numbers.items() if n != number}
        return number


@dataclass(slots=True, eq=False)
class _Outlook:
    """What is expected on the kinds of node that there are."""

    spr: Spr
    states: States
    scratch: Scratch
    expected: Expected


@dataclass(slots=True, eq=False)
class _Scored:
    """Gains of one demand on every column, at a moment of the fleet's clock."""

    gain: Floats
    clock: int
    epoch: int


class Desk:
    """A NodeScorer. Mutable; owned by a ledger, whose fleet it reads."""

    def __init__(self, fleet: Fleet) -> None:
        self.wishes = Wishes()
        self._fleet, self._mirror = fleet, Mirror(fleet)
        self._outlook: _Outlook | None = None
        self._watch = no_watch()
        self._due, self._stale, self._moved_milli, self._step_milli = 0, True, 0, 0.0
        self._epoch = 0
        self._frozen = False
        self._scored: dict[tuple[object, ...], _Scored] = {}
        self._gib_per_milli = 1.0

    # ---- what arrives ------------------------------------------------------------------------------------------

    def hear(self, demand: Demand, *, new: bool, at_once: bool) -> None:
        """A pod looks for a place, or was found with one. `at_once`: prices that are due are renewed before."""
        if at_once:
            self.settle()
        wish = Wish.of(demand)
        if new and wish is not None and not self._frozen:
            self.wishes.note(*wish)

    def hear_other(self, node: str, load: Load, *, at_once: bool) -> None:
        """A pod without a GPU was found on a node."""
        if at_once:
            self.settle()
        if not self._frozen:
            self.wishes.note(Wish(None, whole=False, count=0, load=load), found_on=node)

    def settle(self) -> None:
        """Renews prices that are due or stale."""
        self._catch_up()
        due = not self._frozen and (self._stale or self.wishes.arrived >= self._due)
        if self._mirror.kinds.listed and (self._outlook is None or due):
            self.renew()

    def renew(self) -> None:
        """Prices anew, and streams where the mix has grown, for the pods that have arrived and what is free."""
        mirror, learner, outlook = self._mirror, self.wishes.learner, self._outlook
        arrivals = self.wishes.take(mirror)
        if outlook is None:
            nodes = mirror.kinds.nodes()
            learner.see(nodes)
            states = new_states(len(mirror.kinds.kind_id))
            spr = Spr(nodes, learner, states)
            scratch = new_scratch(states, len(mirror.milli))
            mib = float(np.mean([kind.gpu_mib for kind in mirror.kinds.listed]))
            # To a power of two, so that no two prices become equal by rounding.
            self._gib_per_milli = 2.0 ** round(log2(mib / 1024 / GPU_MILLI))
        else:
            spr, states, scratch = outlook.spr, outlook.states, outlook.scratch
        spr.observe(arrivals)
        expected, self._watch = spr.refresh(mirror.cluster)
        self._outlook = _Outlook(spr, states, scratch, expected)
        self._moved_milli, self._step_milli, self._stale = 0, float(self._watch.work_left_milli[0]), False
        self._due = due_after(self.wishes.arrived)
        self._epoch += 1

    def forget(self) -> None:
        """Drops every score and all that is known of node states: what follows is computed anew."""
        self._scored.clear()
        if self._outlook is not None:
            forget_states(self._outlook.states)
            self._outlook.scratch.met_in[:] = 0

    def freeze(self) -> None:
        """From now on nothing is learnt and no price changes: what is rehearsed must not have an effect."""
        self.settle()
        self._frozen = True

    def learn_from(self, other: "Desk") -> None:
        """Knows the mix that another desk has learnt."""
        self.wishes = deepcopy(other.wishes)

    # ---- prices ------------------------------------------------------------------------------------------------

    def shares(self, demand: Demand, lookup: Lookup, fits: Bools) -> Floats:
        """(n,): price of the demand as MPS shares. `fits`: (w, n) where one of them does."""
        fleet = self._fleet

        def left(columns: IntArray) -> IntArray:
            mib, pct = (size if size.shape[1] == 1 else size[:, columns] for size in fleet.share_size(lookup))
            total, free_mib, free_pct = (a[:, columns] for a in (fleet.total_mib, fleet.free_mib, fleet.free_pct))
            return milli_of(total, free_mib - mib, free_pct - pct)

        return self._prices(("mps", demand.tenant), demand, fits, left)

    def whole(self, demand: Demand, fits: Bools) -> Floats:
        """(n,): price of the demand as whole GPUs. `fits`: (w, n) which could be given."""
        return self._prices(("whole",), demand, fits, lambda columns: np.zeros((len(fits), len(columns)), np.int64))

    def share_on(self, node: str, demand: Demand, free_milli: IntArray, left_milli: IntArray) -> Floats:
        """(g,): price of one share on the best GPU of a node, infinite on the others."""
        price = np.full(len(free_milli), np.inf)
        outlook = self._current()
        if outlook is not None:
            keys, key = np.zeros(len(self._mirror.milli), np.int64), np.zeros(1, np.int64)
            keys[: len(free_milli)] = key_of(free_milli, left_milli)
            wanted = Wanted(demand.load.cpu_milli, demand.load.memory_mib, 1, apart=True)
            gain = self._gains(outlook, np.array([self._fleet.slots[node]]), keys[None, :].copy(), wanted, key)
            if gain[0] > NOWHERE:
                price[np.flatnonzero(keys == key[0])[0]] = -gain[0] * self._gib_per_milli
        return price

    # ---- inside ------------------------------------------------------------------------------------------------

    def _current(self) -> _Outlook | None:
        """As things are; None where no node has a GPU to look at."""
        if self._outlook is None:
            self.settle()
        else:
            self._catch_up()
        return self._outlook

    def _catch_up(self) -> None:
        moved = self._mirror.catch_up(self._watch)
        if moved.kinds:
            self._outlook, self._stale = None, True
            self._epoch += 1
        self._moved_milli += moved.milli
        self._stale |= moved.scarce or abs(self._moved_milli) >= max(1.0, self._step_milli)

    def _prices(
        self, key: tuple[object, ...], demand: Demand, fits: Bools, left: Callable[[IntArray], IntArray]
    ) -> Floats:
        """`left`: milli of every GPU of some columns after the demand, wherever it fits."""
        outlook = self._current()
        if outlook is None:
            return np.full(len(self._fleet.renewed_s), np.inf)
        key = (*key, demand.shape, demand.count, demand.apart, demand.load)
        scored, columns = self._scored.pop(key, None), None
        if scored is not None and scored.epoch == self._epoch:
            columns = self._fleet.changed_since(scored.clock)
        if scored is None or columns is None:
            columns = self._mirror.kinds.columns
            scored = _Scored(np.full(len(self._fleet.renewed_s), NOWHERE), 0, 0)
        if columns.size:
            after = np.where(fits[:, columns], left(columns), CLOSED)
            keys = np.ascontiguousarray(key_of(self._mirror.milli[:, columns], after).T)
            wanted = Wanted(demand.load.cpu_milli, demand.load.memory_mib, demand.count, demand.apart)
            scored.gain[columns] = self._gains(outlook, columns, keys, wanted, np.zeros(len(columns), np.int64))
        scored.clock, scored.epoch = self._fleet.clock, self._epoch
        self._scored[key] = scored
        if len(self._scored) > MAX_SCORED:
            del self._scored[next(iter(self._scored))]
        return np.where(scored.gain > NOWHERE, -scored.gain * self._gib_per_milli, np.inf)

    def _gains(self, outlook: _Outlook, columns: IntArray, keys: IntArray, wanted: Wanted, key: IntArray) -> Floats:
        """(m,): of each column, NOWHERE where there is no room; `key` is filled with that of the first GPU."""
        states, cluster, gain = outlook.states, self._mirror.cluster, np.zeros(len(columns))
        at_most = 1 + keys.shape[1] * wanted.shares  # states that one node can add
        step = max(1, states.words.shape[0] // (2 * at_most))
        for i in range(0, len(columns), step):
            some = columns[i : i + step]
            if states.made[0] + len(some) * at_most > states.words.shape[0]:
                self.forget()
            offers = Offers(
                cluster.kind_id[some], cluster.cpu_free_milli[some], cluster.memory_free_mib[some], keys[i : i + step]
            )
            sight = Sight(states, outlook.expected, offers, wanted, outlook.scratch)
            score_nodes(sight, gain[i : i + step], key[i : i + step])
        return gain
