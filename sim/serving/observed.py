"""What a real engine did: a log of requests, or a table of measured points; and what a model says it would have done.

A log is JSON lines, one request each: input_toks, output_toks and, in seconds on one clock, queued_ts, first_token_ts,
last_token_ts (as vLLM stamps them inside the engine). A table is CSV, one closed-loop measurement a row: isl, osl,
concurrency, a time to first token (a column with `ttft_ms` in its name) and per output token (`tpot_ms`).
"""

import csv
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from sim.serving.closed import closed_loop
from sim.serving.compiled import CompiledPool
from sim.serving.pool import Shape, Status
from sim.serving.turns import PS_PER_S, Turns, open_loop
from sim.workloads.trace import TraceError, opened

Floats = NDArray[np.float64]
FOREVER_PS: Final = 2**61
LOG_FIELDS: Final = ("input_toks", "output_toks", "queued_ts", "first_token_ts", "last_token_ts")
TABLE_FIELDS: Final = ("isl", "osl", "concurrency")


@dataclass(frozen=True, slots=True)
class Latencies:
    """Seconds; one value a request of a log, a mean a row of a table. NaN where there is none."""

    ttft: Floats
    tpot: Floats
    e2e: Floats


@dataclass(frozen=True, slots=True)
class Log:
    turns: Turns
    measured: Latencies

    def predict(self, shape: Shape, request_s: float) -> Latencies:
        """`request_s` is not in it: the stamps are the engine's own."""
        del request_s
        return _replayed(self.turns, shape)


@dataclass(frozen=True, slots=True)
class Table:
    points: tuple[tuple[int, int, int], ...]  #: prompt, output, clients
    measured: Latencies

    def predict(self, shape: Shape, request_s: float) -> Latencies:
        rows = [self._point(shape, *point) for point in self.points]
        ttft, tpot = (np.array(column) for column in zip(*rows, strict=True))
        outputs = np.array([output for _, output, _ in self.points])
        return Latencies(ttft + request_s, tpot, ttft + request_s + tpot * (outputs - 1))

    def _point(self, shape: Shape, prompt: int, output: int, clients: int) -> tuple[float, float]:
        seen = _replayed(closed_loop(clients, prompt, output), shape)
        return float(np.nanmean(seen.ttft)), float(np.nanmean(seen.tpot))


Observed = Log | Table


def _replayed(turns: Turns, shape: Shape) -> Latencies:
    pool = CompiledPool(turns)
    pool.add(shape)
    pool.run_until(FOREVER_PS)
    outcome = pool.outcome()
    done = outcome.status == Status.DONE
    first, last = outcome.first_ps / PS_PER_S, outcome.done_ps / PS_PER_S
    arrival = outcome.arrival_ps / PS_PER_S
    with np.errstate(divide="ignore", invalid="ignore"):
        tpot = np.where(turns.output > 1, (last - first) / (turns.output - 1), np.nan)
    return Latencies(*(np.where(done, values, np.nan) for values in (first - arrival, tpot, last - arrival)))


def read(path: Path, only: Mapping[str, str] | None = None) -> Observed:
    """`only`: of a table the rows that have these values. Raises `TraceError`."""
    names = {suffix.lower() for suffix in path.suffixes}
    if names & {".jsonl", ".json"}:
        return _log(path)
    if ".csv" in names:
        return _table(path, only or {})
    raise TraceError(f"{path}: want a request log (.jsonl or .jsonl.gz) or a table (.csv or .csv.gz)")


def _log(path: Path) -> Log:
    rows: list[list[float]] = []
    with opened(path) as text:
        for number, line in enumerate(text, 1):
            if line.strip():
                rows.append(_request(f"{path}:{number}", line))
    if not rows:
        raise TraceError(f"{path}: there is no request in it")
    table = np.array(sorted(rows, key=lambda row: row[2]))
    prompt, output, queued, first, last = table.T
    turns = open_loop(queued - queued[0], prompt.astype(np.int64), output.astype(np.int64))
    with np.errstate(divide="ignore", invalid="ignore"):
        tpot = np.where(output > 1, (last - first) / (output - 1), np.nan)
    return Log(turns, Latencies(first - queued, tpot, last - queued))


def _request(where: str, line: str) -> list[float]:
    try:
        row = json.loads(line)
        values = [float(row[field]) for field in LOG_FIELDS]
    except (ValueError, TypeError, KeyError) as e:
        raise TraceError(f"{where}: want a JSON object with {', '.join(LOG_FIELDS)} ({type(e).__name__}: {e})") from e
    prompt, output, queued, first, last = values
    if prompt < 1 or output < 1 or not queued <= first <= last:
        raise TraceError(f"{where}: want at least one token each way, and queued <= first token <= last token")
    return values


def _table(path: Path, only: Mapping[str, str]) -> Table:
    points, measured = list[tuple[int, int, int]](), list[tuple[float, float]]()
    with opened(path) as text:
        reader = csv.DictReader(text)
        ttft, tpot = (_column(path, reader.fieldnames or [], name) for name in ("ttft_ms", "tpot_ms"))
        for row in reader:
            if any(row.get(field) != value for field, value in only.items()):
                continue
            try:
                prompt, output, clients = (int(row[field]) for field in TABLE_FIELDS)
                measured.append((float(row[ttft]) / 1e3, float(row[tpot]) / 1e3))
            except (ValueError, TypeError) as e:
                raise TraceError(f"{path}:{reader.line_num}: {e}") from e
            points.append((prompt, output, clients))
    if not points:
        raise TraceError(f"{path}: no row has {', '.join(f'{k}={v}' for k, v in only.items()) or 'a measurement'}")
    first, per_token = np.array(measured).T
    outputs = np.array([output for _, output, _ in points])
    return Table(tuple(points), Latencies(first, per_token, first + per_token * (outputs - 1)))


def _column(path: Path, names: object, part: str) -> str:
    known = list(names) if isinstance(names, list) else []
    if missing := [field for field in TABLE_FIELDS if field not in known]:
        raise TraceError(f"{path}:1: want the columns {', '.join(TABLE_FIELDS)}; missing: {', '.join(missing)}")
    found = [str(name) for name in known if part in str(name)]
    if len(found) != 1:
        raise TraceError(f"{path}:1: want one column with {part} in its name (found: {', '.join(found) or 'none'})")
    return found[0]


def errors(predicted: Latencies, measured: Latencies) -> dict[str, dict[str, float]]:
    """Per cent: of the means, and the mean over requests or rows of the absolute ones."""
    found: dict[str, dict[str, float]] = {}
    for name in ("ttft", "tpot", "e2e"):
        got, want = getattr(predicted, name), getattr(measured, name)
        both = np.isfinite(got) & np.isfinite(want) & (want > 0)
        ratio = got[both] / want[both] - 1
        found[f"{name}_s"] = {
            "mean_error_pct": round(100 * float(got[both].mean() / want[both].mean() - 1), 4),
            "mape_pct": round(100 * float(np.abs(ratio).mean()), 4),
        }
    return found
