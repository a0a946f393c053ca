"""Recorded requests, counted by second: Azure's CSV and Mooncake's JSON lines.

Sources: Azure/AzurePublicDataset (CC-BY-4.0), Patel et al., "Splitwise", ISCA 2024: TIMESTAMP, ContextTokens,
GeneratedTokens. kvcache-ai/Mooncake FAST25-release/traces (Apache-2.0), Qin et al., FAST 2025: timestamp (ms),
input_length, output_length. Prompt tokens are counted in full: this model has no prefix cache.
"""

import csv
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np

from sim.fluid.load import SHAPE_WINDOW_S, Counts, FloatArray, factor_for, work_s
from sim.fluid.service import Service
from sim.workloads.trace import TraceError, opened

AZURE: Final = ("TIMESTAMP", "ContextTokens", "GeneratedTokens")
MOONCAKE: Final = ("timestamp", "input_length", "output_length")
MOST_S: Final = 60 * 86_400  # a trace that seems longer has a timestamp in another unit


@dataclass(frozen=True, slots=True)
class Recorded:
    """Arrivals by second as they were."""

    recorded: Counts

    def counts(self, service: Service, peak_replicas: int, seed: int) -> Counts:
        """Every recorded request stands for as many as keep `peak_replicas` busy at the peak; the same for any seed."""
        del seed
        work = work_s(service, self.recorded.prompt_tokens, self.recorded.output_tokens)
        whole = max(1, len(work) // SHAPE_WINDOW_S)
        windows = np.array([part.mean() for part in np.array_split(work, whole)])
        return self.recorded.times(factor_for(peak_replicas, windows))


def read_azure(path: Path) -> Recorded:
    """Raises `TraceError` with file, line and rule."""
    stamps: list[str] = []
    tokens: list[tuple[float, float]] = []
    with opened(path) as text:
        reader = csv.DictReader(text)
        if missing := [column for column in AZURE if column not in (reader.fieldnames or ())]:
            raise TraceError(f"{path}:1: want the columns {', '.join(AZURE)}; missing: {', '.join(missing)}")
        for row in reader:
            tokens.append(_tokens(f"{path}:{reader.line_num}", row, AZURE[1:]))
            stamps.append(row[AZURE[0]])
    try:
        instants = np.array([stamp.removesuffix("+00:00") for stamp in stamps], dtype="datetime64[ns]")
    except ValueError as e:
        raise TraceError(f"{path}: TIMESTAMP: want times such as 2023-11-16 18:17:03.9799600: {e}") from e
    return _recorded(path, instants.astype(np.int64) / 1e9, tokens)


def read_mooncake(path: Path) -> Recorded:
    """Raises `TraceError` with file, line and rule."""
    at_s: list[float] = []
    tokens: list[tuple[float, float]] = []
    with opened(path) as text:
        for number, line in enumerate(text, start=1):
            if not line.strip():
                continue
            where = f"{path}:{number}"
            try:
                row = json.loads(line)
            except ValueError as e:
                raise TraceError(f"{where}: not JSON: {e}") from e
            if not isinstance(row, dict) or not isinstance(row.get("timestamp"), int | float):
                raise TraceError(f"{where}: timestamp: want a number of milliseconds (got {line[:80]!r})")
            at_s.append(float(row["timestamp"]) / 1000.0)
            tokens.append(_tokens(where, row, MOONCAKE[1:]))
    return _recorded(path, np.array(at_s), tokens)


def _tokens(where: str, row: "dict[str, object]", names: Iterable[str]) -> tuple[float, float]:
    values: list[float] = []
    for name in names:
        try:
            value = float(str(row.get(name)))
        except ValueError:
            value = -1.0
        if not 0.0 <= value < 1e9:
            raise TraceError(f"{where}: {name}: want a number of tokens (got {row.get(name)!r})")
        values.append(value)
    return values[0], values[1]


def _recorded(path: Path, at_s: FloatArray, tokens: Sequence[tuple[float, float]]) -> Recorded:
    if not tokens:
        raise TraceError(f"{path}: there is no request in it")
    since_s = at_s - at_s.min()
    if since_s.max() > MOST_S:
        raise TraceError(f"{path}: lasts {since_s.max():g} s, longer than {MOST_S} s; is the unit of time right?")
    since_s = _spread(since_s)
    second, seconds = since_s.astype(np.int64), int(since_s.max()) + 1
    columns = np.array(tokens)
    return Recorded(
        Counts(
            np.bincount(second, minlength=seconds).astype(np.float64),
            np.bincount(second, columns[:, 0], seconds).astype(np.float64),
            np.bincount(second, columns[:, 1], seconds).astype(np.float64),
        )
    )


def _spread(since_s: FloatArray) -> FloatArray:
    """Instants that were recorded in steps of several seconds (Mooncake's: 3 s), evenly over each step."""
    stamps, index, count = np.unique(since_s, return_inverse=True, return_counts=True)
    step_s = float(np.median(np.diff(stamps))) if len(stamps) > 1 else 0.0
    if step_s < 2.0:
        return since_s
    order = np.argsort(index, kind="stable")
    rank = np.empty(len(since_s))
    rank[order] = np.arange(len(since_s)) - np.repeat(np.cumsum(count) - count, count)
    return np.asarray(since_s + step_s * rank / count[index])
