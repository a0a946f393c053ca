"""Compiled: one iteration of a replica, from what is scheduled to what has ended."""

import numpy as np

from sim.serving import state as s
from sim.serving.caches import blocks, keep, reuse, room, share, take
from sim.serving.heaps import push, update
from sim.serving.jit import compiled
from sim.serving.pool import BUCKETS_S, FIRST_BUCKETS_S
from sim.serving.runs import idle, new_blocks, pass_iterations, run_ps, set_end, touch
from sim.serving.state import NEVER, NONE, State
from sim.serving.times import GAIN_BITS, SPARED_BITS

PS_PER_US = 1_000_000
BUCKETS_US = np.array([round(bound * 1e6) for bound in BUCKETS_S], np.int64)
FIRST_BUCKETS_US = np.array([round(bound * 1e6) for bound in FIRST_BUCKETS_S], np.int64)


@compiled
def start(st: State, slot: int) -> None:
    """Gives work to an idle replica that has some."""
    preempted = extend(st, slot)
    budget = prefill(st, slot, st.slot[slot, s.BUDGET] - st.slot[slot, s.DECODING] * (1 + st.slot[slot, s.DRAFTS]))
    while not preempted and budget > 0 and st.slot[slot, s.Q_HEAD] != NONE:
        if st.slot[slot, s.BATCH] >= st.slot[slot, s.MAX_RUNNING] or not admit(st, slot, budget):
            break
        budget -= st.batch[slot, s.WORK, st.slot[slot, s.BATCH] - 1]
    decoding, kv = st.slot[slot, s.DECODING], st.slot[slot, s.KV] + st.slot[slot, s.DECODING]
    tokens, attention = 0, 0
    for i in range(decoding, st.slot[slot, s.BATCH]):
        work, computed = st.batch[slot, s.WORK, i], st.batch[slot, s.COMPUTED, i]
        if work > 0 and like_decoding(st, slot, i):
            decoding += 1
            kv += computed + 1
        else:
            tokens += work
            attention += max(work, st.slot[slot, s.FLOOR]) * (2 * computed + work) if work else 0
    lasts_ps = iteration_ps(st, slot, (decoding, kv), (tokens, attention))
    st.slot[slot, s.STARTED] = st.now[s.NOW]
    st.slot[slot, s.STEPS] = 0
    if st.slot[slot, s.DECODING] == st.slot[slot, s.BATCH] and not preempted:
        slope, k = st.slot[slot, s.C2] * decoding, undisturbed(st, slot)
        st.slot[slot, s.BASE], st.slot[slot, s.SLOPE], st.slot[slot, s.STEPS] = lasts_ps, slope, k
        lasts_ps = run_ps(lasts_ps, slope, k)
    set_end(st, slot, st.now[s.NOW] + lasts_ps)


@compiled
def iteration_ps(st: State, slot: int, decode: tuple[int, int], prefill: tuple[int, int]) -> int:
    """As `Times.iteration_ps`. `decode`: sequences and KV tokens; `prefill`: tokens and attention."""
    (decoding, kv), (tokens, attention) = decode, prefill
    verified = decoding * (1 + st.slot[slot, s.DRAFTS])
    spared_ps = 0
    if not tokens or st.slot[slot, s.DRAFTS]:
        alone_ps = dense_ps(st, slot, verified) + st.slot[slot, s.C0] + st.slot[slot, s.C1] * decoding
        step_ps = (alone_ps << GAIN_BITS) // st.slot[slot, s.GAIN]
        if not tokens:
            return int(step_ps + st.slot[slot, s.C2] * kv)
        spared_ps = alone_ps - step_ps
    time_ps = dense_ps(st, slot, verified + tokens) + st.slot[slot, s.P0]
    time_ps += st.slot[slot, s.P1] * attention + st.slot[slot, s.P2] * tokens
    return int(time_ps + st.slot[slot, s.MIXED_C1] * decoding + st.slot[slot, s.MIXED_C2] * kv - spared_ps)


@compiled
def dense_ps(st: State, slot: int, tokens: int) -> int:
    memory_ps = st.slot[slot, s.A0] + st.slot[slot, s.A1] * tokens
    if st.slot[slot, s.EXPERTS] > 0:
        memory_ps += experts_ps(st.slot[slot, s.EXPERTS], st.slot[slot, s.SPARED], tokens)
    return int(max(memory_ps, st.slot[slot, s.B0] + st.slot[slot, s.B1] * tokens) + st.slot[slot, s.FIXED])


