"""All that the compiled engine knows, as arrays: requests, sessions, slots of replicas, places in their batches."""

from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from sim.serving.pool import BUCKETS_S, COUNTERS, PS_PER_US, Counter, Shape, Status
from sim.serving.turns import PS_PER_S, Turns

NEVER: Final = 2**62
NONE: Final = -1

I64 = NDArray[np.int64]

# State.now: scalars that change
NOW, NEXT_FIRST, LATER, HELD_HEAD, HELD_TAIL, HELD, TOUCHED = range(7)
# columns of State.shape
A0, A1, B0, B1, C0, C1, C2, MIXED_C1, MIXED_C2, P0, P1, P2, FLOOR, FIXED, KV_BLOCKS, MAX_RUNNING, BUDGET, CONTEXT = (
    range(18)
)
# columns of State.slot
USED, READY, SHAPE, FREE, CACHED, Q_HEAD, Q_TAIL, Q_LEN, BATCH, ENDS, STARTED, BUSY, SESSIONS = range(13)
STEPS, BASE, SLOPE, LRU_HEAD, LRU_TAIL, IS_TOUCHED = range(13, 19)
SLOT_COLUMNS: Final = 19
# last axis of State.batch
ROW, COMPUTED, GENERATED, BLOCKS, WORK = range(5)
# columns of State.request
STATUS, ARRIVAL, ROUTED, SCHEDULED, FIRST, DONE, SO_FAR, NEXT = range(8)
# columns of State.session
PINNED, ALIVE, HOME, KNOWN, KEPT, LRU_PREV, LRU_NEXT = range(7)
# plain integers, because machine code wants those
HELD_AT_GATEWAY, QUEUED, RUNNING = int(Status.HELD), int(Status.QUEUED), int(Status.RUNNING)
FINISHED, DROPPED, REFUSED = int(Status.DONE), int(Status.DROPPED), int(Status.REFUSED)
PROMPT_TOKENS, CACHED_TOKENS = int(Counter.PROMPT_TOKENS), int(Counter.CACHED_TOKENS)
GENERATED_TOKENS, ARRIVED = int(Counter.GENERATED_TOKENS), int(Counter.ARRIVED)
FINISHES, LATENCY_US, WAITED_US = int(Counter.FINISHED), int(Counter.LATENCY_US), int(Counter.WAITED_US)
BUSY_US, PREEMPTED, LOST_TOKENS = int(Counter.BUSY_US), int(Counter.PREEMPTED), int(Counter.LOST_TOKENS)
BUCKET = int(Counter.BUCKET)


class State(NamedTuple):
    prompt: I64  # (n,)
    output: I64  # (n,)
    session_of: I64  # (n,)
    arrival: I64  # (n,)
    wait: I64  # (n,)
    human: NDArray[np.bool_]  # (n,)
    follows: NDArray[np.bool_]  # (n,)
    first_rows: I64  # (first turns,)
    now: I64  # (7,)
    later_ps: I64  # (sessions + 1,) binary heap of (arrival, row)
    later_row: I64  # (sessions + 1,)
    request: I64  # (n, 8)
    session: I64  # (sessions, 7)
    slot: I64  # (slots, SLOT_COLUMNS)
    counters: I64  # (slots, COUNTERS)
    batch: I64  # (slots, places, 5)
    shape: I64  # (shapes, 18)
    ends: I64  # (2 x slots,) tournament tree: when an iteration ends
    loads: I64  # (2 x slots,) tournament tree: requests in ready replicas
    touched: I64  # (slots,) idle slots that may have to start
    buckets_us: I64  # (BUCKETS_S,)


def shape_row(shape: Shape) -> list[int]:
    t = shape.times
    times = [t.a0, t.a1, t.b0, t.b1, t.c0, t.c1, t.c2, t.mixed_c1, t.mixed_c2, t.p0, t.p1, t.p2, t.floor, t.fixed]
    return [*times, shape.kv_blocks, shape.max_running, shape.token_budget, shape.context_tokens]


def initial(turns: Turns, slots: int, places: int) -> State:
    """`slots`: a power of two."""
    n, sessions = len(turns), turns.sessions
    request = np.full((n, 8), -1, np.int64)
    request[:, STATUS] = 0
    request[:, SO_FAR] = 0
    session = np.full((sessions, 7), NONE, np.int64)
    session[:, [KNOWN, KEPT]] = 0
    now = np.zeros(7, np.int64)
    now[[HELD_HEAD, HELD_TAIL]] = NONE
    return State(
        prompt=turns.prompt,
        output=turns.output,
        session_of=turns.session,
        arrival=turns.arrival_ps,
        wait=turns.wait_ps,
        human=turns.human,
        follows=turns.follows,
        first_rows=turns.first().astype(np.int64),
        now=now,
        later_ps=np.zeros(sessions + 1, np.int64),
        later_row=np.zeros(sessions + 1, np.int64),
        request=request,
        session=session,
        slot=empty_slots(slots),
        counters=np.zeros((slots, COUNTERS), np.int64),
        batch=np.zeros((slots, places, 5), np.int64),
        shape=np.zeros((0, 18), np.int64),
        ends=np.full(2 * slots, NEVER, np.int64),
        loads=np.full(2 * slots, NEVER, np.int64),
        touched=np.zeros(slots, np.int64),
        buckets_us=np.array([round(s * PS_PER_S / PS_PER_US) for s in BUCKETS_S], np.int64),
    )


def empty_slots(count: int) -> I64:
    slot = np.zeros((count, SLOT_COLUMNS), np.int64)
    slot[:, [Q_HEAD, Q_TAIL, ENDS, STARTED, LRU_HEAD, LRU_TAIL]] = NONE
    return slot


def grown(state: State, slots: int, places: int) -> State:
    """The same with room for more replicas, or larger batches."""
    old = len(state.slot)
    slot = empty_slots(slots)
    slot[:old] = state.slot
    counters = np.zeros((slots, COUNTERS), np.int64)
    counters[:old] = state.counters
    batch = np.zeros((slots, places, 5), np.int64)
    batch[:old, : state.batch.shape[1]] = state.batch
    touched = np.zeros(slots, np.int64)
    touched[: len(state.touched)] = state.touched
    return state._replace(
        slot=slot,
        counters=counters,
        batch=batch,
        touched=touched,
        ends=_regrown(state.ends, old, slots),
        loads=_regrown(state.loads, old, slots),
    )


def _regrown(tree: I64, old: int, new: int) -> I64:
    grown_tree = np.full(2 * new, NEVER, np.int64)
    grown_tree[new : new + old] = tree[old : 2 * old]
    for i in range(new - 1, 0, -1):
        grown_tree[i] = min(grown_tree[2 * i], grown_tree[2 * i + 1])
    return grown_tree
