"""Compiled: runs of iterations that only decode.

While a batch only decodes, iterations have a closed form, and one step stands for as many as pass undisturbed:

    T(k) = k base + slope k (k - 1) / 2,   base: the first iteration, slope: c2 x batch

A run is settled up to the present where something looks at it or takes its blocks, and cut where a request comes that
could join it. While an iteration is under way each place has the block for the token that it computes.
"""

from sim.serving import state as s
from sim.serving.caches import take
from sim.serving.heaps import update
from sim.serving.jit import compiled
from sim.serving.state import NEVER, NONE, State


@compiled
def run_ps(base: int, slope: int, k: int) -> int:
    return k * base + slope * (k * (k - 1) // 2)


@compiled
def new_blocks(st: State, slot: int, iteration: int) -> int:
    """How many decoding places begin a block in the iteration after so many."""
    mask = (1 << st.slot[slot, s.BLOCK_BITS]) - 1
    return int(st.slot[slot, s.PHASES + ((-iteration) & mask)])


@compiled
def pass_iterations(st: State, slot: int, k: int) -> None:
    """`k` iterations of a run have ended; the next one has not begun."""
    batch, iteration = st.slot[slot, s.DECODING], st.slot[slot, s.ITERATION]
    base, slope = st.slot[slot, s.BASE], st.slot[slot, s.SLOPE]
    passed_ps = run_ps(base, slope, k)
    st.slot[slot, s.STARTED] += passed_ps
    st.slot[slot, s.BUSY] += passed_ps
    st.slot[slot, s.BASE] = base + slope * k
    st.slot[slot, s.STEPS] -= k
    st.slot[slot, s.ITERATION] = iteration + k
    st.slot[slot, s.KV] += batch * k
    st.slot[slot, s.GENERATED_TOKENS] += batch * k
    if k > 1:
        bits = st.slot[slot, s.BLOCK_BITS]
        rounds = (k - 1) >> bits  # in as many iterations as a block has tokens every place begins one block
        need = rounds * batch
        for i in range(iteration + 1 + (rounds << bits), iteration + k):
            need += new_blocks(st, slot, i)
        take(st, slot, need)


@compiled
def settle(st: State, slot: int, restarted: bool) -> None:
    """Brings a run up to the present.

    Where an iteration ends right now, `restarted` says whether the next one has begun; if not, the slot is left idle
    and will be started.
    """
    steps = st.slot[slot, s.STEPS]
    if steps <= 1 or st.slot[slot, s.ENDS] < 0:
        return
    passed_ps = st.now[s.NOW] - st.slot[slot, s.STARTED]
    base, slope = st.slot[slot, s.BASE], st.slot[slot, s.SLOPE]
    low, high = 0, min(steps - 1, passed_ps // base)
    while low < high:
        middle = (low + high + 1) // 2
        if run_ps(base, slope, middle) <= passed_ps:
            low = middle
        else:
            high = middle - 1
    if low == 0:
        return
    pass_iterations(st, slot, low)
    if st.slot[slot, s.STARTED] == st.now[s.NOW] and not restarted:
        idle(st, slot)
        touch(st, slot)
    else:
        take(st, slot, new_blocks(st, slot, st.slot[slot, s.ITERATION]))


@compiled
def cut(st: State, slot: int) -> None:
    """A request has come that may join the batch after the iteration under way."""
    settle(st, slot, False)
    if st.slot[slot, s.ENDS] >= 0 and st.slot[slot, s.STEPS] > 1:
        st.slot[slot, s.STEPS] = 1
        set_end(st, slot, st.slot[slot, s.STARTED] + st.slot[slot, s.BASE])


@compiled
def set_end(st: State, slot: int, ends_ps: int) -> None:
    st.slot[slot, s.ENDS] = ends_ps
    update(st.tree, s.END_TREE, slot, ends_ps)


@compiled
def idle(st: State, slot: int) -> None:
    st.slot[slot, s.ENDS] = NONE
    st.slot[slot, s.STEPS] = 0
    update(st.tree, s.END_TREE, slot, NEVER)


@compiled
def touch(st: State, slot: int) -> None:
    """To be started in this instant, in the order of slots."""
    if st.slot[slot, s.IS_TOUCHED]:
        return
    st.slot[slot, s.IS_TOUCHED] = 1
    before, after = NONE, st.now[s.TOUCHED]
    while after != NONE and after < slot:
        before, after = after, st.slot[after, s.NEXT_TOUCHED]
    st.slot[slot, s.NEXT_TOUCHED] = after
    if before == NONE:
        st.now[s.TOUCHED] = slot
    else:
        st.slot[before, s.NEXT_TOUCHED] = slot
