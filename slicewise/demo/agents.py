"""Agent sessions: turns at the engine, then a tool's answer or a person's to wait for, then the next turn.

A session stays on the pod that holds its prefix; when that pod leaves, its next turn goes to the least loaded one.
"""

import heapq
import itertools
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Final

import numpy as np

from slicewise.demo.engines import Engine, Turn

MEAN_TURNS: Final = 9.0
MEAN_OUTPUT_TOKENS: Final = 200.0
MEAN_TOOL_WAIT_S: Final = 6.0
HUMAN_WAIT_SHARE: Final = 0.08
MEAN_HUMAN_WAIT_S: Final = 45.0
#: New tokens a turn: the tool's answer. The first turn also carries the task and the system prompt.
MEAN_TOOL_TOKENS: Final = 350.0
FIRST_PROMPT_TOKENS: Final = 2500


@dataclass(slots=True, eq=False)
class Session:
    turns_left: int
    context_tokens: int
    pod: str | None = None
    cached_on: str | None = None
    waiting_for: str = "engine"


class Agents:
    """All sessions of one workload. `latencies`: (time, seconds) of each finished turn, in order."""

    def __init__(self, seed: int, arrivals_per_s: Callable[[float], float]) -> None:
        self._rng = np.random.default_rng(seed)
        self._arrivals_per_s = arrivals_per_s
        self._due: list[tuple[float, int, Session]] = []
        self._order = itertools.count()
        self.sessions: dict[int, Session] = {}
        self.latencies: list[tuple[float, float]] = []
        self.peak = 0

    def step(self, now_s: float, dt_s: float, engines: Mapping[str, Engine], open_pods: frozenset[str]) -> None:
        """Arrivals of this interval, and the turns that are due. `open_pods` take new work; draining ones do not."""
        for _ in range(int(self._rng.poisson(self._arrivals_per_s(now_s) * dt_s))):
            session = Session(1 + int(self._rng.geometric(1 / MEAN_TURNS)), FIRST_PROMPT_TOKENS)
            self.sessions[id(session)] = session
            self._wake(session, now_s + float(self._rng.uniform(0, dt_s)))
        self.peak = max(self.peak, len(self.sessions))
        while open_pods and self._due and self._due[0][0] <= now_s:
            _, _, session = heapq.heappop(self._due)
            self._take_turn(session, now_s, engines, open_pods)

    def on_pod(self, pod: str) -> int:
        return sum(session.pod == pod for session in self.sessions.values())

    def waiting_for(self, what: str) -> int:
        return sum(session.waiting_for == what for session in self.sessions.values())

    def at_the_door(self, now_s: float) -> int:
        """Turns that are due and have no pod to go to."""
        return sum(due_s <= now_s for due_s, _, _ in self._due)

    def leave(self, pod: str) -> None:
        """The pod is gone: its sessions wait elsewhere, without their cached prefix."""
        for session in self.sessions.values():
            if session.pod == pod:
                session.pod = None

    def _wake(self, session: Session, at_s: float) -> None:
        heapq.heappush(self._due, (at_s, next(self._order), session))

    def _take_turn(
        self, session: Session, now_s: float, engines: Mapping[str, Engine], open_pods: frozenset[str]
    ) -> None:
        if session.pod not in open_pods:
            session.pod = min(sorted(open_pods), key=lambda pod: (engines[pod].in_flight, self.on_pod(pod)))
        new_tokens = int(self._rng.exponential(MEAN_TOOL_TOKENS)) + 1
        uncached = new_tokens if session.cached_on == session.pod else session.context_tokens + new_tokens
        output = int(self._rng.exponential(MEAN_OUTPUT_TOKENS)) + 8
        session.context_tokens += new_tokens + output
        session.cached_on, session.waiting_for = session.pod, "engine"
        session.turns_left -= 1
        engines[session.pod].send(Turn(now_s, uncached, output, lambda at_s: self._answered(session, now_s, at_s)))

    def _answered(self, session: Session, sent_s: float, at_s: float) -> None:
        self.latencies.append((at_s, at_s - sent_s))
        if session.turns_left <= 0:
            del self.sessions[id(session)]
            return
        human = self._rng.random() < HUMAN_WAIT_SHARE
        session.waiting_for = "human" if human else "tool"
        self._wake(session, at_s + float(self._rng.exponential(MEAN_HUMAN_WAIT_S if human else MEAN_TOOL_WAIT_S)))


def percentile(q: float, latencies: Iterable[tuple[float, float]], *, since_s: float) -> float | None:
    """Of the turns that ended since then; None where none did. Nearest rank."""
    found = sorted(seconds for at_s, seconds in latencies if at_s >= since_s)
    return found[min(len(found) - 1, int(len(found) * q / 100))] if found else None
