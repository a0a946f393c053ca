"""The load: one row a request; the requests of a session are its turns, in rows that follow one another."""

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

PS_PER_S: Final = 1_000_000_000_000
NO_SESSION: Final = -1


def to_ps(time_s: float) -> int:
    return round(time_s * PS_PER_S)


@dataclass(frozen=True, slots=True)
class Turns:
    """`n` requests.

    A first turn (or a request without session) has its arrival; a later one comes `wait_ps` after the end of the turn
    before it, if that ended.
    """

    prompt: NDArray[np.int32]  # (n,) tokens, the whole context that the engine is given
    output: NDArray[np.int32]  # (n,) tokens, at least 1
    session: NDArray[np.int64]  # (n,) numbered from 0; NO_SESSION
    arrival_ps: NDArray[np.int64]  # (n,) of first turns; -1 for later ones
    wait_ps: NDArray[np.int64]  # (n,) of later turns; 0 for first ones
    human: NDArray[np.bool_]  # (n,) the wait before it is for a person, not for a tool
    follows: NDArray[np.bool_]  # (n,) the next row is the session's next turn
    common_tokens: int = 0  # that all prompts begin with: instructions and tools

    def __post_init__(self) -> None:
        """So that something is left to compute of each prompt."""
        shortest = int(self.prompt.min(initial=np.iinfo(np.int32).max))
        if not 0 <= self.common_tokens < shortest:
            raise ValueError(
                f"common tokens: want 0 or more, and less than the shortest prompt, {shortest}, "
                f"got {self.common_tokens}"
            )

    def __len__(self) -> int:
        return len(self.prompt)

    @property
    def sessions(self) -> int:
        return int(self.session.max(initial=NO_SESSION)) + 1

    def first(self) -> NDArray[np.int64]:
        """Rows that come by themselves, in the order of (arrival, row)."""
        rows = np.flatnonzero(self.arrival_ps >= 0)
        instants = self.arrival_ps[rows]
        return rows if (instants[1:] >= instants[:-1]).all() else rows[np.argsort(instants, kind="stable")]


def open_loop(
    arrival_s: NDArray[np.float64], prompt: NDArray[np.integer], output: NDArray[np.integer], common_tokens: int = 0
) -> Turns:
    """Requests without sessions: nobody waits for an answer before the next one is sent."""
    n = len(arrival_s)
    return Turns(
        prompt=prompt.astype(np.int32),
        output=output.astype(np.int32),
        session=np.broadcast_to(np.int64(NO_SESSION), n),  # one number stands for all, and takes no room
        arrival_ps=np.rint(arrival_s * PS_PER_S).astype(np.int64),
        wait_ps=np.broadcast_to(np.int64(0), n),
        human=np.broadcast_to(np.False_, n),
        follows=np.broadcast_to(np.False_, n),
        common_tokens=common_tokens,
    )
