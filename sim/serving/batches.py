"""Compiled: one iteration of a replica, from what is scheduled to what has ended."""

from sim.serving import state as s
from sim.serving.caches import blocks, keep, take
from sim.serving.heaps import push, update
from sim.serving.jit import compiled
from sim.serving.runs import forget, idle, pass_iterations, run_ps, set_end, touch
from sim.serving.state import NEVER, NONE, State
from sim.serving.times import BLOCK_TOKENS

PS_PER_US = 1_000_000


@compiled
def start(st: State, slot: int) -> None:
    """Gives work to an idle replica that has some."""
    shape = st.shape[st.slot[slot, s.SHAPE]]
    budget, preempted = schedule_batch(st, slot, shape[s.BUDGET])
    scheduled = st.slot[slot, s.BATCH]
    while not preempted and st.slot[slot, s.Q_HEAD] != NONE and budget > 0:
        if st.slot[slot, s.BATCH] >= shape[s.MAX_RUNNING] or not admit(st, slot, budget):
            break
        budget -= st.batch[slot, st.slot[slot, s.BATCH] - 1, s.WORK]
        scheduled = st.slot[slot, s.BATCH]
    tokens, decoding, kv, attention = 0, 0, 0, 0
    for i in range(scheduled):
        place = st.batch[slot, i]
        work, computed = place[s.WORK], place[s.COMPUTED]
        if work == 0:
            continue
        if decodes(st, place):
            decoding += 1
            kv += computed + 1
        else:
            tokens += work
            attention += max(work, shape[s.FLOOR]) * (2 * computed + work)
    ends_ps = iteration_ps(shape, decoding, kv, tokens, attention)
    st.slot[slot, s.STARTED] = st.now[s.NOW]
    st.slot[slot, s.STEPS] = 0
    if tokens == 0 and not preempted and decoding == st.slot[slot, s.BATCH]:
        st.slot[slot, s.BASE] = ends_ps
        st.slot[slot, s.SLOPE] = shape[s.C2] * decoding
        st.slot[slot, s.STEPS] = undisturbed(st, slot)
        ends_ps = run_ps(ends_ps, st.slot[slot, s.SLOPE], st.slot[slot, s.STEPS])
    set_end(st, slot, st.now[s.NOW] + ends_ps)


@compiled
def decodes(st: State, place: s.I64) -> bool:
    left = st.prompt[place[s.ROW]] + place[s.GENERATED] - place[s.COMPUTED]
    return bool(place[s.GENERATED] > 0 and left == 1)


@compiled
def iteration_ps(shape: s.I64, decoding: int, kv: int, tokens: int, attention: int) -> int:
    """As `Times.iteration_ps`; `tokens` and `attention` are the prefill's."""
    n = decoding + tokens
    time_ps = max(shape[s.A0] + shape[s.A1] * n, shape[s.B0] + shape[s.B1] * n) + shape[s.FIXED]
    if tokens:
        time_ps += shape[s.P0] + shape[s.P1] * attention + shape[s.P2] * tokens
        return int(time_ps + shape[s.MIXED_C1] * decoding + shape[s.MIXED_C2] * kv)
    return int(time_ps + shape[s.C0] + shape[s.C1] * decoding + shape[s.C2] * kv)


