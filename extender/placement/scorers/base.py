"""What a scorer is: the price of taking something away from a GPU. Lower is better, infinite where it does not fit."""

from dataclasses import dataclass
from typing import Final, Protocol, Self

import numpy as np
from numpy.typing import NDArray

from extender.placement.demand import Demand
from extender.placement.fleet import Lookup
from extender.placement.load import Load
from extender.placement.masks import Tables
from extender.placement.traffic import NO_TRAFFIC, Traffic

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]

CLOSED: Final = -1  #: milli that would be left of a GPU that does not take the demand

#: Prices are compared after rounding to this many digits, so that noise of the arithmetic decides nothing.
DIGITS = 9


@dataclass(frozen=True, slots=True, eq=False)
class Shares:
    """MPS GPUs, any shape: memory in MiB, compute in percent."""

    total_mib: Floats
    free_mib: Floats
    free_pct: Floats


class Scorer(Protocol):
    """Slices and shares are priced in GiB of GPU memory, so that those on different models can be compared.

    Whole GPUs are priced in GPUs: a pod that asks for them takes nothing else.
    """

    def mig(self, tables: Tables, profile: int, census: NDArray[np.int64], traffic: Traffic = NO_TRAFFIC, /) -> Floats:
        """(s, q): the price of each placement of a profile in each state.

        `census`: (s,) GPUs in each state. `traffic`: what has been asked for and what has left so far.
        """
        ...

    def mps(self, before: Shares, after: Shares, supply: Floats, gpus: int, /) -> Floats:
        """Price of a share, shaped as `before`. `supply`: (t,) typical shares that fit in all of the `gpus` GPUs."""
        ...

    def whole(self, free: NDArray[np.int64], count: int, all_free: NDArray[np.int64], /) -> Floats:
        """Price of `count` whole GPUs on nodes with `free` of them. `all_free`: (n,) of every node of the fleet."""
        ...


class NodeScorer(Protocol):
    """Looks at a node as a whole: CPU, memory, GPUs that are shared or given whole. A Scorer prices MIG beside it.

    It may learn, so each ledger has its own. (w, n): the fleet's positions and columns.
    """

    def hear(self, demand: Demand, *, new: bool, at_once: bool) -> None:
        """A pod looks for a place, for the first time or again, or was found with one.

        `at_once`: it comes now; else it is one of a list of all that are there.
        """
        ...

    def hear_other(self, node: str, load: Load, *, at_once: bool) -> None:
        """A pod that asks for no GPU was found on a node, which may be unknown yet."""
        ...

    def freeze(self) -> None:
        """From now on nothing is learnt: what is only tried has no effect."""
        ...

    def learn_from(self, other: Self) -> None:
        """Knows what another one of its class has learnt."""
        ...

    def shares(self, demand: Demand, lookup: Lookup, fits: Bools) -> Floats:
        """(n,): price of all the demand's MPS shares on each node. `fits`: (w, n) GPUs that can take one."""
        ...

    def whole(self, demand: Demand, fits: Bools) -> Floats:
        """(n,): price of the demand's whole GPUs on each node. `fits`: (w, n) GPUs that can be given."""
        ...

    def share_on(self, node: str, demand: Demand, free_milli: Ints, left_milli: Ints) -> Floats:
        """(g,): price of one share on each GPU of a node; the lowest is chosen, and the first of equals.

        `free_milli`: of each GPU that is shared or given whole. `left_milli`: after the share, or CLOSED.
        """
        ...


def ties(tables: Tables, profile: int) -> Floats:  # (s, q)
    """Far below any price: the fuller GPU first, then the lower start."""
    places = list(tables.of_profile[profile])
    start = np.array([tables.placements[p].start for p in places], np.float64)
    return np.asarray(1e-6 * tables.free[:, None] + 1e-8 * start[None, :])


def where_fits(tables: Tables, profile: int, price: Floats) -> Floats:
    after = tables.next_state[:, list(tables.of_profile[profile])]
    return np.where(after >= 0, np.round(price, DIGITS), np.inf)
