"""Azure's LLM inference traces: TIMESTAMP, ContextTokens, GeneratedTokens.

Source: Azure/AzurePublicDataset (CC-BY-4.0), Patel et al., "Splitwise", ISCA 2024. No trace comes with the project.
"""

import csv
from pathlib import Path
from typing import Final, Literal

import numpy as np
from pydantic import Field

from sim.serving.turns import Turns, open_loop
from sim.strict import Strict
from sim.workloads.trace import TraceError, opened

ABOUT: Final = "an Azure LLM inference trace (CSV or CSV.gz with TIMESTAMP, ContextTokens, GeneratedTokens)"
COLUMNS: Final = ("TIMESTAMP", "ContextTokens", "GeneratedTokens")


class Config(Strict):
    kind: Literal["azure"]
    speed: float = Field(default=1.0, gt=0, le=1000)  #: arrivals come so many times as fast


def turns(config: Config, seed: int, duration_s: float, trace: Path | None) -> Turns:
    del seed
    if trace is None:
        raise TraceError("this scenario replays a recorded trace; give it with --trace PATH")
    stamps, prompts, outputs = _rows(trace)
    try:
        instants = np.array(stamps, dtype="datetime64[ns]")
    except ValueError as e:
        raise TraceError(f"{trace}: TIMESTAMP: want times such as 2023-11-16 18:17:03.9799600: {e}") from e
    times_s = (instants - instants.min()).astype(np.float64) / 1e9 / config.speed
    order = np.argsort(times_s, kind="stable")
    order = order[times_s[order] <= duration_s]
    return open_loop(times_s[order], np.array(prompts, np.int64)[order], np.array(outputs, np.int64)[order])


def _rows(trace: Path) -> tuple[list[str], list[int], list[int]]:
    stamps, prompts, outputs = list[str](), list[int](), list[int]()
    with opened(trace) as text:
        reader = csv.reader(text)
        header = next(reader, [])
        if missing := [c for c in COLUMNS if c not in header]:
            raise TraceError(f"{trace}:1: want the columns {', '.join(COLUMNS)}; missing: {', '.join(missing)}")
        at, prompt, output = (header.index(c) for c in COLUMNS)
        for row in reader:
            if not row:
                continue
            try:
                prompts.append(_count(row[prompt], COLUMNS[1]))
                outputs.append(_count(row[output], COLUMNS[2]))
                stamps.append(row[at])
            except (ValueError, IndexError) as e:
                raise TraceError(f"{trace}:{reader.line_num}: {e}") from e
    if not stamps:
        raise TraceError(f"{trace}: there is no request in it")
    return stamps, prompts, outputs


def _count(text: str, column: str) -> int:
    if not text.strip().isdigit() or int(text) < 1:
        raise ValueError(f"{column}: want a whole number of tokens, 1 or more (got {text!r})")
    return int(text)