@compiled
def experts_ps(experts: int, spared: int, tokens: int) -> int:
    """As `times.experts_ps`."""
    left = 1 << SPARED_BITS
    while tokens:
        if tokens & 1:
            left = left * spared >> SPARED_BITS
        spared = spared * spared >> SPARED_BITS
        tokens >>= 1
    return int((experts >> 10) * ((1 << SPARED_BITS) - left) >> (SPARED_BITS - 10))


@compiled
def undisturbed(st: State, slot: int) -> int:
    """How many iterations pass until the first request ends, or blocks might run out."""
    to_finish = st.slot[slot, s.FIRST_FINISH] - st.slot[slot, s.ITERATION]
    rounds = room(st, slot) // st.slot[slot, s.DECODING]
    return int(min(to_finish, 1 + (rounds << st.slot[slot, s.BLOCK_BITS])))


@compiled
def extend(st: State, slot: int) -> bool:
    """Blocks for those that decode; where they run out the last of the batch give way. Answers whether any did."""
    need = new_blocks(st, slot, st.slot[slot, s.ITERATION])
    if need <= room(st, slot):
        take(st, slot, need)
        return False
    i, mask = 0, (1 << st.slot[slot, s.BLOCK_BITS]) - 1
    while i < st.slot[slot, s.DECODING]:
        if (st.batch[slot, s.START, i] + st.slot[slot, s.ITERATION]) & mask == 0:
            while room(st, slot) < 1 and i < st.slot[slot, s.BATCH]:
                preempt(st, slot)
            if i == st.slot[slot, s.BATCH]:
                break
            take(st, slot, 1)
        i += 1
    return True


@compiled
def prefill(st: State, slot: int, budget: int) -> int:
    """Work for prompts that are not computed yet; answers what is left of the budget."""
    for i in range(st.slot[slot, s.DECODING], st.slot[slot, s.BATCH]):
        work = min(left_of(st, slot, i), max(budget, 0))
        st.batch[slot, s.WORK, i] = work
        share(st, slot, st.batch[slot, s.COMPUTED, i] + work)
        budget -= 1 + st.slot[slot, s.DRAFTS] if work > 0 and like_decoding(st, slot, i) else work
    return budget


@compiled
def left_of(st: State, slot: int, i: int) -> int:
    """Tokens that a place has to compute before it decodes."""
    target = st.what[st.batch[slot, s.ROW, i], s.PROMPT] + st.batch[slot, s.GENERATED, i]
    return int(target - st.batch[slot, s.COMPUTED, i])


@compiled
def like_decoding(st: State, slot: int, i: int) -> bool:
    """A preempted request that has but its newest token to compute again."""
    return bool(st.batch[slot, s.GENERATED, i] > 0 and left_of(st, slot, i) == 1)


@compiled
def preempt(st: State, slot: int) -> None:
    """The last of the batch gives its blocks back and starts again from the head of the queue."""
    last = st.slot[slot, s.BATCH] - 1
    row = st.batch[slot, s.ROW, last]
    if last < st.slot[slot, s.DECODING]:
        computed = st.batch[slot, s.START, last] + st.slot[slot, s.ITERATION]
        generated = computed - st.what[row, s.PROMPT] + 1
        held = blocks(st, slot, computed)
        stop_decoding(st, slot, last)
        st.slot[slot, s.FIRST_FINISH] = first_finish(st, slot, last)
    else:
        generated, computed = st.batch[slot, s.GENERATED, last], st.batch[slot, s.COMPUTED, last]
        held = blocks(st, slot, st.what[row, s.PROMPT] + generated)
    st.slot[slot, s.BATCH] = last
    keep(st, slot, row, computed, held)
    st.what[row, s.FLAGS] |= s.GAVE_WAY
    st.slot[slot, s.PREEMPTED] += 1
    st.what[row, s.SO_FAR] = generated
    st.what[row, s.STATUS] = s.QUEUED
    head = st.slot[slot, s.Q_HEAD]
    st.what[row, s.NEXT] = head
    st.slot[slot, s.Q_HEAD] = row
    if head == NONE:
        st.slot[slot, s.Q_TAIL] = row
    st.slot[slot, s.Q_LEN] += 1


