"""All that the compiled engine knows, in few arrays: each call that is not inlined pays for every one of them.

A replica's batch is in the order of admission. Those that decode are always its first places, because the token budget
goes to earlier places first: a later prompt is never computed before an earlier one. All of them take part in each
iteration, so what each has computed is a constant plus the replica's count of iterations, and nothing of them changes
while iterations pass.
"""

from dataclasses import astuple
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from sim.serving.pool import COUNTERS, Counter, Shape, Status
from sim.serving.times import LARGEST_BLOCK
from sim.serving.turns import Turns

NEVER: Final = 2**62
NONE: Final = -1

I64 = NDArray[np.int64]
I32 = NDArray[np.int32]

# State.now
NOW, NEXT_FIRST, FIRST_TURNS, LATER, HELD_HEAD, HELD_TAIL, HELD, TOUCHED, COMMON_TOKENS = range(9)
# State.when
ARRIVAL, ROUTED, SCHEDULED, FIRST, DONE = range(5)  # ARRIVAL of a turn that has not come: how long it waits
# State.what
PROMPT, OUTPUT, SESSION, STATUS, SO_FAR, NEXT, ORDER, FLAGS, KEPT, LRU_PREV, LRU_NEXT = range(11)
# FLAGS: the next row is the session's next turn; the wait before it is for a person; it gave way once
FOLLOWS, HUMAN, GAVE_WAY = 1, 2, 4
# State.session; the last two are a binary heap of (time, row) and belong to no session
PINNED, ALIVE, HOME, LAST, KNOWN, HEAP_PS, HEAP_ROW = range(7)
# State.batch
ROW, START, FINISH_AT, WORK = range(4)
COMPUTED, GENERATED = START, FINISH_AT  # of places that do not decode yet
# State.tree
END_TREE, LOAD_TREE = range(2)
# State.slot
USED, READY, FREE, CACHED, HELD_BLOCKS, Q_HEAD, Q_TAIL, Q_LEN, BATCH, DECODING = range(10)
ENDS, STARTED, BUSY, STEPS, BASE, SLOPE, ITERATION, KV, FIRST_FINISH, SESSIONS = range(10, 20)
LRU_HEAD, LRU_TAIL, IS_TOUCHED, NEXT_TOUCHED, COMMON = range(20, 25)  # COMMON: blocks, from when they are computed
SHAPE: Final = 25
A0, A1, EXPERTS, SPARED, B0, B1, C0, C1, C2, MIXED_C1, MIXED_C2, P0, P1, P2, FLOOR, FIXED, DRAFTS, GAIN = range(
    SHAPE, SHAPE + 18
)
KV_BLOCKS, MAX_RUNNING, BUDGET, CONTEXT, MAX_REQUESTS, BLOCK_BITS = range(SHAPE + 18, SHAPE + 24)
PHASES: Final = SHAPE + 24  # decoding places by START modulo the tokens of a block, which are 1 << BLOCK_BITS
COUNTS: Final = PHASES + LARGEST_BLOCK
SLOT_COLUMNS: Final = COUNTS + COUNTERS
# plain integers, because machine code wants those
HELD_AT_GATEWAY, QUEUED, RUNNING = int(Status.HELD), int(Status.QUEUED), int(Status.RUNNING)
FINISHED, DROPPED, REFUSED = int(Status.DONE), int(Status.DROPPED), int(Status.REFUSED)
PROMPT_TOKENS, CACHED_TOKENS = COUNTS + int(Counter.PROMPT_TOKENS), COUNTS + int(Counter.CACHED_TOKENS)
GENERATED_TOKENS, ARRIVED = COUNTS + int(Counter.GENERATED_TOKENS), COUNTS + int(Counter.ARRIVED)
FINISHES, LATENCY_US = COUNTS + int(Counter.FINISHED), COUNTS + int(Counter.LATENCY_US)
WAITED_US, PREEMPTED = COUNTS + int(Counter.WAITED_US), COUNTS + int(Counter.PREEMPTED)
LOST_TOKENS, BUCKET = COUNTS + int(Counter.LOST_TOKENS), COUNTS + int(Counter.BUCKET)
FIRST_BUCKET = COUNTS + int(Counter.FIRST_BUCKET)
BUSY_US = COUNTS + int(Counter.BUSY_US)  # filled where it is looked at


class State(NamedTuple):
    when: I64  # (n, 5)
    what: I32  # (n, 11)
    session: I64  # (sessions + 1, 7)
    slot: I64  # (slots, SLOT_COLUMNS)
    batch: I64  # (slots, 4, places)
    tree: I64  # (2, 2 x slots)
    now: I64  # (9,)


def shape_row(shape: Shape) -> list[int]:
    limits = [shape.kv_blocks, shape.max_running, shape.token_budget, shape.context_tokens, shape.max_requests]
    return [*astuple(shape.times), *limits, shape.block_tokens.bit_length() - 1]


def initial(turns: Turns, slots: int, places: int) -> State:
    """`slots`: a power of two."""
    n, first = len(turns), turns.first()
    when = np.full((n, 5), -1, np.int64)
    when[:, ARRIVAL] = np.where(turns.arrival_ps >= 0, turns.arrival_ps, turns.wait_ps)
    what = np.zeros((n, 11), np.int32)
    for column, values in ((PROMPT, turns.prompt), (OUTPUT, turns.output), (SESSION, turns.session)):
        what[:, column] = values
    what[:, NEXT] = NONE
    what[: len(first), ORDER] = first
    what[:, FLAGS] = turns.follows * FOLLOWS + turns.human * HUMAN
    session = np.full((turns.sessions + 1, 7), NONE, np.int64)
    session[:, KNOWN] = 0
    now = np.zeros(9, np.int64)
    now[[HELD_HEAD, HELD_TAIL, TOUCHED]] = NONE
    now[FIRST_TURNS] = len(first)
    now[COMMON_TOKENS] = turns.common_tokens
    batch, tree = np.zeros((slots, 4, places), np.int64), np.full((2, 2 * slots), NEVER, np.int64)
    return State(when, what, session, empty_slots(slots), batch, tree, now)


def empty_slots(count: int) -> I64:
    slot = np.zeros((count, SLOT_COLUMNS), np.int64)
    slot[:, [Q_HEAD, Q_TAIL, ENDS, STARTED, LRU_HEAD, LRU_TAIL, NEXT_TOUCHED]] = NONE
    slot[:, FIRST_FINISH] = NEVER
    return slot


def grown(state: State, slots: int, places: int) -> State:
    """The same with room for more replicas, or larger batches."""
    old = len(state.slot)
    slot = empty_slots(slots)
    slot[:old] = state.slot
    batch = np.zeros((slots, 4, places), np.int64)
    batch[:old, :, : state.batch.shape[2]] = state.batch
    tree = np.full((2, 2 * slots), NEVER, np.int64)
    tree[:, slots : slots + old] = state.tree[:, old : 2 * old]
    for i in range(slots - 1, 0, -1):
        tree[:, i] = np.minimum(tree[:, 2 * i], tree[:, 2 * i + 1])
    return state._replace(slot=slot, batch=batch, tree=tree)
