"""Compiled: requests come and are routed, instants follow one another. What is done is what `reference.py` does."""

from sim.serving import state as s
from sim.serving.batches import change_load, end_iteration, move, start
from sim.serving.caches import blocks
from sim.serving.heaps import lowest, pop
from sim.serving.jit import borrowed, compiled, entry
from sim.serving.runs import cut, settle, touch
from sim.serving.state import NEVER, NONE, State

PS_PER_US = 1_000_000


@compiled
def borrow(st: State) -> State:
    return State(
        borrowed(st.when),
        borrowed(st.what),
        borrowed(st.session),
        borrowed(st.slot),
        borrowed(st.batch),
        borrowed(st.tree),
        borrowed(st.now),
    )


@compiled
def route(st: State, row: int) -> bool:
    """To the session's replica if it is ready, else to the least loaded one, the lowest slot among equals."""
    session = st.what[row, s.SESSION]
    slot = st.session[session, s.PINNED] if session != NONE else NONE
    if slot == NONE or not st.slot[slot, s.READY]:
        if st.tree[s.LOAD_TREE, 1] == NEVER:
            return False
        slot = lowest(st.tree, s.LOAD_TREE)
    st.slot[slot, s.ARRIVED] += 1
    st.when[row, s.ROUTED] = st.now[s.NOW]
    whole = st.what[row, s.PROMPT] + st.what[row, s.OUTPUT]
    load = st.slot[slot, s.BATCH] + st.slot[slot, s.Q_LEN]
    refused = whole > st.slot[slot, s.CONTEXT] or blocks(st, slot, whole) > st.slot[slot, s.KV_BLOCKS]
    refused = refused or load >= st.slot[slot, s.MAX_REQUESTS]
    st.what[row, s.STATUS] = s.REFUSED if refused else s.QUEUED
    if session != NONE:
        move(st, session, NONE if refused else slot)
        st.session[session, s.PINNED] = slot
    if not refused:
        enqueue(st, slot, row)
    return True


@compiled
def enqueue(st: State, slot: int, row: int) -> None:
    last = st.slot[slot, s.Q_TAIL]
    st.what[row, s.NEXT] = NONE
    if last == NONE:
        st.slot[slot, s.Q_HEAD] = row
    else:
        st.what[last, s.NEXT] = row
    st.slot[slot, s.Q_TAIL] = row
    st.slot[slot, s.Q_LEN] += 1
    change_load(st, slot, 1)
    if st.slot[slot, s.ENDS] < 0:
        touch(st, slot)
    elif last == NONE and st.slot[slot, s.BATCH] < st.slot[slot, s.MAX_RUNNING]:
        cut(st, slot)


@compiled
def arrive(st: State, row: int) -> None:
    st.when[row, s.ARRIVAL] = st.now[s.NOW]
    if not route(st, row):
        st.what[row, s.STATUS] = s.HELD_AT_GATEWAY
        st.what[row, s.NEXT] = NONE
        if st.now[s.HELD_TAIL] == NONE:
            st.now[s.HELD_HEAD] = row
        else:
            st.what[st.now[s.HELD_TAIL], s.NEXT] = row
        st.now[s.HELD_TAIL] = row
        st.now[s.HELD] += 1


@entry
def release(st: State) -> None:
    """A replica has become ready: what the gateway holds is routed in the order in which it came."""
    st = borrow(st)
    row = st.now[s.HELD_HEAD]
    st.now[s.HELD_HEAD] = NONE
    st.now[s.HELD_TAIL] = NONE
    st.now[s.HELD] = 0
    while row != NONE:
        after = st.what[row, s.NEXT]
        route(st, row)
        row = after


@compiled
def start_touched(st: State) -> None:
    while st.now[s.TOUCHED] != NONE:
        slot = st.now[s.TOUCHED]
        st.now[s.TOUCHED] = st.slot[slot, s.NEXT_TOUCHED]
        st.slot[slot, s.IS_TOUCHED] = 0
        if st.slot[slot, s.USED] and st.slot[slot, s.ENDS] < 0 and st.slot[slot, s.BATCH] + st.slot[slot, s.Q_LEN] > 0:
            start(st, slot)


@compiled
def next_arrival(st: State) -> tuple[int, bool]:
    """When the next request comes, and whether it is a session's later turn; equal times in the order of rows."""
    first_ps, later_ps, first_row = NEVER, NEVER, NONE
    if st.now[s.NEXT_FIRST] < st.now[s.FIRST_TURNS]:
        first_row = st.what[st.now[s.NEXT_FIRST], s.ORDER]
        first_ps = st.when[first_row, s.ARRIVAL]
    if st.now[s.LATER] > 0:
        later_ps = st.session[0, s.HEAP_PS]
    if first_ps == later_ps and first_ps != NEVER:
        return first_ps, st.session[0, s.HEAP_ROW] < first_row
    return min(first_ps, later_ps), later_ps < first_ps


@entry
def advance(st: State, until_ps: int) -> None:
    """Everything up to and including `until_ps`."""
    st = borrow(st)
    start_touched(st)
    while True:
        arrival_ps, later = next_arrival(st)
        now_ps = min(arrival_ps, st.tree[s.END_TREE, 1])
        if now_ps > until_ps:
            break
        st.now[s.NOW] = now_ps
        while st.tree[s.END_TREE, 1] == now_ps:
            end_iteration(st, lowest(st.tree, s.END_TREE))
        arrival_ps, later = next_arrival(st)
        while arrival_ps <= now_ps:
            if later:
                row = pop(st)
            else:
                row = st.what[st.now[s.NEXT_FIRST], s.ORDER]
                st.now[s.NEXT_FIRST] += 1
            arrive(st, row)
            arrival_ps, later = next_arrival(st)
        start_touched(st)
    st.now[s.NOW] = until_ps


@entry
def look(st: State, slots: s.I64, table: s.I64) -> None:
    """What an onlooker sees now; a row of `table` a slot, see `Readout`."""
    st = borrow(st)
    for i in range(len(slots)):
        slot = slots[i]
        settle(st, slot, True)
        table[i, 0], table[i, 1] = st.slot[slot, s.Q_LEN], st.slot[slot, s.BATCH]
        common = st.slot[slot, s.COMMON] if st.slot[slot, s.BATCH] > 0 else 0  # every request uses it
        table[i, 2], table[i, 3] = st.slot[slot, s.SESSIONS], st.slot[slot, s.HELD_BLOCKS] + common
        table[i, 4] = st.slot[slot, s.KV_BLOCKS]
        table[i, 5:] = st.slot[slot, s.COUNTS :]
        table[i, 5 + s.BUSY_US - s.COUNTS] = st.slot[slot, s.BUSY] // PS_PER_US


@entry
def drop_all(st: State, slot: int) -> int:
    """The replica is gone with everything in it."""
    dropped = st.slot[slot, s.BATCH] + st.slot[slot, s.Q_LEN]
    for i in range(st.slot[slot, s.BATCH]):
        st.what[st.batch[slot, s.ROW, i], s.STATUS] = s.DROPPED
    row = st.slot[slot, s.Q_HEAD]
    while row != NONE:
        st.what[row, s.STATUS] = s.DROPPED
        row = st.what[row, s.NEXT]
    for session in range(len(st.session)):
        if st.session[session, s.HOME] == slot:
            st.session[session, s.HOME] = NONE
        if st.session[session, s.PINNED] == slot:
            st.session[session, s.PINNED] = NONE
        if st.session[session, s.ALIVE] == slot:
            st.session[session, s.ALIVE] = NONE
    return int(dropped)
