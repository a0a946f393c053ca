"""Compiled: requests come and are routed, instants follow one another. What is done is what `reference.py` does."""

from sim.serving import state as s
from sim.serving.batches import end_iteration, loaded, move, start
from sim.serving.caches import blocks
from sim.serving.heaps import lowest, pop, update
from sim.serving.jit import compiled, entry
from sim.serving.runs import cut, settle, touch
from sim.serving.state import NEVER, NONE, State


@compiled
def route(st: State, row: int) -> bool:
    """To the session's replica if it is ready, else to the one with the least load, the lowest slot among equals."""
    session = st.session_of[row]
    slot = st.session[session, s.PINNED] if session != NONE else NONE
    if slot == NONE or not st.slot[slot, s.READY]:
        slot = lowest(st.loads)
        if st.loads[1] == NEVER:
            return False
    shape = st.shape[st.slot[slot, s.SHAPE]]
    st.counters[slot, s.ARRIVED] += 1
    st.request[row, s.ROUTED] = st.now[s.NOW]
    whole = st.prompt[row] + st.output[row]
    refused = whole > shape[s.CONTEXT] or blocks(whole) > shape[s.KV_BLOCKS]
    st.request[row, s.STATUS] = s.REFUSED if refused else s.QUEUED
    if session != NONE:
        move(st, session, NONE if refused else slot)
        st.session[session, s.PINNED] = slot
    if not refused:
        enqueue(st, slot, row, shape[s.MAX_RUNNING])
    return True


@compiled
def enqueue(st: State, slot: int, row: int, places: int) -> None:
    last = st.slot[slot, s.Q_TAIL]
    st.request[row, s.NEXT] = NONE
    if last == NONE:
        st.slot[slot, s.Q_HEAD] = row
    else:
        st.request[last, s.NEXT] = row
    st.slot[slot, s.Q_TAIL] = row
    st.slot[slot, s.Q_LEN] += 1
    update(st.loads, slot, loaded(st, slot, 1))
    if st.slot[slot, s.ENDS] < 0:
        touch(st, slot)
    elif last == NONE and st.slot[slot, s.BATCH] < places:
        cut(st, slot)


@compiled
def arrive(st: State, row: int) -> None:
    st.request[row, s.ARRIVAL] = st.now[s.NOW]
    if not route(st, row):
        st.request[row, s.STATUS] = s.HELD_AT_GATEWAY
        st.request[row, s.NEXT] = NONE
        if st.now[s.HELD_TAIL] == NONE:
            st.now[s.HELD_HEAD] = row
        else:
            st.request[st.now[s.HELD_TAIL], s.NEXT] = row
        st.now[s.HELD_TAIL] = row
        st.now[s.HELD] += 1


@entry
def release(st: State) -> None:
    """A replica has become ready: what the gateway holds is routed in the order in which it came."""
    row = st.now[s.HELD_HEAD]
    st.now[s.HELD_HEAD] = NONE
    st.now[s.HELD_TAIL] = NONE
    st.now[s.HELD] = 0
    while row != NONE:
        after = st.request[row, s.NEXT]
        route(st, row)
        row = after


@compiled
def start_touched(st: State) -> None:
    while st.now[s.TOUCHED] > 0:
        st.now[s.TOUCHED] -= 1
        slot = st.touched[st.now[s.TOUCHED]]
        st.slot[slot, s.IS_TOUCHED] = 0
        if st.slot[slot, s.USED] and st.slot[slot, s.ENDS] < 0 and st.slot[slot, s.BATCH] + st.slot[slot, s.Q_LEN] > 0:
            start(st, slot)


@compiled
def next_arrival(st: State) -> tuple[int, bool]:
    """When the next request comes, and whether it is a session's later turn; equal times in the order of rows."""
    first_ps, later_ps = NEVER, NEVER
    if st.now[s.NEXT_FIRST] < len(st.first_rows):
        first_ps = st.arrival[st.first_rows[st.now[s.NEXT_FIRST]]]
    if st.now[s.LATER] > 0:
        later_ps = st.later_ps[0]
    if first_ps == later_ps and first_ps != NEVER:
        return first_ps, st.later_row[0] < st.first_rows[st.now[s.NEXT_FIRST]]
    return min(first_ps, later_ps), later_ps < first_ps


@entry
def advance(st: State, until_ps: int) -> None:
    """Everything up to and including `until_ps`."""
    start_touched(st)
    while True:
        arrival_ps, later = next_arrival(st)
        now_ps = min(arrival_ps, st.ends[1])
        if now_ps > until_ps:
            break
        st.now[s.NOW] = now_ps
        while st.ends[1] == now_ps:
            end_iteration(st, lowest(st.ends))
        arrival_ps, later = next_arrival(st)
        while arrival_ps <= now_ps:
            if later:
                row = st.later_row[0]
                pop(st.later_ps, st.later_row, st.now[s.LATER])
                st.now[s.LATER] -= 1
            else:
                row = st.first_rows[st.now[s.NEXT_FIRST]]
                st.now[s.NEXT_FIRST] += 1
            arrive(st, row)
            arrival_ps, later = next_arrival(st)
        start_touched(st)
    st.now[s.NOW] = until_ps


@entry
def settle_all(st: State, slots: s.I64, used: s.I64) -> None:
    """What an onlooker sees: everything up to the present. `used`: blocks that running requests hold, by slot."""
    for i in range(len(slots)):
        settle(st, slots[i], True)
        used[i] = 0
        for j in range(st.slot[slots[i], s.BATCH]):
            used[i] += st.batch[slots[i], j, s.BLOCKS]


@entry
def drop_all(st: State, slot: int) -> int:
    """The replica is gone with everything in it."""
    dropped = st.slot[slot, s.BATCH] + st.slot[slot, s.Q_LEN]
    for i in range(st.slot[slot, s.BATCH]):
        st.request[st.batch[slot, i, s.ROW], s.STATUS] = s.DROPPED
    row = st.slot[slot, s.Q_HEAD]
    while row != NONE:
        st.request[row, s.STATUS] = s.DROPPED
        row = st.request[row, s.NEXT]
    for session in range(len(st.session)):
        if st.session[session, s.HOME] == slot:
            st.session[session, s.HOME] = NONE
            st.session[session, s.KEPT] = 0
        if st.session[session, s.PINNED] == slot:
            st.session[session, s.PINNED] = NONE
        if st.session[session, s.ALIVE] == slot:
            st.session[session, s.ALIVE] = NONE
    return int(dropped)
