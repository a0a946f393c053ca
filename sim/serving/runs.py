"""Compiled: runs of iterations that only decode.

While a batch only decodes, iterations have a closed form, and one step stands for as many as pass undisturbed:

    T(k) = k base + slope k (k - 1) / 2,   base: the first iteration, slope: c2 x batch

A run is settled up to the present where something looks at it or takes its blocks, and cut where a request comes that
could join it.
"""

from sim.serving import state as s
from sim.serving.caches import blocks, take, unlink
from sim.serving.heaps import update
from sim.serving.jit import compiled
from sim.serving.state import NEVER, NONE, State


@compiled
def run_ps(base: int, slope: int, k: int) -> int:
    return k * base + slope * (k * (k - 1) // 2)


@compiled
def pass_iterations(st: State, slot: int, k: int) -> None:
    """`k` iterations of a run have ended."""
    batch = st.slot[slot, s.BATCH]
    base, slope = st.slot[slot, s.BASE], st.slot[slot, s.SLOPE]
    passed_ps = run_ps(base, slope, k)
    st.slot[slot, s.STARTED] += passed_ps
    st.slot[slot, s.BUSY] += passed_ps
    st.slot[slot, s.BASE] = base + slope * k
    st.slot[slot, s.STEPS] -= k
    st.counters[slot, s.GENERATED_TOKENS] += batch * k
    for i in range(batch):
        place = st.batch[slot, i]
        place[s.COMPUTED] += k
        place[s.GENERATED] += k
        more = blocks(place[s.COMPUTED]) - place[s.BLOCKS]
        if more > 0:
            take(st, slot, more)
            place[s.BLOCKS] += more


@compiled
def settle(st: State, slot: int, restarted: bool) -> None:
    """Brings a run up to the present.

    Where an iteration ends right now, `restarted` says whether the next one has begun; if not, the slot is left idle
    and will be started.
    """
    steps = st.slot[slot, s.STEPS]
    if steps == 0 or st.slot[slot, s.ENDS] < 0:
        return
    passed_ps = st.now[s.NOW] - st.slot[slot, s.STARTED]
    base, slope = st.slot[slot, s.BASE], st.slot[slot, s.SLOPE]
    low, high = 0, steps - 1
    while low < high:
        middle = (low + high + 1) // 2
        if run_ps(base, slope, middle) <= passed_ps:
            low = middle
        else:
            high = middle - 1
    pass_iterations(st, slot, low)
    if st.slot[slot, s.STARTED] == st.now[s.NOW] and low > 0 and not restarted:
        idle(st, slot)
        touch(st, slot)
        return
    for i in range(st.slot[slot, s.BATCH]):  # what the iteration under way has been given
        place = st.batch[slot, i]
        if blocks(place[s.COMPUTED] + 1) > place[s.BLOCKS]:
            take(st, slot, 1)
            place[s.BLOCKS] += 1


@compiled
def cut(st: State, slot: int) -> None:
    """A request has come that may join the batch after the iteration under way."""
    settle(st, slot, restarted=False)
    if st.slot[slot, s.ENDS] >= 0 and st.slot[slot, s.STEPS] > 1:
        st.slot[slot, s.STEPS] = 1
        set_end(st, slot, st.slot[slot, s.STARTED] + st.slot[slot, s.BASE])


@compiled
def set_end(st: State, slot: int, ends_ps: int) -> None:
    st.slot[slot, s.ENDS] = ends_ps
    update(st.ends, slot, ends_ps)


@compiled
def idle(st: State, slot: int) -> None:
    st.slot[slot, s.ENDS] = NONE
    st.slot[slot, s.STEPS] = 0
    update(st.ends, slot, NEVER)


@compiled
def touch(st: State, slot: int) -> None:
    """To be started in this instant, in the order of slots."""
    if st.slot[slot, s.IS_TOUCHED]:
        return
    st.slot[slot, s.IS_TOUCHED] = 1
    i = st.now[s.TOUCHED]
    while i > 0 and st.touched[i - 1] < slot:  # descending: the next one is the last
        st.touched[i] = st.touched[i - 1]
        i -= 1
    st.touched[i] = slot
    st.now[s.TOUCHED] += 1


@compiled
def forget(st: State, session: int, starting: int) -> None:
    """A session's prefix is kept in one place: where it is computed next (`starting`: the slot that is about to)."""
    home = st.session[session, s.HOME]
    if home == NONE:
        return
    if home != starting:
        settle(st, home, restarted=home < starting)
        home = st.session[session, s.HOME]
        if home == NONE:  # settling evicted it
            return
    kept = st.session[session, s.KEPT]
    st.slot[home, s.FREE] += kept
    st.slot[home, s.CACHED] -= kept
    unlink(st, home, session)