@compiled
def stop_decoding(st: State, slot: int, i: int) -> None:
    begin = st.batch[slot, s.START, i]
    st.slot[slot, s.PHASES + (begin & ((1 << st.slot[slot, s.BLOCK_BITS]) - 1))] -= 1
    st.slot[slot, s.KV] -= begin + st.slot[slot, s.ITERATION]
    st.slot[slot, s.DECODING] -= 1


@compiled
def first_finish(st: State, slot: int, places: int) -> int:
    first = NEVER
    for i in range(places):
        first = min(first, st.batch[slot, s.FINISH_AT, i])
    return first


@compiled
def admit(st: State, slot: int, budget: int) -> bool:
    """The head of the queue joins the batch if its whole prompt has room, what the cache has of it included."""
    row = st.slot[slot, s.Q_HEAD]
    generated = st.what[row, s.SO_FAR]
    target = st.what[row, s.PROMPT] + generated
    common = st.slot[slot, s.COMMON]
    need = blocks(st, slot, target) - common
    if need > room(st, slot):
        return False
    reused = reuse(st, slot, row, target)
    take(st, slot, need - reused)
    cached = (common + reused) << st.slot[slot, s.BLOCK_BITS]
    st.slot[slot, s.CACHED_TOKENS] += cached
    if st.when[row, s.SCHEDULED] < 0:
        st.when[row, s.SCHEDULED] = st.now[s.NOW]
    st.what[row, s.STATUS] = s.RUNNING
    after = st.what[row, s.NEXT]
    st.slot[slot, s.Q_HEAD] = after
    if after == NONE:
        st.slot[slot, s.Q_TAIL] = NONE
    st.slot[slot, s.Q_LEN] -= 1
    i = st.slot[slot, s.BATCH]
    st.batch[slot, s.ROW, i] = row
    st.batch[slot, s.COMPUTED, i] = cached
    st.batch[slot, s.GENERATED, i] = generated
    st.batch[slot, s.WORK, i] = min(target - cached, budget)
    share(st, slot, cached + st.batch[slot, s.WORK, i])
    st.slot[slot, s.BATCH] = i + 1
    return True


@compiled
def end_iteration(st: State, slot: int) -> None:
    """The iteration, or the last of a run, has ended now."""
    prefilling = st.slot[slot, s.DECODING]
    if st.slot[slot, s.STEPS] > 0:
        pass_iterations(st, slot, st.slot[slot, s.STEPS])
    else:
        st.slot[slot, s.BUSY] += st.now[s.NOW] - st.slot[slot, s.STARTED]
        st.slot[slot, s.ITERATION] += 1
        st.slot[slot, s.KV] += prefilling
        st.slot[slot, s.GENERATED_TOKENS] += prefilling
    if st.slot[slot, s.ITERATION] == st.slot[slot, s.FIRST_FINISH]:
        prefilling = finish_decoding(st, slot)
    if prefilling < st.slot[slot, s.BATCH]:
        end_prefill(st, slot, prefilling)
    idle(st, slot)
    touch(st, slot)


@compiled
def finish_decoding(st: State, slot: int) -> int:
    """Those that have their last token leave, the others close up; answers where the prefilling places begin."""
    left, decoding, iteration = 0, st.slot[slot, s.DECODING], st.slot[slot, s.ITERATION]
    for i in range(st.slot[slot, s.BATCH]):
        if i < decoding and st.batch[slot, s.FINISH_AT, i] == iteration:
            stop_decoding(st, slot, i)
            finish(st, slot, st.batch[slot, s.ROW, i])
            continue
        close_up(st, slot, i, left)
        left += 1
    st.slot[slot, s.BATCH] = left
    st.slot[slot, s.FIRST_FINISH] = first_finish(st, slot, st.slot[slot, s.DECODING])
    return int(st.slot[slot, s.DECODING])


@compiled
def close_up(st: State, slot: int, i: int, to: int) -> None:
    if to < i:
        for field in range(4):
            st.batch[slot, field, to] = st.batch[slot, field, i]


