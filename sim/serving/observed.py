"""What a real engine did: a log of requests, or a table of measured points; and what a model says it would have done.

A log is JSON lines, one request each: input_toks, output_toks and, in seconds on one clock, queued_ts, first_token_ts,
last_token_ts (as vLLM stamps them inside the engine). A table is CSV, one closed-loop measurement a row: isl, osl,
concurrency, a time to first token (a column with `ttft_ms` in its name) and per output token (`tpot_ms`).
"""

import csv
import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from sim.serving.closed import ROUNDS, closed_loop
from sim.serving.compiled import CompiledPool
from sim.serving.known import Known, UnknownError, canonical, precision_of
from sim.serving.pool import Shape, Status
from sim.serving.times import BLOCK_TOKENS
from sim.serving.turns import PS_PER_S, Turns, open_loop
from sim.workloads.trace import TraceError, opened

Floats = NDArray[np.float64]
FOREVER_PS: Final = 2**61
LOG_FIELDS: Final = ("input_toks", "output_toks", "queued_ts", "first_token_ts", "last_token_ts")
TABLE_FIELDS: Final = ("isl", "osl", "concurrency")
COLUMNS_OF: Final = {  # of a table, by what they tell of the engine
    "gpu": ("system", "gpu", "device"),
    "model": ("model", "model_path", "model_name"),
    "tp": ("tp", "tp_size", "tensor_parallel"),
    "precision": ("precision", "quantization", "dtype"),
}
CROWDED: Final = 0.5  # a row is, where less than this share of those that could be served are


@dataclass(frozen=True, slots=True)
class Latencies:
    """Seconds; one value a request of a log, a mean a row of a table. NaN where there is none."""

    ttft: Floats
    tpot: Floats
    e2e: Floats

    def columns(self) -> tuple[Floats, Floats, Floats]:
        return self.ttft, self.tpot, self.e2e

    def only(self, kept: NDArray[Any]) -> "Latencies":
        return Latencies(*(column[kept] for column in self.columns()))


@dataclass(frozen=True, slots=True)
class Log:
    turns: Turns
    measured: Latencies

    def predict(self, shape: Shape, request_s: float) -> Latencies:
        """`request_s` is not in it: the stamps are the engine's own."""
        del request_s
        return _replayed(self.turns, shape)


Point = tuple[int, int, int]  # prompt, output, clients


@dataclass(frozen=True, slots=True)
class Table:
    """`runs`: what else a row says of how it came about; rows that agree in it were one run of an engine.

    `limits`: requests served at once in some of the runs, where that is known.
    """

    points: tuple[Point, ...]
    measured: Latencies
    runs: tuple[str, ...]
    limits: Mapping[str, int] = field(default_factory=dict)

    def predict(self, shape: Shape, request_s: float) -> Latencies:
        keys = [(point, self.limits.get(run)) for point, run in zip(self.points, self.runs, strict=True)]
        means = {key: _point(shape, *key) for key in dict.fromkeys(keys)}
        ttft, tpot = (np.array(column) for column in zip(*(means[key] for key in keys), strict=True))
        outputs = np.array([output for _, output, _ in self.points])
        return Latencies(ttft + request_s, tpot, ttft + request_s + tpot * (outputs - 1))

    def crowded(self, shape: Shape) -> frozenset[int]:
        """Rows where far fewer were served at once than memory and options would allow.

        By Little's law clients x (time of generation / whole time) are served. The rest waited in front of the engine,
        for a reason that the row does not tell (a client's own connections, an option of that run).
        """
        found = set[int]()
        for row, (prompt, output, clients) in enumerate(self.points):
            served = clients * (1 - self.measured.ttft[row] / self.measured.e2e[row])
            room = shape.kv_blocks * BLOCK_TOKENS / (prompt + output)
            if served < CROWDED * min(clients, shape.max_running, room):
                found.add(row)
        return frozenset(found)

    def rows(self, rows: Sequence[int]) -> "Table":
        measured = self.measured.only(np.array(rows, np.int64))
        return Table(tuple(self.points[r] for r in rows), measured, tuple(self.runs[r] for r in rows), self.limits)

    def limited(self, limits: Mapping[str, int]) -> "Table":
        return replace(self, limits={**self.limits, **limits})


