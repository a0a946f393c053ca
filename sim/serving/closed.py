"""The load of a benchmark tool: so many clients, each sends its next request when the last one is answered."""

from typing import Final

import numpy as np

from sim.serving.turns import Turns
from sim.streams import stream

ROUNDS: Final = 10
SPREAD: Final = 0.2


def closed_loop(clients: int, prompt: int, output: int, seed: int = 0, requests: int | None = None) -> Turns:
    """`requests` in all, ten a client if not told; with fewer than clients some of those never come.

    All clients begin at once, as the tools do; output lengths spread by a fifth, or all would stay in step for ever.

    Prompts share nothing: an equal one is another one to the prefix cache, because a context only grows.
    """
    requests = ROUNDS * clients if requests is None else requests
    clients = min(clients, requests)
    rounds = -(-requests // clients)
    n = clients * rounds
    first = np.arange(n) % rounds == 0
    spread = stream(seed, "closed-loop").uniform(1 - SPREAD, 1 + SPREAD, n)
    return Turns(
        prompt=np.full(n, prompt, np.int32),
        output=np.maximum(1, np.rint(output * spread)).astype(np.int32),
        session=np.repeat(np.arange(clients, dtype=np.int64), rounds),
        arrival_ps=np.where(first, 0, -1).astype(np.int64),
        wait_ps=np.zeros(n, np.int64),
        human=np.zeros(n, np.bool_),
        follows=np.arange(n) % rounds != rounds - 1,
    )
