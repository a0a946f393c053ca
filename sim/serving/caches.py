"""Compiled: who holds the blocks of a replica, and which prefixes are kept in those that nobody needs now."""

from sim.serving import state as s
from sim.serving.jit import compiled
from sim.serving.state import NONE, State
from sim.serving.times import BLOCK_TOKENS


@compiled
def blocks(tokens: int) -> int:
    return (tokens + BLOCK_TOKENS - 1) // BLOCK_TOKENS


@compiled
def unlink(st: State, slot: int, session: int) -> None:
    before, after = st.session[session, s.LRU_PREV], st.session[session, s.LRU_NEXT]
    if before == NONE:
        st.slot[slot, s.LRU_HEAD] = after
    else:
        st.session[before, s.LRU_NEXT] = after
    if after == NONE:
        st.slot[slot, s.LRU_TAIL] = before
    else:
        st.session[after, s.LRU_PREV] = before
    st.session[session, s.HOME] = NONE
    st.session[session, s.KEPT] = 0


@compiled
def keep(st: State, slot: int, session: int, count: int) -> None:
    """`count` blocks of a finished turn become the youngest cache of the slot."""
    last = st.slot[slot, s.LRU_TAIL]
    st.session[session, s.LRU_PREV] = last
    st.session[session, s.LRU_NEXT] = NONE
    if last == NONE:
        st.slot[slot, s.LRU_HEAD] = session
    else:
        st.session[last, s.LRU_NEXT] = session
    st.slot[slot, s.LRU_TAIL] = session
    st.session[session, s.HOME] = slot
    st.session[session, s.KEPT] = count
    st.slot[slot, s.CACHED] += count


@compiled
def take(st: State, slot: int, count: int) -> None:
    """Blocks for requests, of which there are enough; caches are evicted from the longest unused, from its end."""
    st.slot[slot, s.HELD_BLOCKS] += count
    st.slot[slot, s.FREE] -= count
    if st.slot[slot, s.FREE] < 0:
        evict(st, slot)


@compiled
def evict(st: State, slot: int) -> None:
    while st.slot[slot, s.FREE] < 0:
        session = st.slot[slot, s.LRU_HEAD]
        part = min(st.session[session, s.KEPT], -st.slot[slot, s.FREE])
        st.slot[slot, s.FREE] += part
        st.slot[slot, s.CACHED] -= part
        st.session[session, s.KEPT] -= part
        if st.session[session, s.KEPT] == 0:
            unlink(st, slot, session)


@compiled
def give_back(st: State, slot: int, count: int) -> None:
    st.slot[slot, s.HELD_BLOCKS] -= count
    st.slot[slot, s.FREE] += count


@compiled
def room(st: State, slot: int) -> int:
    return int(st.slot[slot, s.FREE] + st.slot[slot, s.CACHED])
