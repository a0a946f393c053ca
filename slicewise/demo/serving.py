"""Agent sessions and the engines that serve them: the simulator's own workload and engine, one replica a ready pod.

The plain engine is used, not its compiled twin: they agree exactly, and a demo must not begin with half a minute of
compilation.
"""

from dataclasses import replace
from fractions import Fraction
from typing import Final

import numpy as np
from numpy.typing import NDArray

from sim.serving import times
from sim.serving.pool import Gauge, Readout, Shape
from sim.serving.reference import ReferencePool
from sim.serving.turns import PS_PER_S, Turns, to_ps
from sim.workloads import agents
from slicewise.demo.promises import Part
from slicewise.demo.story import CHAPTERS, ROUND_S

#: vLLM's --max-num-seqs, --max-num-batched-tokens, --max-model-len on a quarter of a GPU.
SLOTS: Final = 8
TOKEN_BUDGET: Final = 2048
CONTEXT_TOKENS: Final = 16_000
#: Llama 3.1 8B with 4-bit weights, so that it fits a quarter of a GPU; its iterations are timed as with 16-bit weights.
WEIGHTS_MIB: Final = 5_700
#: vLLM's --gpu-memory-utilization.
UTILIZATION: Final = 0.9
CATALOG: Final = {"a100-80": "a100-80-llama-3.1-8b", "h100-80": "h100-80-llama-3.1-8b"}
SESSION: Final = {
    "tasks": {"p50": 1, "p90": 3, "max": 8},
    "steps": {"p50": 6, "p90": 14, "max": 40},
    "contextTokens": {"p50": 1500, "p90": 3000},
    "appendedTokens": {"p50": 150, "p90": 500},
    "outputTokens": {"p50": 60, "p90": 170, "max": 800},
    "toolWait": {"p50": "4s", "p90": "15s", "max": "60s"},
    "humanWait": {"p50": "25s", "p90": "80s", "max": "3m"},
    "contextLimitTokens": 14_000,
    "compactedTokens": 4_000,
}


def load_of(length_s: float, seed: int) -> Turns:
    """The sessions of a run, by the story; they do not depend on how they are served."""
    laps = int(length_s // ROUND_S) + 1
    points = [
        {"at": f"{lap * ROUND_S + chapter.at_s:g}s", "perMinute": chapter.sessions_per_s * 60}
        for lap in range(laps)
        for chapter in CHAPTERS
        if chapter.at_s < ROUND_S
    ]
    config = agents.Config.model_validate({"kind": "agents", "sessions": points, **SESSION})
    return agents.turns(config, seed, length_s, None)


def shape_of(part: Part, model: str, memory_mib: int) -> Shape:
    """How fast a replica is on the part of a GPU that its pod holds, and how much fits in.

    `memory_mib`: of the whole GPU. A MIG instance has the bandwidth of its memory slices (of 8) and its compute slices
    (of 7); an MPS share has its percentage of both.
    """
    engine = replace(times.load()[CATALOG[model]], weights_mib=WEIGHTS_MIB)
    if part.mode == "mig":
        memory, compute = Fraction(part.size, 8), Fraction(int(part.profile.split("g")[0]), 7)
        held_mib = memory_mib * part.size // 8
    else:
        memory = compute = Fraction(part.compute_pct).limit_denominator(100) / 100
        held_mib = part.memory_mib
    return Shape(
        times=engine.times.on_share(memory, compute),
        kv_blocks=engine.kv_blocks(held_mib, UTILIZATION),
        max_running=SLOTS,
        token_budget=TOKEN_BUDGET,
        context_tokens=CONTEXT_TOKENS,
    )


class Serving:
    """The pool of engines, by pod. `peak_sessions`: most that were alive at a scrape."""

    def __init__(self, turns: Turns) -> None:
        self._pool = ReferencePool(turns)
        self._slots: dict[str, int] = {}
        self._draining: set[str] = set()
        self.peak_sessions = 0
        self.lost_requests = 0

    def run_until(self, now_s: float) -> None:
        self._pool.run_until(to_ps(now_s))

    def start(self, pod: str, shape: Shape) -> None:
        self._slots[pod] = self._pool.add(shape)

    def drain(self, pod: str) -> int:
        """Nothing new goes to the pod; answers how many requests it still has."""
        if pod not in self._slots:
            return 0
        if pod not in self._draining:
            self._draining.add(pod)
            self._pool.drain(self._slots[pod])
        return self._pool.load(self._slots[pod])

    def gone(self, pod: str) -> None:
        self._draining.discard(pod)
        if (slot := self._slots.pop(pod, None)) is not None:
            self.lost_requests += self._pool.remove(slot)

    def read(self) -> tuple[list[str], Readout]:
        """The pods that serve or drain, and what each shows, in the same order."""
        return list(self._slots), self._pool.read(tuple(self._slots.values()))

    @property
    def held(self) -> int:
        """Requests at the gateway, for want of a pod."""
        return self._pool.held()

    def sessions(self) -> int:
        """Alive: a request is open, or a tool's answer is awaited."""
        _, readout = self.read()
        count = int(readout.gauge(Gauge.SESSIONS).sum()) + self._pool.held_sessions()
        self.peak_sessions = max(self.peak_sessions, count)
        return count

    def latencies_s(self) -> NDArray[np.float64]:
        """Of all requests that have ended, from arrival to the last token."""
        outcome = self._pool.outcome()
        ended = outcome.done_ps >= 0
        return np.asarray((outcome.done_ps - outcome.arrival_ps)[ended] / PS_PER_S, dtype=np.float64)
