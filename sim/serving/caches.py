"""Compiled: who holds the blocks of a replica, and which prefixes are kept in those that nobody needs now."""

from sim.serving import state as s
from sim.serving.jit import compiled
from sim.serving.state import NONE, State


@compiled
def blocks(st: State, slot: int, tokens: int) -> int:
    bits = st.slot[slot, s.BLOCK_BITS]
    return int((tokens + (1 << bits) - 1) >> bits)


@compiled
def unlink(st: State, slot: int, row: int) -> None:
    before, after = st.what[row, s.LRU_PREV], st.what[row, s.LRU_NEXT]
    if before == NONE:
        st.slot[slot, s.LRU_HEAD] = after
    else:
        st.what[before, s.LRU_NEXT] = after
    if after == NONE:
        st.slot[slot, s.LRU_TAIL] = before
    else:
        st.what[after, s.LRU_PREV] = before
    st.what[row, s.KEPT] = 0


@compiled
def keep(st: State, slot: int, row: int, computed: int, held: int) -> None:
    """What a request computed stays in whole blocks, until they are needed: the youngest cache of the slot.

    `held`: blocks, with those of the common prefix.
    """
    held -= st.slot[slot, s.COMMON]
    kept = (computed >> st.slot[slot, s.BLOCK_BITS]) - st.slot[slot, s.COMMON]
    st.slot[slot, s.HELD_BLOCKS] -= held
    st.slot[slot, s.FREE] += held - kept
    if kept == 0:
        return
    last = st.slot[slot, s.LRU_TAIL]
    st.what[row, s.LRU_PREV] = last
    st.what[row, s.LRU_NEXT] = NONE
    if last == NONE:
        st.slot[slot, s.LRU_HEAD] = row
    else:
        st.what[last, s.LRU_NEXT] = row
    st.slot[slot, s.LRU_TAIL] = row
    st.what[row, s.KEPT] = kept
    st.slot[slot, s.CACHED] += kept


@compiled
def reuse(st: State, slot: int, row: int, target: int) -> int:
    """Takes over computed blocks: of the request itself if it gave way, else of its session's last turn.

    Those of the common prefix are not among them.
    """
    bits, common = st.slot[slot, s.BLOCK_BITS], st.slot[slot, s.COMMON]
    session, source, known = st.what[row, s.SESSION], row, ((target - 1) >> bits) - common
    first = st.what[row, s.FLAGS] & s.GAVE_WAY == 0
    if first:
        if session == NONE or st.session[session, s.KNOWN] >= target:  # a shorter prompt is another one
            return 0
        source, known = st.session[session, s.LAST], max(0, (st.session[session, s.KNOWN] >> bits) - common)
        if st.session[session, s.HOME] != slot:
            source = NONE
    reused = 0
    if source != NONE and st.what[source, s.KEPT] > 0:
        kept = st.what[source, s.KEPT]
        reused = min(kept, known)
        unlink(st, slot, source)
        st.slot[slot, s.CACHED] -= kept
        st.slot[slot, s.FREE] += kept - reused
        st.slot[slot, s.HELD_BLOCKS] += reused
    if first:
        st.slot[slot, s.LOST_TOKENS] += (known - reused) << bits
    return reused


@compiled
def share(st: State, slot: int, reached: int) -> None:
    """The first request's blocks of the common prefix are everybody's from now on."""
    bits = st.slot[slot, s.BLOCK_BITS]
    common = st.now[s.COMMON_TOKENS] >> bits
    if common == 0 or st.slot[slot, s.COMMON] > 0 or reached < common << bits:
        return
    st.slot[slot, s.COMMON] = common
    st.slot[slot, s.HELD_BLOCKS] -= common


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
        row = st.slot[slot, s.LRU_HEAD]
        part = min(st.what[row, s.KEPT], -st.slot[slot, s.FREE])
        st.slot[slot, s.FREE] += part
        st.slot[slot, s.CACHED] -= part
        st.what[row, s.KEPT] -= part
        if st.what[row, s.KEPT] == 0:
            unlink(st, slot, row)


@compiled
def room(st: State, slot: int) -> int:
    return int(st.slot[slot, s.FREE] + st.slot[slot, s.CACHED])
