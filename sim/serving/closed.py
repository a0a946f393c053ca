"""The load of a benchmark tool: so many clients, each sends its next request when the last one is answered.

Two kinds of tools are in use, and what they measure to the first token differs. Some send lengths around those asked
for (vLLM's and SGLang's `--random-range-ratio`): clients lose step, a prompt mostly finds the engine without another
one. Some send equal lengths (`aiperf`, `genai-perf` with no deviation and `ignore_eos`): clients stay behind one
another for ever as their first prompts were computed, and each finds the one before it under way.
"""

from typing import Final

import numpy as np
from numpy.typing import NDArray

from sim.serving.turns import PS_PER_S, Turns
from sim.streams import stream

ROUNDS: Final = 10
SPREAD: Final = 0.1
RETURN_S: Final = 0.003  # from the last token to the client's next request at the engine: one iteration begins before


def closed_loop(
    clients: int, prompt: int, output: int, *, spread: float = SPREAD, seed: int = 0, requests: int | None = None
) -> Turns:
    """`requests` in all, ten a client if not told; with fewer than clients some of those never come.

    All clients begin at once, as the tools do. `spread`: how far lengths lie from those asked for, relative and
    uniform; prompts from client to client, outputs from request to request.

    Prompts share nothing: an equal one is another one to the prefix cache, because a context only grows.
    """
    requests = ROUNDS * clients if requests is None else requests
    clients = min(clients, requests)
    rounds = -(-requests // clients)
    n = clients * rounds
    first = np.arange(n) % rounds == 0
    prompts = np.repeat(_around(prompt, spread, clients, stream(seed, "closed-loop-prompts")), rounds)
    return Turns(
        prompt=prompts,
        output=_around(output, spread, n, stream(seed, "closed-loop-outputs")),
        session=np.repeat(np.arange(clients, dtype=np.int64), rounds),
        arrival_ps=np.where(first, 0, -1).astype(np.int64),
        wait_ps=np.where(first, 0, round(RETURN_S * PS_PER_S)).astype(np.int64),
        human=np.zeros(n, np.bool_),
        follows=np.arange(n) % rounds != rounds - 1,
    )


def _around(tokens: int, spread: float, n: int, random: np.random.Generator) -> NDArray[np.int32]:
    """Evenly spread over the range, in random order: their mean is `tokens`, however few they are."""
    places = random.permutation(n)
    lengths = tokens * (1 + spread * ((2 * places + 1) / n - 1))
    return np.maximum(1, np.rint(lengths)).astype(np.int32)