def _point(shape: Shape, point: Point, limit: int | None) -> tuple[float, float]:
    prompt, output, clients = point
    if limit is not None:
        shape = replace(shape, max_running=min(limit, shape.max_running))
    seen = _replayed(closed_loop(clients, prompt, output, requests=ROUNDS * min(clients, limit or clients)), shape)
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


def read(path: Path, only: Mapping[str, str] | None = None, engine: Known | None = None) -> Observed:
    """`only`: of a table the rows that have these values; `engine`: those that are about it. Raises `TraceError`."""
    names = {suffix.lower() for suffix in path.suffixes}
    if names & {".jsonl", ".json"}:
        return _log(path)
    if ".csv" in names:
        return _table(path, only or {}, engine)
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


def _table(path: Path, only: Mapping[str, str], engine: Known | None) -> Table:
    points, measured, runs = list[Point](), list[tuple[float, float]](), list[str]()
    with opened(path) as text:
        reader = csv.DictReader(text)
        ttft, tpot = (_column(path, reader.fieldnames or [], name) for name in ("ttft_ms", "tpot_ms"))
        for row in reader:
            if any(row.get(field) != value for field, value in only.items()) or not _is_of(row, engine):
                continue
            try:
                prompt, output, clients = (int(row[field]) for field in TABLE_FIELDS)
                measured.append((float(row[ttft]) / 1e3, float(row[tpot]) / 1e3))
            except (ValueError, TypeError) as e:
                raise TraceError(f"{path}:{reader.line_num}: {e}") from e
            points.append((prompt, output, clients))
            rest = (f"{k}={v}" for k, v in row.items() if k not in {"isl", "osl", ttft, tpot} and v)
            runs.append(" ".join(rest))
    if not points:
        wanted = [f"{k}={v}" for k, v in only.items()] + ([engine.name] if engine else [])
        raise TraceError(f"{path}: no row has {', '.join(wanted) or 'a measurement'}")
    first, per_token = np.array(measured).T
    outputs = np.array([output for _, output, _ in points])
    return Table(tuple(points), Latencies(first, per_token, first + per_token * (outputs - 1)), tuple(runs))


def precision_in(path: Path, only: Mapping[str, str], engine: Known) -> str | None:
    """The weights' precision in most of a table's rows about that engine, whatever it says of it; None: not told."""
    if ".csv" not in path.suffixes:
        return None
    with opened(path) as text:
        rows = [
            row
            for row in csv.DictReader(text)
            if all(row.get(field) == value for field, value in only.items()) and _is_of(row, engine, but="precision")
        ]
    told = Counter(next((row[c] for c in COLUMNS_OF["precision"] if row.get(c)), "") for row in rows)
    return max(told, key=lambda cell: (told[cell], cell), default="") or None


def _is_of(row: Mapping[str, str | None], engine: Known | None, but: str = "") -> bool:
    """Whether the row is about that engine, as far as the table has columns that tell.

    An empty cell does not tell; where it is the precision's, the weights are as they are published.
    """
    if engine is None:
        return True
    asked = {"gpu": engine.gpu_name, "model": engine.model_name, "tp": str(engine.tensor_parallel)}
    asked["precision"] = engine.precision
    for what, wanted in asked.items():
        if what == but:
            continue
        for column in COLUMNS_OF[what]:
            cell = row.get(column)
            if cell == "" and what == "precision":
                cell = engine.model.get("published", "bf16")
            if cell and not _means(what, cell, wanted):
                return False
    return True


def _means(what: str, cell: str, wanted: str) -> bool:
    try:
        match what:
            case "gpu" | "model":
                return canonical(f"{what}s", cell) == wanted
            case "precision":
                return precision_of(cell) == wanted
            case _:
                return cell == wanted
    except UnknownError:
        return False


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
