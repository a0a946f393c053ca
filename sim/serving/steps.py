"""The compiled engine's steps. What they do is what `reference.py` does; how they do it differs in one thing: while a batch
only decodes, iterations have a closed form, and one step stands for as many as pass undisturbed.

    T(k) = k base + slope k (k - 1) / 2,   base: the first iteration, slope: c2 x batch

Such a run is settled up to the present where something looks at it or takes its blocks, and cut where a request comes
that could join it.
"""

from sim.serving import state as s
from sim.serving.heaps import lowest, pop, push, update
from sim.serving.jit import compiled
from sim.serving.state import NEVER, NONE, State
from sim.serving.times import BLOCK_TOKENS

PS_PER_US = 1_000_000


@compiled
def blocks(tokens: int) -> int:
    return (tokens + BLOCK_TOKENS - 1) // BLOCK_TOKENS


# -- caches --------------------------------------------------------------------------------------------------------------


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
def take(st: State, slot: int, count: int) -> bool:
    """Blocks for a request; caches are evicted from the longest unused, from its end."""
    free = st.slot[slot, s.FREE]
    if count > free + st.slot[slot, s.CACHED]:
        return False
    while free < count:
        session = st.slot[slot, s.LRU_HEAD]
        part = min(st.session[session, s.KEPT], count - free)
        free += part
        st.slot[slot, s.CACHED] -= part
        st.session[session, s.KEPT] -= part
        if st.session[session, s.KEPT] == 0:
            unlink(st, slot, session)
    st.slot[slot, s.FREE] = free - count
    return True


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


# -- runs of decoding iterations -----------------------------------------------------------------------------------------


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
    """Brings a run up to the present. Where an iteration ends right now, `restarted` says whether the next one has begun;
    if not, the slot is left idle and will be started."""
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


# -- one iteration -------------------------------------------------------------------------------------------------------


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
    return place[s.GENERATED] > 0 and left == 1


@compiled
def iteration_ps(shape: s.I64, decoding: int, kv: int, tokens: int, attention: int) -> int:
    """As `Times.iteration_ps`; `tokens` and `attention` are the prefill's."""
    n = decoding + tokens
    time_ps = max(shape[s.A0] + shape[s.A1] * n, shape[s.B0] + shape[s.B1] * n) + shape[s.FIXED]
    if tokens:
        time_ps += shape[s.P0] + shape[s.P1] * attention + shape[s.P2] * tokens
        return time_ps + shape[s.MIXED_C1] * decoding + shape[s.MIXED_C2] * kv
    return time_ps + shape[s.C0] + shape[s.C1] * decoding + shape[s.C2] * kv


@compiled
def undisturbed(st: State, slot: int) -> int:
    """How many iterations pass until the first request ends, or blocks might run out."""
    batch = st.slot[slot, s.BATCH]
    k = NEVER
    for i in range(batch):
        place = st.batch[slot, i]
        k = min(k, st.output[place[s.ROW]] - place[s.GENERATED])
    room = st.slot[slot, s.FREE] + st.slot[slot, s.CACHED]
    return min(k, 1 + BLOCK_TOKENS * (room // batch))


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
    latency_us = (now_ps - request[s.ARRIVAL]) // PS_PER_US
    counters[s.FINISHES] += 1
    counters[s.LATENCY_US] += latency_us
    counters[s.WAITED_US] += (request[s.SCHEDULED] - request[s.ARRIVAL]) // PS_PER_US
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


# -- the router ----------------------------------------------------------------------------------------------------------


@compiled
def loaded(st: State, slot: int, change: int) -> int:
    """The slot's leaf in the tree of loads: NEVER where it takes no requests."""
    leaf = st.loads[len(st.slot) + slot]
    return leaf if leaf == NEVER else leaf + change


@compiled
def move(st: State, session: int, slot: int) -> None:
    before = st.session[session, s.ALIVE]
    if before != NONE:
        st.slot[before, s.SESSIONS] -= 1
    if slot != NONE:
        st.slot[slot, s.SESSIONS] += 1
    st.session[session, s.ALIVE] = slot


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


@compiled
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


# -- the instant ---------------------------------------------------------------------------------------------------------


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


@compiled
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


@compiled
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
    return dropped
