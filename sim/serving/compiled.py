"""The fast engine: arrays and machine code around the same rules as `reference.py`, and exactly the same answers."""

import numpy as np
from numpy.typing import NDArray

from sim.serving import state as s
from sim.serving import steps
from sim.serving.heaps import update
from sim.serving.pool import COLUMNS, COUNTERS, Outcome, Readout, Shape, Status
from sim.serving.state import NEVER, NONE
from sim.serving.turns import NO_SESSION, Turns

_SLOTS_AT_FIRST = 8


class CompiledPool:
    """See `Pool`."""

    def __init__(self, turns: Turns) -> None:
        self.turns = turns
        self._state = s.initial(turns, _SLOTS_AT_FIRST, 1)
        self._gone = np.zeros(COUNTERS, np.int64)

    def run_until(self, until_ps: int) -> None:
        steps.advance(self._state, until_ps)

    def add(self, shape: Shape) -> int:
        free = np.flatnonzero(self._state.slot[:, s.USED] == 0)
        slots, places = len(self._state.slot), self._state.batch.shape[2]
        if not len(free) or shape.max_running > places:
            wanted = slots if len(free) else 2 * slots
            self._state = s.grown(self._state, wanted, max(places, shape.max_running))
        st, slot = self._state, int(free[0]) if len(free) else slots
        self._clear(slot)
        st.slot[slot, [s.USED, s.READY]] = 1
        st.slot[slot, s.SHAPE : s.PHASES] = s.shape_row(shape)
        st.slot[slot, s.FREE] = shape.kv_blocks
        update(st.tree, s.LOAD_TREE, slot, 0)
        steps.release(st)
        return slot

    def _clear(self, slot: int) -> None:
        """Empty, but where it was in the chain of those to start it stays."""
        row = self._state.slot[slot]
        chained = row[[s.IS_TOUCHED, s.NEXT_TOUCHED]].copy()
        row[:] = s.empty_slots(1)[0]
        row[[s.IS_TOUCHED, s.NEXT_TOUCHED]] = chained

    def drain(self, slot: int) -> None:
        self._state.slot[slot, s.READY] = 0
        update(self._state.tree, s.LOAD_TREE, slot, NEVER)

    def remove(self, slot: int) -> int:
        self._gone += self.read((slot,)).counters[0]
        dropped = steps.drop_all(self._state, slot)
        self._clear(slot)
        update(self._state.tree, s.LOAD_TREE, slot, NEVER)
        update(self._state.tree, s.END_TREE, slot, NEVER)
        return dropped

    def load(self, slot: int) -> int:
        return int(self._state.slot[slot, s.BATCH] + self._state.slot[slot, s.Q_LEN])

    def read(self, slots: tuple[int, ...]) -> Readout:
        table = np.empty((len(slots), COLUMNS), np.int64)
        steps.look(self._state, np.array(slots, np.int64), table)
        return Readout(slots, table)

    def held(self) -> int:
        return int(self._state.now[s.HELD])

    def held_sessions(self) -> int:
        if not self.held():
            return 0
        sessions = np.unique(self.turns.session[self._state.what[:, s.STATUS] == Status.HELD])
        sessions = sessions[sessions != NO_SESSION]
        return int((self._state.session[sessions, s.ALIVE] == NONE).sum())

    def totals(self) -> NDArray[np.int64]:
        used = np.flatnonzero(self._state.slot[:, s.USED])
        return np.asarray(self._gone + self.read(tuple(used.tolist())).counters.sum(axis=0))

    def outcome(self) -> Outcome:
        when, status = self._state.when, self._state.what[:, s.STATUS].astype(np.int8)
        arrival = when[:, s.ARRIVAL]
        if (status == Status.FUTURE).any():
            arrival = np.where(status == Status.FUTURE, -1, arrival)
        return Outcome(status, arrival, *(when[:, column] for column in (s.ROUTED, s.SCHEDULED, s.FIRST, s.DONE)))
