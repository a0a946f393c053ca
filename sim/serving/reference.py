"""The plain engine: one iteration after the other, as vLLM's v1 scheduler does it. Written to be read and believed.

Modelled: continuous batching in admission order, chunked prefill under a token budget, blocks of tokens, admission of
whole prompts only, preemption from the tail, and a prefix cache: what a request computed stays, when it ends or
gives way, in blocks that nobody holds, until those are needed; the longest unused go first, each from its end. What
all prompts begin with is there once, from when the first of them computes it until the replica goes: blocks are only
evicted for a request, and each request uses these.
Source: vllm-project/vllm `vllm/v1/core/sched/scheduler.py`, `kv_cache_manager.py` and `block_pool.py` beside it.
"""

from bisect import bisect_left
from collections import OrderedDict, deque
from dataclasses import dataclass, field
from heapq import heappop, heappush

import numpy as np
from numpy.typing import NDArray

from sim.serving.pool import (
    BUCKETS_S,
    COLUMNS,
    COUNTERS,
    FIRST_BUCKETS_S,
    PS_PER_US,
    Counter,
    Outcome,
    Readout,
    Shape,
    Status,
)
from sim.serving.turns import NO_SESSION, PS_PER_S, Turns

_BUCKETS_US = [round(s * PS_PER_S / PS_PER_US) for s in BUCKETS_S]
_FIRST_BUCKETS_US = [round(s * PS_PER_S / PS_PER_US) for s in FIRST_BUCKETS_S]


@dataclass(slots=True)
class Running:
    """A request in the batch. Its KV holds `context` tokens; it computes until it has prompt + `generated` of them."""

    row: int
    target: int
    context: int
    generated: int
    held: int  #: blocks, without those of the common prefix

    @property
    def decodes(self) -> bool:
        return self.generated > 0 and self.target - self.context == 1


