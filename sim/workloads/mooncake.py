"""Mooncake's traces: JSON lines of timestamp (ms), input_length, output_length, hash_ids (prefix blocks of 512 tokens).

An id stands for a block and all before it, so that equal ids are equal prefixes. A request that begins with every full
block of an earlier one is the next turn of its session; what else requests have in common is counted by `block_reuse`
and is not reused by the engine model, which knows prefixes of sessions and one that all requests have in common: here
prompts may be shorter than a block.
Source: kvcache-ai/Mooncake `FAST25-release/traces` (Apache-2.0), Qin et al., FAST 2025. No trace comes with us.
"""

from pathlib import Path
from typing import Final, Literal

from sim.serving.turns import Turns
from sim.workloads.recorded import RecordedConfig, Requests
from sim.workloads.trace import TraceError, at, given, number, objects, tokens

ABOUT: Final = "a Mooncake trace (JSON lines: timestamp, input_length, output_length, hash_ids), sessions by prefix"
BLOCK_TOKENS: Final = 512
SHARED_BLOCKS: Final = 1  # the first block is a system prompt that strangers share


class Config(RecordedConfig):
    kind: Literal["mooncake"]


def turns(config: Config, seed: int, duration_s: float, trace: Path | None) -> Turns:
    del seed
    path, requests = given(trace), Requests()
    open_ends: dict[int, int] = {}  # id of the last full block of a session's last turn -> session
    begun = 0
    for line, row in objects(path):
        with at(path, line):
            at_s = number(row.get("timestamp"), "timestamp", 0) / 1e3
            prompt, output = (tokens(row.get(f), f) for f in ("input_length", "output_length"))
            ids = _ids(row.get("hash_ids"))
        if at_s > duration_s * max(1.0, config.speed):
            continue  # so that memory is bounded by what is simulated
        parent = next((i for i in reversed(ids[SHARED_BLOCKS:]) if i in open_ends), None)
        session = begun if parent is None else open_ends.pop(parent)
        begun += parent is None
        full = min(prompt // BLOCK_TOKENS, len(ids))
        if full > SHARED_BLOCKS:
            open_ends[ids[full - 1]] = session
        requests.add(at_s, prompt, output, session=session, human=True)
    if not len(requests):
        raise TraceError(f"{path}: there is no request in it")
    return requests.turns(config, duration_s)


def block_reuse(path: Path) -> float:
    """The share of all blocks that were seen before: what a cache without bounds, one for all, would find."""
    seen, whole = set[int](), 0
    for line, row in objects(path):
        with at(path, line):
            ids = _ids(row.get("hash_ids"))
        whole += len(ids)
        seen.update(ids)
    return 1 - len(seen) / whole if whole else 0.0


def _ids(value: object) -> list[int]:
    if not isinstance(value, list) or not all(isinstance(i, int) and not isinstance(i, bool) for i in value):
        raise ValueError(f"hash_ids: want a list of whole numbers (got {str(value)[:60]})")
    return value