@compiled
def end_prefill(st: State, slot: int, begin: int) -> None:
    """What was computed of prompts; those that are through have their first token and decode from now on."""
    left = begin
    for i in range(begin, st.slot[slot, s.BATCH]):
        row, work = st.batch[slot, s.ROW, i], st.batch[slot, s.WORK, i]
        if work > 0 and not like_decoding(st, slot, i):
            st.slot[slot, s.PROMPT_TOKENS] += work
        st.batch[slot, s.COMPUTED, i] += work
        if work > 0 and left_of(st, slot, i) == 0:
            generated = st.batch[slot, s.GENERATED, i] + 1
            st.slot[slot, s.GENERATED_TOKENS] += 1
            if st.when[row, s.FIRST] < 0:
                st.when[row, s.FIRST] = st.now[s.NOW]
                waited_us = (st.now[s.NOW] - st.when[row, s.ROUTED]) // PS_PER_US
                st.slot[slot, s.FIRST_BUCKET + bucket_of(FIRST_BUCKETS_US, waited_us)] += 1
            if generated == st.what[row, s.OUTPUT]:
                finish(st, slot, row)
                continue
            decode_from_now(st, slot, i)
        close_up(st, slot, i, left)
        left += 1
    st.slot[slot, s.BATCH] = left


@compiled
def decode_from_now(st: State, slot: int, i: int) -> None:
    row, iteration = st.batch[slot, s.ROW, i], st.slot[slot, s.ITERATION]
    computed = st.batch[slot, s.COMPUTED, i]
    begin = computed - iteration
    finish_at = st.what[row, s.PROMPT] + st.what[row, s.OUTPUT] - 1 - begin
    st.batch[slot, s.START, i] = begin
    st.batch[slot, s.FINISH_AT, i] = finish_at
    st.slot[slot, s.PHASES + (begin & ((1 << st.slot[slot, s.BLOCK_BITS]) - 1))] += 1
    st.slot[slot, s.KV] += computed
    st.slot[slot, s.DECODING] += 1
    st.slot[slot, s.FIRST_FINISH] = min(st.slot[slot, s.FIRST_FINISH], finish_at)


@compiled
def bucket_of(bounds_us: s.I64, time_us: int) -> int:
    bucket = 0
    while bucket < len(bounds_us) and time_us > bounds_us[bucket]:
        bucket += 1
    return bucket


@compiled
def finish(st: State, slot: int, row: int) -> None:
    """The request has its last token; what it computed stays as its session's cache."""
    now_ps, routed_ps = st.now[s.NOW], st.when[row, s.ROUTED]
    st.what[row, s.STATUS] = s.FINISHED
    st.when[row, s.DONE] = now_ps
    latency_us = (now_ps - routed_ps) // PS_PER_US
    st.slot[slot, s.FINISHES] += 1
    st.slot[slot, s.LATENCY_US] += latency_us
    st.slot[slot, s.WAITED_US] += (st.when[row, s.SCHEDULED] - routed_ps) // PS_PER_US
    st.slot[slot, s.BUCKET + bucket_of(BUCKETS_US, latency_us)] += 1
    change_load(st, slot, -1)
    computed = st.what[row, s.PROMPT] + st.what[row, s.OUTPUT] - 1
    keep(st, slot, row, computed, blocks(st, slot, computed))
    session = st.what[row, s.SESSION]
    if session == NONE:
        return
    st.session[session, s.HOME] = slot
    st.session[session, s.LAST] = row
    st.session[session, s.KNOWN] = computed
    follows = st.what[row, s.FLAGS] & s.FOLLOWS
    if follows:
        push(st, now_ps + st.when[row + 1, s.ARRIVAL], row + 1)
    if not follows or st.what[row + 1, s.FLAGS] & s.HUMAN:
        move(st, session, NONE)


@compiled
def change_load(st: State, slot: int, change: int) -> None:
    """Only replicas that take requests are in the tree of loads."""
    leaf = st.tree[s.LOAD_TREE, len(st.slot) + slot]
    if leaf != NEVER:
        update(st.tree, s.LOAD_TREE, slot, leaf + change)


@compiled
def move(st: State, session: int, slot: int) -> None:
    """A session is alive in one replica, or nowhere (NONE)."""
    before = st.session[session, s.ALIVE]
    if before != NONE:
        st.slot[before, s.SESSIONS] -= 1
    if slot != NONE:
        st.slot[slot, s.SESSIONS] += 1
    st.session[session, s.ALIVE] = slot
