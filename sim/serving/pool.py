"""What both engines offer: a pool of replicas behind a router, advanced from instant to instant."""

from dataclasses import dataclass
from enum import IntEnum
from typing import Final, Protocol

import numpy as np
from numpy.typing import NDArray

from sim.serving.times import BLOCK_TOKENS, LARGEST_BLOCK, Times
from sim.serving.turns import Turns

# vLLM's buckets of vllm:e2e_request_latency_seconds; source: vllm-project/vllm vllm/v1/metrics/loggers.py
BUCKETS_S: Final = (
    *(0.3, 0.5, 0.8, 1.0, 1.5, 2.0, 2.5, 5.0, 10.0, 15.0, 20.0, 30.0, 40.0, 50.0, 60.0),
    *(120.0, 240.0, 480.0, 960.0, 1920.0, 7680.0),
)
# and of vllm:time_to_first_token_seconds; source: vllm/v1/metrics/buckets.py there
FIRST_BUCKETS_S: Final = (
    *(0.001, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0),
    *(20.0, 40.0, 80.0, 160.0, 640.0, 2560.0),
)
PS_PER_US: Final = 1_000_000
NO_LIMIT: Final = 2**62


class Status(IntEnum):
    """Of a request. Those that have not come yet are not counted anywhere."""

    FUTURE = 0
    HELD = 1  #: at the gateway, for want of a ready replica
    QUEUED = 2
    RUNNING = 3
    DONE = 4
    DROPPED = 5  #: its replica was killed
    REFUSED = 6  #: longer than the engine's context, or one more than it takes


class Counter(IntEnum):
    """Columns of a replica's counters; all only grow until the replica goes."""

    PROMPT_TOKENS = 0  #: computed, cached ones not counted
    CACHED_TOKENS = 1  #: found in the prefix cache
    GENERATED_TOKENS = 2
    ARRIVED = 3
    FINISHED = 4
    LATENCY_US = 5  #: sum over finished requests, from their coming here to the last token
    WAITED_US = 6  #: sum over finished requests, until first scheduled
    BUSY_US = 7  #: in iterations that ended
    PREEMPTED = 8
    LOST_TOKENS = 9  #: of prefixes computed once more, because the cache that held them was evicted, left or killed
    BUCKET = 10  #: first of the latency histogram's, one for each of BUCKETS_S and one above
    FIRST_BUCKET = 10 + len(BUCKETS_S) + 1  #: of the times to the first token, likewise for FIRST_BUCKETS_S


COUNTERS: Final = int(Counter.FIRST_BUCKET) + len(FIRST_BUCKETS_S) + 1


@dataclass(frozen=True, slots=True)
class Shape:
    """One kind of replica: how fast it is and what fits in."""

    times: Times
    kv_blocks: int
    max_running: int  # vLLM --max-num-seqs
    token_budget: int  # vLLM --max-num-batched-tokens
    context_tokens: int  # vLLM --max-model-len
    max_requests: int = NO_LIMIT  # running and waiting; one more is refused
    block_tokens: int = BLOCK_TOKENS  # vLLM --block-size

    def __post_init__(self) -> None:
        """As vLLM, which refuses to start otherwise: each request that decodes needs tokens of every iteration."""
        needed = self.max_running * (1 + self.times.drafts)
        if self.token_budget < needed:
            drafts = f" x {1 + self.times.drafts}" if self.times.drafts else ""
            raise ValueError(f"token_budget {self.token_budget} is below max_running {self.max_running}{drafts}")
        if not 1 <= self.block_tokens <= LARGEST_BLOCK or self.block_tokens.bit_count() != 1:
            raise ValueError(f"block_tokens {self.block_tokens}: want a power of two, at most {LARGEST_BLOCK}")


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of each request; times are -1 where it did not come so far."""

    status: NDArray[np.int8]  # (n,)
    arrival_ps: NDArray[np.int64]  # (n,) at the gateway
    routed_ps: NDArray[np.int64]  # (n,) to a replica
    scheduled_ps: NDArray[np.int64]  # (n,)
    first_ps: NDArray[np.int64]  # (n,) first token
    done_ps: NDArray[np.int64]  # (n,)


class Gauge(IntEnum):
    """Columns of a read-out; the counters follow."""

    QUEUED = 0
    RUNNING = 1
    SESSIONS = 2  #: alive: a turn is open, or a tool's answer is awaited
    KV_USED = 3  #: blocks of running requests
    KV_BLOCKS = 4  #: all that there are


GAUGES: Final = len(Gauge)
COLUMNS: Final = GAUGES + COUNTERS


@dataclass(frozen=True, slots=True)
class Readout:
    """What the replicas in `slots` show at an instant."""

    slots: tuple[int, ...]
    table: NDArray[np.int64]  # (slots, COLUMNS)

    def gauge(self, gauge: Gauge) -> NDArray[np.int64]:  # (slots,)
        return self.table[:, gauge]

    @property
    def counters(self) -> NDArray[np.int64]:  # (slots, COUNTERS)
        return self.table[:, GAUGES:]

    def only(self, kept: NDArray[np.bool_]) -> "Readout":
        """Of those slots where `kept` is true."""
        return Readout(
            tuple(slot for slot, keep in zip(self.slots, kept.tolist(), strict=True) if keep), self.table[kept]
        )


class Pool(Protocol):
    """Instants are whole picoseconds and never go back.

    At one instant iterations end first, then requests come, then idle replicas start. What is called between two
    `run_until` happens at the end of the first.
    """

    turns: Turns

    def run_until(self, until_ps: int) -> None:
        """Everything up to and including that instant."""
        ...

    def add(self, shape: Shape) -> int:
        """A replica becomes ready; answers its slot, the lowest free one. It takes what the gateway holds."""
        ...

    def drain(self, slot: int) -> None:
        """No new requests; those it has go on."""
        ...

    def remove(self, slot: int) -> int:
        """The replica is gone; answers how many requests went with it. Their sessions end there."""
        ...

    def load(self, slot: int) -> int:
        """Requests queued or running in it."""
        ...

    def read(self, slots: tuple[int, ...]) -> Readout: ...

    def held(self) -> int:
        """Requests at the gateway."""
        ...

    def held_sessions(self) -> int:
        """Sessions with a request at the gateway."""
        ...

    def totals(self) -> NDArray[np.int64]:
        """(COUNTERS,) of all replicas there are and were."""
        ...

    def outcome(self) -> Outcome: ...