@compiled
def undisturbed(st: State, slot: int) -> int:
    """How many iterations pass until the first request ends, or blocks might run out."""
    batch = st.slot[slot, s.BATCH]
    k = NEVER
    for i in range(batch):
        place = st.batch[slot, i]
        k = min(k, st.output[place[s.ROW]] - place[s.GENERATED])
    room = st.slot[slot, s.FREE] + st.slot[slot, s.CACHED]
    return int(min(k, 1 + BLOCK_TOKENS * (room // batch)))


@compiled
def schedule_batch(st: State, slot: int, budget: int) -> tuple[int, bool]:
    """Work for those that run, in the order in which they came; the last give way where blocks run out."""
    preempted, i = False, 0
    while i < st.slot[slot, s.BATCH]:
        place = st.batch[slot, i]
        work = min(st.prompt[place[s.ROW]] + place[s.GENERATED] - place[s.COMPUTED], budget)
        place[s.WORK] = work
        while work > 0 and i < st.slot[slot, s.BATCH] and blocks(place[s.COMPUTED] + work) > place[s.BLOCKS]:
            if take(st, slot, 1):
                place[s.BLOCKS] += 1
            else:
                preempted = True
                preempt(st, slot)
        if i >= st.slot[slot, s.BATCH]:
            break
        budget -= work
        i += 1
    return budget, preempted


@compiled
def preempt(st: State, slot: int) -> None:
    """The last of the batch gives its blocks back and starts again from the head of the queue."""
    last = st.slot[slot, s.BATCH] - 1
    place = st.batch[slot, last]
    row = place[s.ROW]
    st.slot[slot, s.BATCH] = last
    st.slot[slot, s.FREE] += place[s.BLOCKS]
    st.counters[slot, s.PREEMPTED] += 1
    st.request[row, s.SO_FAR] = place[s.GENERATED]
    st.request[row, s.STATUS] = s.QUEUED
    head = st.slot[slot, s.Q_HEAD]
    st.request[row, s.NEXT] = head
    st.slot[slot, s.Q_HEAD] = row
    if head == NONE:
        st.slot[slot, s.Q_TAIL] = row
    st.slot[slot, s.Q_LEN] += 1


@compiled
def admit(st: State, slot: int, budget: int) -> bool:
    """The head of the queue joins the batch if its whole prompt has room, what the cache has of it included."""
    row = st.slot[slot, s.Q_HEAD]
    session = st.session_of[row]
    target = st.prompt[row] + st.request[row, s.SO_FAR]
    if blocks(target) > st.slot[slot, s.FREE] + st.slot[slot, s.CACHED]:
        return False
    reused = 0
    if session != NONE:
        known = st.session[session, s.KNOWN]
        known = known // BLOCK_TOKENS if known < target else 0  # a shorter prompt is another one
        if st.session[session, s.HOME] == slot:
            reused = min(st.session[session, s.KEPT], known)
        forget(st, session, slot)
        st.slot[slot, s.FREE] -= reused
        st.counters[slot, s.LOST_TOKENS] += (known - reused) * BLOCK_TOKENS
    take(st, slot, blocks(target) - reused)
    st.counters[slot, s.CACHED_TOKENS] += reused * BLOCK_TOKENS
    if st.request[row, s.SCHEDULED] < 0:
        st.request[row, s.SCHEDULED] = st.now[s.NOW]
    st.request[row, s.STATUS] = s.RUNNING
    after = st.request[row, s.NEXT]
    st.slot[slot, s.Q_HEAD] = after
    if after == NONE:
        st.slot[slot, s.Q_TAIL] = NONE
    st.slot[slot, s.Q_LEN] -= 1
    place = st.batch[slot, st.slot[slot, s.BATCH]]
    place[s.ROW] = row
    place[s.COMPUTED] = reused * BLOCK_TOKENS
    place[s.GENERATED] = st.request[row, s.SO_FAR]
    place[s.BLOCKS] = blocks(target)
    place[s.WORK] = min(target - place[s.COMPUTED], budget)
    st.slot[slot, s.BATCH] += 1
    return True


@compiled
def end_iteration(st: State, slot: int) -> None:
    """The iteration, or the last of a run, has ended now."""
    if st.slot[slot, s.STEPS] > 0:
        pass_iterations(st, slot, st.slot[slot, s.STEPS])
        for i in range(st.slot[slot, s.BATCH]):
            if st.batch[slot, i, s.GENERATED] == st.output[st.batch[slot, i, s.ROW]]:
                finish(st, slot, st.batch[slot, i])
    else:
        st.slot[slot, s.BUSY] += st.now[s.NOW] - st.slot[slot, s.STARTED]
        for i in range(st.slot[slot, s.BATCH]):
            end_work(st, slot, st.batch[slot, i])
    left = 0
    for i in range(st.slot[slot, s.BATCH]):
        if st.request[st.batch[slot, i, s.ROW], s.STATUS] == s.RUNNING:
            if left < i:
                st.batch[slot, left, :] = st.batch[slot, i, :]
            left += 1
    st.slot[slot, s.BATCH] = left
    idle(st, slot)
    touch(st, slot)


@compiled
def end_work(st: State, slot: int, place: s.I64) -> None:
    work, row = place[s.WORK], place[s.ROW]
    if work == 0:
        return
    if not decodes(st, place):
        st.counters[slot, s.PROMPT_TOKENS] += work
    place[s.COMPUTED] += work
    if place[s.COMPUTED] == st.prompt[row] + place[s.GENERATED]:
        place[s.GENERATED] += 1
        st.counters[slot, s.GENERATED_TOKENS] += 1
        if st.request[row, s.FIRST] < 0:
            st.request[row, s.FIRST] = st.now[s.NOW]
        if place[s.GENERATED] == st.output[row]:
            finish(st, slot, place)


@compiled
def finish(st: State, slot: int, place: s.I64) -> None:
    row, now_ps = place[s.ROW], st.now[s.NOW]
    request, counters = st.request[row], st.counters[slot]
    request[s.STATUS] = s.FINISHED
    request[s.DONE] = now_ps
    latency_us = (now_ps - request[s.ROUTED]) // PS_PER_US
    counters[s.FINISHES] += 1
    counters[s.LATENCY_US] += latency_us
    counters[s.WAITED_US] += (request[s.SCHEDULED] - request[s.ROUTED]) // PS_PER_US
    bucket = 0
    while bucket < len(st.buckets_us) and latency_us > st.buckets_us[bucket]:
        bucket += 1
    counters[s.BUCKET + bucket] += 1
    update(st.loads, slot, loaded(st, slot, -1))
    session = st.session_of[row]
    if session == NONE:
        st.slot[slot, s.FREE] += place[s.BLOCKS]
        return
    kept = place[s.COMPUTED] // BLOCK_TOKENS
    st.slot[slot, s.FREE] += place[s.BLOCKS] - kept
    if kept:
        keep(st, slot, session, kept)
    st.session[session, s.KNOWN] = place[s.COMPUTED]
    if st.follows[row]:
        push(st.later_ps, st.later_row, st.now[s.LATER], now_ps + st.wait[row + 1], row + 1)
        st.now[s.LATER] += 1
    if not st.follows[row] or st.human[row + 1]:
        move(st, session, NONE)


@compiled
def loaded(st: State, slot: int, change: int) -> int:
    """The slot's leaf in the tree of loads: NEVER where it takes no requests."""
    leaf = st.loads[len(st.slot) + slot]
    return int(leaf if leaf == NEVER else leaf + change)


@compiled
def move(st: State, session: int, slot: int) -> None:
    before = st.session[session, s.ALIVE]
    if before != NONE:
        st.slot[before, s.SESSIONS] -= 1
    if slot != NONE:
        st.slot[slot, s.SESSIONS] += 1
    st.session[session, s.ALIVE] = slot
