"""From the requests of a recorded trace to turns: who was alone, and who belongs to one session.

A session's first turn comes when it came. A later one comes as long after the end of the turn before it as it did when
it was recorded, because people and tools wait for an answer: a slower cluster is asked later, a faster one sooner.
"""

from array import array
from dataclasses import dataclass, field
from typing import Final

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from sim.serving.turns import NO_SESSION, PS_PER_S, Turns
from sim.strict import Seconds, Strict

UNKNOWN: Final = float("nan")


class RecordedConfig(Strict):
    speed: float = Field(default=1.0, gt=0, le=1000)  #: sessions and requests come so many times as fast
    sessions: bool = True  #: False: every request for itself, at its recorded instant
    #: where the trace does not say when a request ended: what the recorded system needed for one token of its answer
    recorded_per_output_token: Seconds = Field(default=0.025, ge=0)


@dataclass(slots=True)
class Requests:
    """One entry a request, in any order. Packed: a trace of millions has room."""

    at_s: "array[float]" = field(default_factory=lambda: array("d"))
    end_s: "array[float]" = field(default_factory=lambda: array("d"))  #: NaN: not recorded
    prompt: "array[int]" = field(default_factory=lambda: array("i"))
    output: "array[int]" = field(default_factory=lambda: array("i"))
    session: "array[int]" = field(default_factory=lambda: array("q"))
    human: "array[int]" = field(default_factory=lambda: array("b"))

    def add(
        self, at_s: float, prompt: int, output: int, *, session: int = NO_SESSION, end_s: float = UNKNOWN, human: bool
    ) -> None:
        """`session`: any number that its turns have in common. `human`: the wait before it was for a person."""
        self.at_s.append(at_s)
        self.end_s.append(end_s)
        self.prompt.append(prompt)
        self.output.append(output)
        self.session.append(session)
        self.human.append(human)

    def __len__(self) -> int:
        return len(self.at_s)

    def turns(self, config: RecordedConfig, duration_s: float) -> Turns:
        """Those that begin within `duration_s` of the first one."""
        at_s = np.array(self.at_s)
        at_s = at_s - at_s.min() if len(at_s) else at_s
        session = np.array(self.session, np.int64)
        if not config.sessions:
            session = np.full(len(at_s), NO_SESSION, np.int64)
        key, alone = session.copy(), session == NO_SESSION
        key[alone] = session.max(initial=NO_SESSION) + 1 + np.arange(int(alone.sum()))
        _, key = np.unique(key, return_inverse=True)
        begins_s = np.full(int(key.max(initial=-1)) + 1, np.inf)
        np.minimum.at(begins_s, key, at_s)
        order = np.lexsort((np.arange(len(at_s)), at_s, key, begins_s[key]))
        order = order[begins_s[key[order]] / config.speed <= duration_s]
        first = np.ones(len(order), np.bool_)
        first[1:] = key[order][1:] != key[order][:-1]
        numbers = np.cumsum(first & ~alone[order]) - 1
        ends_s = np.array(self.end_s)[order]
        guessed_s = at_s[order] + np.array(self.output)[order] * config.recorded_per_output_token
        ends_s = np.where(np.isnan(ends_s), guessed_s, ends_s - np.array(self.at_s).min(initial=np.inf))
        wait_s = np.zeros(len(order))
        wait_s[1:] = np.maximum(0.0, at_s[order][1:] - ends_s[:-1])
        wait_s[first] = 0.0
        return Turns(
            prompt=np.array(self.prompt, np.int32)[order],
            output=np.array(self.output, np.int32)[order],
            session=np.where(alone[order], NO_SESSION, numbers).astype(np.int64),
            arrival_ps=np.where(first, _ps(at_s[order] / config.speed), -1),
            wait_ps=_ps(wait_s),
            human=np.array(self.human, np.bool_)[order] & ~first,
            follows=np.append(~first[1:], np.zeros(min(1, len(order)), np.bool_)),
        )


def _ps(times_s: NDArray[np.float64]) -> NDArray[np.int64]:
    return np.rint(times_s * PS_PER_S).astype(np.int64)
