"""The fast engine: arrays and machine code around the same rules as `reference.py`, and exactly the same answers."""

import numpy as np
from numpy.typing import NDArray

from sim.serving import state as s
from sim.serving import steps
from sim.serving.heaps import update
from sim.serving.pool import COUNTERS, PS_PER_US, Outcome, Readout, Shape, Status
from sim.serving.state import NEVER, NONE
from sim.serving.turns import NO_SESSION, Turns

_SLOTS_AT_FIRST = 8


class CompiledPool:
    """See `Pool`."""

    def __init__(self, turns: Turns) -> None:
        self.turns = turns
        self._state = s.initial(turns, _SLOTS_AT_FIRST, 1)
        self._shapes: dict[Shape, int] = {}
        self._gone = np.zeros(COUNTERS, np.int64)

    def run_until(self, until_ps: int) -> None:
        steps.advance(self._state, until_ps)

    def add(self, shape: Shape) -> int:
        number = self._register(shape)
        free = np.flatnonzero(self._state.slot[:, s.USED] == 0)
        if not len(free):
            slots = len(self._state.slot)
            self._state = s.grown(self._state, 2 * slots, self._state.batch.shape[1])
            free = np.array([slots])
        st, slot = self._state, int(free[0])
        st.slot[slot] = s.empty_slots(1)[0]
        st.slot[slot, [s.USED, s.READY]] = 1
        st.slot[slot, s.SHAPE] = number
        st.slot[slot, s.FREE] = shape.kv_blocks
        st.counters[slot] = 0
        update(st.loads, slot, 0)
        steps.release(st)
        return slot

    def _register(self, shape: Shape) -> int:
        if shape not in self._shapes:
            self._shapes[shape] = len(self._shapes)
            table = np.array([s.shape_row(known) for known in self._shapes], np.int64)
            self._state = self._state._replace(shape=table)
            if shape.max_running > self._state.batch.shape[1]:
                self._state = s.grown(self._state, len(self._state.slot), shape.max_running)
        return self._shapes[shape]

    def drain(self, slot: int) -> None:
        self._state.slot[slot, s.READY] = 0
        update(self._state.loads, slot, NEVER)

    def remove(self, slot: int) -> int:
        st = self._state
        self._gone += self.read((slot,)).counters[0]
        dropped = steps.drop_all(st, slot)
        st.slot[slot] = s.empty_slots(1)[0]
        st.slot[slot, s.IS_TOUCHED] = int(slot in st.touched[: st.now[s.TOUCHED]])
        update(st.loads, slot, NEVER)
        update(st.ends, slot, NEVER)
        return int(dropped)

    def load(self, slot: int) -> int:
        return int(self._state.slot[slot, s.BATCH] + self._state.slot[slot, s.Q_LEN])

    def read(self, slots: tuple[int, ...]) -> Readout:
        st, chosen = self._state, np.array(slots, np.int64)
        used = np.zeros(len(slots), np.int64)
        steps.settle_all(st, chosen, used)
        counters = st.counters[chosen]
        counters[:, s.BUSY_US] = st.slot[chosen, s.BUSY] // PS_PER_US
        return Readout(
            slots=slots,
            queued=st.slot[chosen, s.Q_LEN],
            running=st.slot[chosen, s.BATCH],
            sessions=st.slot[chosen, s.SESSIONS],
            kv_used=used,
            counters=counters,
        )

    def held(self) -> int:
        return int(self._state.now[s.HELD])

    def held_sessions(self) -> int:
        request = self._state.request
        sessions = np.unique(self.turns.session[request[:, s.STATUS] == Status.HELD])
        sessions = sessions[sessions != NO_SESSION]
        return int((self._state.session[sessions, s.ALIVE] == NONE).sum())

    def totals(self) -> NDArray[np.int64]:
        used = np.flatnonzero(self._state.slot[:, s.USED])
        return np.asarray(self._gone + self.read(tuple(used.tolist())).counters.sum(axis=0))

    def outcome(self) -> Outcome:
        r = self._state.request
        columns = (r[:, c].copy() for c in (s.ARRIVAL, s.ROUTED, s.SCHEDULED, s.FIRST, s.DONE))
        return Outcome(r[:, s.STATUS].astype(np.int8), *columns)