@dataclass(slots=True)
class Replica:
    shape: Shape
    free: int  #: blocks that nobody holds
    ready: bool = True
    queue: deque[int] = field(default_factory=deque)
    batch: list[Running] = field(default_factory=list)
    work: list[tuple[Running, int]] = field(default_factory=list)  #: (request, tokens) of the iteration under way
    ends_ps: int = -1  #: -1: idle
    started_ps: int = -1
    busy_ps: int = 0  #: of iterations that ended
    cached: OrderedDict[int, int] = field(default_factory=OrderedDict)  #: row -> blocks, longest unused first
    sessions: int = 0
    common: int = 0  #: blocks of the common prefix, from when it is computed
    counters: NDArray[np.int64] = field(default_factory=lambda: np.zeros(COUNTERS, np.int64))

    @property
    def load(self) -> int:
        return len(self.queue) + len(self.batch)

    @property
    def used(self) -> int:
        """Blocks of running requests; all of them use the common prefix."""
        return sum(r.held for r in self.batch) + (self.common if self.batch else 0)

    def blocks(self, tokens: int) -> int:
        return -(-tokens // self.shape.block_tokens)

    def shown(self) -> NDArray[np.int64]:
        counters = self.counters.copy()
        counters[Counter.BUSY_US] = self.busy_ps // PS_PER_US
        return counters


class ReferencePool:
    """See `Pool`."""

    def __init__(self, turns: Turns) -> None:
        n = len(turns)
        self.turns = turns
        self.now_ps = 0
        self._first = turns.first().tolist()
        self._next_first = 0
        self._later: list[tuple[int, int]] = []  # (arrival, row)
        self._held: deque[int] = deque()
        self._replicas: list[Replica | None] = []
        self._gone = np.zeros(COUNTERS, np.int64)
        self._generated = [0] * n
        self._prompt = turns.prompt.tolist()
        self._output = turns.output.tolist()
        self._session = turns.session.tolist()
        self._home = [-1] * turns.sessions  # the slot of its last turn that ended
        self._last = [-1] * turns.sessions  # that turn
        self._pinned = [-1] * turns.sessions  # the slot that its turns go to
        self._alive = [-1] * turns.sessions  # the slot that counts it
        self._context = [0] * turns.sessions  # tokens that it computed
        self._preempted: set[int] = set()
        self._status = np.zeros(n, np.int8)
        self._times = {name: np.full(n, -1, np.int64) for name in ("arrival", "routed", "scheduled", "first", "done")}

    # -- the instant ---------------------------------------------------------------------------------------------------

    def run_until(self, until_ps: int) -> None:
        self._start_idle()
        while (next_ps := self._next_ps()) is not None and next_ps <= until_ps:
            self.now_ps = next_ps
            for slot, replica in enumerate(self._replicas):
                if replica is not None and replica.ends_ps == next_ps:
                    self._end_iteration(slot, replica)
            while (row := self._pop_arrival()) is not None:
                self._arrive(row)
            self._start_idle()
        self.now_ps = until_ps

    def _next_ps(self) -> int | None:
        ends = [r.ends_ps for r in self._replicas if r is not None and r.ends_ps >= 0]
        arrival = self._peek_arrival()
        return min([*ends, *([arrival[0]] if arrival else [])], default=None)

    def _peek_arrival(self) -> tuple[int, int] | None:
        later = self._later[0] if self._later else None
        if self._next_first == len(self._first):
            return later
        row = self._first[self._next_first]
        first = (int(self.turns.arrival_ps[row]), row)
        return first if later is None else min(first, later)

    def _pop_arrival(self) -> int | None:
        """The next request if it comes now."""
        arrival = self._peek_arrival()
        if arrival is None or arrival[0] > self.now_ps:
            return None
        if self._later and self._later[0] == arrival:
            heappop(self._later)
        else:
            self._next_first += 1
        return arrival[1]

    # -- the router ----------------------------------------------------------------------------------------------------

    def _arrive(self, row: int) -> None:
        self._times["arrival"][row] = self.now_ps
        if not self._route(row):
            self._status[row] = Status.HELD
            self._held.append(row)

    def _route(self, row: int) -> bool:
        """To the session's replica if it is ready, else to the least loaded one, the lowest slot among equals."""
        session = self._session[row]
        slot = self._pinned[session] if session != NO_SESSION else -1
        if slot < 0 or not self._is_ready(slot):
            ready = [s for s in range(len(self._replicas)) if self._is_ready(s)]
            if not ready:
                return False
            slot = min(ready, key=lambda s: (self._at(s).load, s))
        replica = self._at(slot)
        replica.counters[Counter.ARRIVED] += 1
        self._times["routed"][row] = self.now_ps
        whole = self._prompt[row] + self._output[row]
        shape = replica.shape
        refused = (
            whole > shape.context_tokens
            or replica.blocks(whole) > shape.kv_blocks
            or replica.load >= shape.max_requests
        )
        self._status[row] = Status.REFUSED if refused else Status.QUEUED
        if session != NO_SESSION:
            self._move(session, -1 if refused else slot)
            self._pinned[session] = slot
        if not refused:
            replica.queue.append(row)
        return True

    def _move(self, session: int, slot: int) -> None:
        """A session is alive in one replica, or nowhere (-1): before it, between tasks and after it."""
        before = self._alive[session]
        if before >= 0:
            self._at(before).sessions -= 1
        if slot >= 0:
            self._at(slot).sessions += 1
        self._alive[session] = slot

    def _is_ready(self, slot: int) -> bool:
        replica = self._replicas[slot]
        return replica is not None and replica.ready

    def _at(self, slot: int) -> Replica:
        replica = self._replicas[slot]
        if replica is None:
            raise ValueError(f"slot {slot} has no replica")
        return replica

    # -- one iteration -------------------------------------------------------------------------------------------------

    def _start_idle(self) -> None:
        for slot, replica in enumerate(self._replicas):
            if replica is not None and replica.ends_ps < 0 and replica.load:
                self._start(slot, replica)

    def _start(self, slot: int, replica: Replica) -> None:
        shape, budget, work = replica.shape, replica.shape.token_budget, list[tuple[Running, int]]()
        preempted, i = False, 0
        while i < len(replica.batch) and budget > 0:
            running = replica.batch[i]
            tokens = min(running.target - running.context, budget)
            while replica.blocks(running.context + tokens) > replica.common + running.held:
                if self._take(replica, 1):
                    running.held += 1
                    continue
                preempted = True
                if self._preempt(replica) is running:
                    break
            if i >= len(replica.batch):
                break
            self._share(replica, running, running.context + tokens)
            work.append((running, tokens))
            budget -= 1 + shape.times.drafts if running.decodes else tokens
            i += 1
        while not preempted and replica.queue and budget > 0 and len(replica.batch) < shape.max_running:
            admitted = self._admit(slot, replica, replica.queue[0])
            if admitted is None:
                break
            replica.queue.popleft()
            replica.batch.append(admitted)
            tokens = min(admitted.target - admitted.context, budget)
            self._share(replica, admitted, admitted.context + tokens)
            work.append((admitted, tokens))
            budget -= tokens
        decoding = [r for r, _ in work if r.decodes]
        chunks = [(tokens, r.context) for r, tokens in work if not r.decodes]
        kv_tokens = sum(r.context + 1 for r in decoding)
        replica.work = work
        replica.started_ps = self.now_ps
        replica.ends_ps = self.now_ps + shape.times.iteration_ps(len(decoding), kv_tokens, chunks)

    def _admit(self, slot: int, replica: Replica, row: int) -> Running | None:
        """Room for the whole prompt, what the cache has of it included, or None."""
        target = self._prompt[row] + self._generated[row]
        need = replica.blocks(target) - replica.common
        if need > replica.free + sum(replica.cached.values()):
            return None
        reused = self._reuse(slot, replica, row, target)
        self._take(replica, need - reused)
        cached = (replica.common + reused) * replica.shape.block_tokens
        if self._times["scheduled"][row] < 0:
            self._times["scheduled"][row] = self.now_ps
        replica.counters[Counter.CACHED_TOKENS] += cached
        self._status[row] = Status.RUNNING
        return Running(row, target, cached, self._generated[row], need)

    def _reuse(self, slot: int, replica: Replica, row: int, target: int) -> int:
        """Takes over computed blocks: of the request itself if it gave way, else of its session's last turn.

        Those of the common prefix are not among them.
        """
        block = replica.shape.block_tokens
        session, source, known = self._session[row], row, (target - 1) // block - replica.common
        if row not in self._preempted:
            if session == NO_SESSION or self._context[session] >= target:  # a shorter prompt is another one
                return 0
            source, known = self._last[session], max(0, self._context[session] // block - replica.common)
            if self._home[session] != slot:
                source = -1
        kept = replica.cached.pop(source, 0)
        reused = min(kept, known)
        replica.free += kept - reused
        if row not in self._preempted:
            replica.counters[Counter.LOST_TOKENS] += (known - reused) * block
        return reused

    def _take(self, replica: Replica, count: int) -> bool:
        """Blocks for a request; caches are evicted from the longest unused, from its end."""
        if count > replica.free + sum(replica.cached.values()):
            return False
        while replica.free < count:
            row, cached = next(iter(replica.cached.items()))
            part = min(cached, count - replica.free)
            replica.free += part
            replica.cached[row] -= part
            if part == cached:
                del replica.cached[row]
        replica.free -= count
        return True

    @staticmethod
    def _keep(replica: Replica, running: Running) -> None:
        """What it computed stays in whole blocks, until they are needed."""
        kept = running.context // replica.shape.block_tokens - replica.common
        replica.free += running.held - kept
        if kept:
            replica.cached[running.row] = kept

    def _preempt(self, replica: Replica) -> Running:
        """The last of the batch gives its blocks back and starts again from the head of the queue."""
        victim = replica.batch.pop()
        self._keep(replica, victim)
        self._preempted.add(victim.row)
        replica.counters[Counter.PREEMPTED] += 1
        self._generated[victim.row] = victim.generated
        self._status[victim.row] = Status.QUEUED
        replica.queue.appendleft(victim.row)
        return victim

    def _share(self, replica: Replica, running: Running, reached: int) -> None:
        """The first request: its blocks of the common prefix are everybody's from now on.

        `reached`: tokens that it will have computed when the iteration ends. A layer writes all keys and values before
        it reads any, so that those admitted in the same iteration find them: vLLM's KVCacheManager.allocate_slots
        enters blocks when they are scheduled. Until then it is alone, for a part of a prompt takes all of the budget.
        """
        common = self.turns.common_tokens // replica.shape.block_tokens
        if replica.common or reached < common * replica.shape.block_tokens:
            return
        replica.common = common
        running.held -= common

    def _end_iteration(self, slot: int, replica: Replica) -> None:
        replica.busy_ps += self.now_ps - replica.started_ps
        replica.ends_ps = -1
        for running, tokens in replica.work:
            if not running.decodes:
                replica.counters[Counter.PROMPT_TOKENS] += tokens
            running.context += tokens
            if running.context == running.target:
                running.generated += 1
                running.target += 1
                replica.counters[Counter.GENERATED_TOKENS] += 1
                if self._times["first"][running.row] < 0:
                    self._times["first"][running.row] = self.now_ps
                    waited_us = (self.now_ps - int(self._times["routed"][running.row])) // PS_PER_US
                    bucket = bisect_left(_FIRST_BUCKETS_US, waited_us)
                    replica.counters[Counter.FIRST_BUCKET + bucket] += 1
                if running.generated == self._output[running.row]:
                    self._finish(slot, replica, running)
        replica.work = []
        replica.batch = [r for r in replica.batch if self._status[r.row] == Status.RUNNING]

    def _finish(self, slot: int, replica: Replica, running: Running) -> None:
        row, turns, counters = running.row, self.turns, replica.counters
        self._status[row] = Status.DONE
        self._times["done"][row] = self.now_ps
        routed_ps = int(self._times["routed"][row])
        latency_us = (self.now_ps - routed_ps) // PS_PER_US
        counters[Counter.FINISHED] += 1
        counters[Counter.LATENCY_US] += latency_us
        counters[Counter.WAITED_US] += (int(self._times["scheduled"][row]) - routed_ps) // PS_PER_US
        counters[Counter.BUCKET + bisect_left(_BUCKETS_US, latency_us)] += 1
        self._keep(replica, running)
        session = self._session[row]
        if session == NO_SESSION:
            return
        self._home[session], self._last[session], self._context[session] = slot, row, running.context
        if turns.follows[row]:
            heappush(self._later, (self.now_ps + int(turns.wait_ps[row + 1]), row + 1))
        if not turns.follows[row] or turns.human[row + 1]:
            self._move(session, -1)

    # -- replicas come and go ------------------------------------------------------------------------------------------

    def add(self, shape: Shape) -> int:
        replica = Replica(shape, shape.kv_blocks)
        slot = next((s for s, r in enumerate(self._replicas) if r is None), len(self._replicas))
        self._replicas[slot : slot + 1] = [replica]
        held, self._held = self._held, deque()
        for row in held:
            self._route(row)
        return slot

    def drain(self, slot: int) -> None:
        self._at(slot).ready = False

    def remove(self, slot: int) -> int:
        replica = self._at(slot)
        rows = [*(r.row for r in replica.batch), *replica.queue]
        for row in rows:
            self._status[row] = Status.DROPPED
        for session, pinned in enumerate(self._pinned):
            if self._home[session] == slot:
                self._home[session] = -1
            if pinned == slot:
                self._pinned[session] = -1
            if self._alive[session] == slot:
                self._alive[session] = -1
        self._gone += replica.shown()
        self._replicas[slot] = None
        return len(rows)

    def load(self, slot: int) -> int:
        return self._at(slot).load

    # -- what can be seen ----------------------------------------------------------------------------------------------

    def read(self, slots: tuple[int, ...]) -> Readout:
        rows = [
            [len(r.queue), len(r.batch), r.sessions, r.used, r.shape.kv_blocks, *r.shown().tolist()]
            for r in map(self._at, slots)
        ]
        return Readout(slots, np.array(rows, np.int64).reshape(-1, COLUMNS))

    def held(self) -> int:
        return len(self._held)

    def held_sessions(self) -> int:
        held = {self._session[row] for row in self._held} - {NO_SESSION}
        return sum(self._alive[session] < 0 for session in held)

    def totals(self) -> NDArray[np.int64]:
        return self._gone + sum((r.shown() for r in self._replicas if r), np.zeros(COUNTERS, np.int64))

    def outcome(self) -> Outcome:
        columns = (self._times[name].copy() for name in ("arrival", "routed", "scheduled", "first", "done"))
        return Outcome(self._status.copy(), *columns)
