"""A serving engine in a pod, small but honest: slots, a first-come queue, a batch that slows its decode."""

from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Final

#: Requests decoded at once on one slice (vLLM's --max-num-seqs for a small slice).
SLOTS: Final = 8
#: One decode iteration of an 8 B model on a quarter of an A100: weights are read once, each sequence adds its KV cache.
ITERATION_S: Final = 0.012
ITERATION_PER_SEQUENCE_S: Final = 0.0015
PREFILL_TOKENS_PER_S: Final = 4000.0
#: Upper bounds of vllm:e2e_request_latency_seconds (vllm/v1/metrics/loggers.py, request latency buckets).
LATENCY_BOUNDS_S: Final = (
    0.3,
    0.5,
    0.8,
    1.0,
    1.5,
    2.0,
    2.5,
    5.0,
    10.0,
    15.0,
    20.0,
    30.0,
    40.0,
    50.0,
    60.0,
    120.0,
    240.0,
)


@dataclass(slots=True)
class Turn:
    """One request of an agent. `done` is told the time at which its last token came."""

    sent_s: float
    prompt_tokens: int
    output_tokens: int
    done: Callable[[float], None]
    prefill_left: float = 0.0
    decode_left: float = 0.0
    started_s: float | None = None


@dataclass(slots=True)
class Counters:
    """What the engine's /metrics counts since it started, in vLLM's sense."""

    prompt_tokens: float = 0.0
    generation_tokens: float = 0.0
    arrivals: int = 0
    finished: int = 0
    latency_sum_s: float = 0.0
    queue_sum_s: float = 0.0
    buckets: list[int] = field(
        default_factory=lambda: [0] * (len(LATENCY_BOUNDS_S) + 1)
    )  # not cumulative; last is +Inf


class Engine:
    def __init__(self) -> None:
        self.waiting: deque[Turn] = deque()
        self.running: list[Turn] = []
        self.counters = Counters()

    @property
    def in_flight(self) -> int:
        return len(self.waiting) + len(self.running)

    def send(self, turn: Turn) -> None:
        turn.prefill_left, turn.decode_left = float(turn.prompt_tokens), float(turn.output_tokens)
        self.counters.arrivals += 1
        self.waiting.append(turn)

    def step(self, now_s: float, dt_s: float) -> None:
        """Advance from `now_s` by `dt_s`: admit, prefill in order of admission, then decode all together."""
        while self.waiting and len(self.running) < SLOTS:
            turn = self.waiting.popleft()
            turn.started_s = now_s
            self.counters.queue_sum_s += now_s - turn.sent_s
            self.running.append(turn)
        left_s = self._prefill(dt_s)
        if self.running and left_s > 0:
            self._decode(now_s + dt_s - left_s, left_s)

    def _prefill(self, dt_s: float) -> float:
        """Prefill comes first, as in vLLM's scheduler; answers the seconds that are left for decoding."""
        for turn in self.running:
            if turn.prefill_left > 0 and dt_s > 0:
                tokens = min(turn.prefill_left, dt_s * PREFILL_TOKENS_PER_S)
                turn.prefill_left -= tokens
                dt_s -= tokens / PREFILL_TOKENS_PER_S
                self.counters.prompt_tokens += tokens
        return dt_s

    def _decode(self, from_s: float, dt_s: float) -> None:
        decoding = [turn for turn in self.running if turn.prefill_left <= 0]
        if not decoding:
            return
        per_token_s = ITERATION_S + ITERATION_PER_SEQUENCE_S * len(decoding)
        for turn in decoding:
            tokens = min(turn.decode_left, dt_s / per_token_s)
            turn.decode_left -= tokens
            self.counters.generation_tokens += tokens
            if turn.decode_left <= 1e-9:
                self._finish(turn, from_s + tokens * per_token_s)

    def _finish(self, turn: Turn, at_s: float) -> None:
        self.running.remove(turn)
        latency_s = at_s - turn.sent_s
        self.counters.finished += 1
        self.counters.latency_sum_s += latency_s
        self.counters.buckets[bucket_of(latency_s)] += 1
        turn.done(at_s)


def bucket_of(latency_s: float) -> int:
    return next((i for i, bound in enumerate(LATENCY_BOUNDS_S) if latency_s <= bound), len(LATENCY_BOUNDS_S))


def quantile(q: float, buckets: Sequence[float]) -> float | None:
    """PromQL's histogram_quantile over counts of `LATENCY_BOUNDS_S`: linear inside a bucket. None without observations.

    Source: prometheus/prometheus promql/quantile.go, classic histograms.
    """
    total = sum(buckets)
    if total <= 0:
        return None
    rank, seen = q * total, 0.0
    for i, count in enumerate(buckets[:-1]):
        if seen + count >= rank:
            lower = LATENCY_BOUNDS_S[i - 1] if i else 0.0
            return lower + (LATENCY_BOUNDS_S[i] - lower) * (rank - seen) / count if count else lower
        seen += count
    return LATENCY_BOUNDS_S[-1]
