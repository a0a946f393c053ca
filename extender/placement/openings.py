"""How many unused GPUs the pods that wait must open: a lower bound, and what each placement adds to it.

Give each profile k a weight w_k. V(s) is the most weight that a GPU in state s can still take. Wherever they are put,
the waiting pods weigh no more than what the GPUs in use can take and V(empty) for each GPU that is opened:

    sum_k w_k waiting_k <= sum_s gpus_s V(s) + opened V(empty)

so at least ceil((sum_k w_k waiting_k - sum_s gpus_s V(s)) / V(empty)) GPUs are opened. Such weights are dual solutions
of packing all that a GPU can hold ("dual feasible functions": Alves, Clautiaux, Valério de Carvalho and Rietz,
"Dual-Feasible Functions for Integer Programming and Combinatorial Optimization", 2016). For MIG, whole numbers up to a
profile's size in cells suffice; a profile that takes all cells weighs what it displaces.
"""

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from extender.placement.masks import Tables

Floats = NDArray[np.float64]  # whole numbers: floats divide faster


@dataclass(frozen=True, slots=True, eq=False)
class Weights:
    """j ways to weigh the profiles. `value` is V."""

    of_profile: Floats  # (j, k)
    value: Floats  # (s, j)
    of_empty: Floats  # (j,)

    def opened(self, waiting: Floats, census: NDArray[np.int64]) -> int:
        """GPUs that are opened at least. `waiting`: (k,) instances; `census`: (s,) GPUs in each state."""
        return int(self._opened(self._missing(waiting, census)))

    def added(self, tables: Tables, profile: int, waiting: Floats, census: NDArray[np.int64]) -> Floats:
        """(s, q): by how much each placement of a profile raises what is opened for it and those that wait after it.

        0 in states that no GPU is in, and where it does not fit.
        """
        missing = self._missing(waiting, census)
        states = np.flatnonzero(census)
        if not census[tables.empty]:
            states = np.append(states, tables.empty)
        after = tables.next_state[states][:, list(tables.of_profile[profile])]
        opens = states == tables.empty
        lost = np.where(opens[:, None], 0.0, self.value[states])
        then = self._opened((missing + lost)[:, None, :] - self.value[after])
        found = np.zeros((tables.states, after.shape[1]))
        found[states] = np.where(after >= 0, then + opens[:, None] - self._opened(missing), 0.0)
        return found

    def _missing(self, waiting: Floats, census: NDArray[np.int64]) -> Floats:
        """(j,): weight that finds no room on the GPUs in use."""
        return np.asarray(self.of_profile @ waiting - census @ self.value + census[0] * self.of_empty)

    def _opened(self, missing: Floats) -> Floats:
        """(…, j) -> (…)."""
        return np.asarray(np.ceil((missing / self.of_empty).max(axis=-1, initial=0.0)))


@lru_cache(maxsize=256)
def weights(tables: Tables) -> Weights:
    """None of them says less than another one does."""
    size = [p.size // tables.unit for p in tables.model.profiles]
    ranges = [1 if n == tables.cells else n + 1 for n in size]
    of_profile = np.indices(ranges, np.int16).reshape(len(ranges), -1)  # (k, j)
    value = _value(tables, of_profile)
    value[tables.empty, 0] = 1  # the first weighs nothing but the profiles that take all cells
    of_profile[[n == tables.cells for n in size]] = value[tables.empty]
    kept = (np.gcd.reduce(of_profile) == 1) & ~_implied(ranges, value)
    chosen = np.ascontiguousarray(value[:, kept], np.float64)
    return Weights(np.ascontiguousarray(of_profile[:, kept].T, np.float64), chosen, chosen[tables.empty])


def _value(tables: Tables, weight: NDArray[np.int16]) -> NDArray[np.int16]:  # (s, j)
    """Most weight that fits, fullest states first: the best of what can be taken next."""
    value = np.zeros((tables.states, weight.shape[1]), np.int16)
    for cells in range(1, tables.cells + 1):
        level = np.flatnonzero(tables.free == cells)
        for k, places in enumerate(tables.of_profile):
            for p in places:
                after = tables.next_state[level, p]
                from_, to = level[after >= 0], after[after >= 0]
                value[from_] = np.maximum(value[from_], value[to] + weight[k])
    return value


def _implied(ranges: list[int], value: NDArray[np.int16]) -> NDArray[np.bool_]:  # (j,)
    """Where a profile can weigh one more and no state takes more."""
    shaped = value.reshape(len(value), *ranges)
    found = np.zeros(ranges, np.bool_)
    for axis, weights_of in enumerate(ranges):
        if weights_of > 1:
            less, more = (np.take(shaped, range(first, first + weights_of - 1), axis + 1) for first in (0, 1))
            found[(slice(None),) * axis + (slice(0, -1),)] |= (less == more).all(axis=0)
    return found.ravel()
