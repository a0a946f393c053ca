"""Reads what a real engine did: a log of its requests, or a table of measured points.

A log is JSON lines, one request each: input_toks, output_toks and, in seconds on one clock, queued_ts, first_token_ts,
last_token_ts (as vLLM stamps them inside the engine). A table is CSV, one closed-loop measurement a row: isl, osl,
concurrency, a time to first and per output token (columns with `ttft` and `tpot` and a unit in their names, such as
`mean_ttft_ms`; of several that of the mean).
"""

import csv
import json
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import isfinite, nan
from pathlib import Path
from typing import Final

import numpy as np

from sim.serving.known import Known, UnknownError, canonical, precision_of
from sim.serving.observed import Latencies, Log, Observed, Point, Table
from sim.serving.turns import open_loop
from sim.workloads.trace import TraceError, opened

COUNTS: Final = ("input_toks", "output_toks")
STAMPS: Final = ("queued_ts", "first_token_ts", "last_token_ts")
LOG_FIELDS: Final = (*COUNTS, *STAMPS)
ANSWERS: Final = ("output_toks", "first_token_ts", "last_token_ts")  # what a request that failed has not
TABLE_FIELDS: Final = ("isl", "osl", "concurrency")
COLUMNS_OF: Final = {  # of a table, by what they tell of the engine
    "gpu": ("system", "gpu", "device"),
    "model": ("model", "model_path", "model_name"),
    "tp": ("tp", "tp_size", "tensor_parallel"),
    "precision": ("precision", "quantization", "dtype"),
}
UNITS_S: Final = {"s": 1.0, "ms": 1e-3, "us": 1e-6}
MEAN: Final = frozenset({"mean", "avg", "average"})
OTHER_STATISTIC: Final = re.compile(r"p\d+|median|std|stdev|stddev|min|max|var")
LONGEST_LOG_S: Final = 1e6
MOST_TOKENS: Final = 1 << 24
MOST_CLIENTS: Final = 1 << 16


def read(path: Path, only: Mapping[str, str] | None = None, engine: Known | None = None) -> Observed:
    """`only`: of a table the rows that have these values; `engine`: those that are about it. Raises `TraceError`."""
    names = {suffix.lower() for suffix in path.suffixes}
    if names & {".jsonl", ".json"}:
        return _log(path)
    if ".csv" in names:
        try:
            return _table(path, only or {}, engine)
        except csv.Error as e:
            raise TraceError(f"{path}: is no CSV: {e}") from e
    raise TraceError(f"{path}: want a request log (.jsonl or .jsonl.gz) or a table (.csv or .csv.gz)")


# -- logs --------------------------------------------------------------------------------------------------------------


def _log(path: Path) -> Log:
    rows, failed = list[tuple[int, list[float]]](), 0
    with opened(path) as text:
        for number, line in enumerate(text, 1):
            if line.strip():
                values = _request(f"{path}:{number}", line)
                failed += values is None
                rows += [(number, values)] if values is not None else []
    if not rows:
        why = f"none of {failed} requests was answered: each lacks one of {', '.join(ANSWERS)}"
        raise TraceError(f"{path}: {why if failed else 'there is no request in it'}")
    rows.sort(key=lambda row: row[1][2])
    prompt, output, queued, first, last = np.array([values for _, values in rows]).T
    if last.max() - queued[0] > LONGEST_LOG_S:
        raise TraceError(
            f"{path}: {', '.join(STAMPS)} want seconds; these lie {last.max() - queued[0]:.3g} apart, more than "
            f"{LONGEST_LOG_S:g} s: are they in milliseconds or nanoseconds?"
        )
    turns = open_loop(queued - queued[0], prompt.astype(np.int64), output.astype(np.int64))
    with np.errstate(divide="ignore", invalid="ignore"):
        tpot = np.where(output > 1, (last - first) / (output - 1), np.nan)
    places = tuple(f"{path}:{number}" for number, _ in rows)
    return Log(turns, Latencies(first - queued, tpot, last - queued), places, failed)


def _request(where: str, line: str) -> list[float] | None:
    """None: it failed."""
    try:
        row = json.loads(line)
    except ValueError as e:
        raise TraceError(f"{where}: want a JSON object with {', '.join(LOG_FIELDS)} ({e})") from e
    if not isinstance(row, dict):
        raise TraceError(f"{where}: want a JSON object with {', '.join(LOG_FIELDS)} (got {line.strip()[:40]})")
    for name in LOG_FIELDS:
        if row.get(name) is None and name not in ANSWERS:
            raise TraceError(f"{where}: want a JSON object with {', '.join(LOG_FIELDS)}; missing: {name}")
    if any(row.get(name) is None for name in ANSWERS):
        return None
    values = [_number(where, name, row[name]) for name in LOG_FIELDS]
    for name, value in zip(COUNTS, values, strict=False):
        if value != int(value) or value > MOST_TOKENS or value < (0 if name in ANSWERS else 1):
            raise TraceError(f"{where}: {name}: want a whole number of tokens, at most {MOST_TOKENS} (got {value:g})")
    if values[1] == 0:
        return None
    if not values[2] <= values[3] <= values[4]:
        raise TraceError(
            f"{where}: want queued_ts <= first_token_ts <= last_token_ts (got {', '.join(map(str, values[2:]))})"
        )
    return values


def _number(where: str, name: str, cell: object) -> float:
    try:
        value = nan if isinstance(cell, bool) else float(str(cell))
    except ValueError:
        value = nan
    if not isfinite(value):
        raise TraceError(f"{where}: {name}: want a number (got {cell!r})")
    return value


# -- tables ------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Column:
    name: str
    unit_s: float


def _table(path: Path, only: Mapping[str, str], engine: Known | None) -> Table:
    points, measured, runs, places, failed = list[Point](), list[tuple[float, float]](), list[str](), list[str](), 0
    with opened(path) as text:
        reader = csv.DictReader(text)
        reader.fieldnames = [name.strip().removeprefix("\ufeff") for name in reader.fieldnames or []]
        names = list(reader.fieldnames)
        if missing := [field for field in TABLE_FIELDS if field not in names]:
            raise TraceError(f"{path}:1: want the columns {', '.join(TABLE_FIELDS)}; missing: {', '.join(missing)}")
        ttft, tpot = (_column(path, names, what) for what in ("ttft", "tpot"))
        for row in _about(reader, only, engine):
            where = f"{path}:{reader.line_num}"
            if not any((row.get(column.name) or "").strip() for column in (ttft, tpot)):
                failed += 1
                continue
            points.append(_point(where, row))
            measured.append(_measured(where, row, (ttft, tpot), output=points[-1][1]))
            rest = (f"{k}={v}" for k, v in row.items() if k not in {"isl", "osl", ttft.name, tpot.name} and v)
            runs.append(" ".join(rest))
            places.append(where)
    if not points:
        raise TraceError(f"{path}: {_no_row(path, only, engine, failed)}")
    first, per_token = np.array(measured).T
    outputs = np.array([output for _, output, _ in points])
    e2e = first + np.where(outputs > 1, per_token, 0.0) * (outputs - 1)
    return Table(tuple(points), Latencies(first, per_token, e2e), tuple(runs), places=tuple(places), failed=failed)


def _about(
    rows: "csv.DictReader[str]", only: Mapping[str, str], engine: Known | None, but: str = ""
) -> Iterator[Mapping[str, str]]:
    """Rows that have these values and are about that engine."""
    for row in rows:
        if all(row.get(field) == value for field, value in only.items()) and _is_of(row, engine, but):
            yield row


def _column(path: Path, names: Sequence[str], what: str) -> _Column:
    """Where several columns tell of it, that of the mean."""
    words = {name: set(re.split(r"[^a-z0-9]+", name.lower())) for name in names}
    found = [name for name in names if what in words[name] and not words[name].isdisjoint(UNITS_S)]
    for better in (
        [name for name in found if not words[name].isdisjoint(MEAN)],
        [name for name in found if not any(OTHER_STATISTIC.fullmatch(word) for word in words[name])],
    ):
        if len(found) > 1 and better:
            found = better
    if len(found) != 1:
        raise TraceError(
            f"{path}:1: want one column with {what} and its unit in its name, such as {what}_ms or {what}_s, its mean "
            f"if there are several (found: {', '.join(found) or 'none'})"
        )
    return _Column(found[0], next(scale for unit, scale in UNITS_S.items() if unit in words[found[0]]))


def _point(where: str, row: Mapping[str, str]) -> Point:
    counts = list[int]()
    for name in TABLE_FIELDS:
        value, most = _number(where, name, row.get(name)), MOST_CLIENTS if name == "concurrency" else MOST_TOKENS
        if value != int(value) or not 1 <= value <= most:
            raise TraceError(f"{where}: {name}: want a whole number of at least 1 and at most {most} (got {value:g})")
        counts.append(int(value))
    prompt, output, clients = counts
    return prompt, output, clients


def _measured(where: str, row: Mapping[str, str], columns: Sequence[_Column], output: int) -> tuple[float, float]:
    """Seconds; NaN a token where there is but one."""
    found = list[float]()
    for column in columns:
        if output == 1 and column is columns[1]:
            found.append(float("nan"))
            continue
        value = _number(where, column.name, row.get(column.name)) * column.unit_s
        if value <= 0:
            raise TraceError(f"{where}: {column.name}: want a time above 0 (got {row.get(column.name)})")
        found.append(value)
    first, per_token = found
    return first, per_token


def _no_row(path: Path, only: Mapping[str, str], engine: Known | None, failed: int) -> str:
    """Why nothing is left of a table."""
    if failed:
        return f"{failed} rows have no measurement, and there are no others"
    wanted = [f"{k}={v}" for k, v in only.items()] + ([engine.name] if engine else [])
    with opened(path) as text:
        about = Counter[str]()
        for row in csv.DictReader(text):
            told = [f"{c}={row[c]}" for columns in COLUMNS_OF.values() for c in columns if row.get(c)]
            about[" ".join(told)] += 1
    rows = "; ".join(f"{count} of {what}" for what, count in about.most_common(4) if what)
    return f"no row has {', '.join(wanted) or 'a measurement'}" + (f"; there are {rows}" if rows else "")


def precision_in(path: Path, only: Mapping[str, str], engine: Known) -> str | None:
    """The weights' precision in most of a table's rows about that engine, whatever it says of it; None: not told."""
    if ".csv" not in path.suffixes:
        return None
    with opened(path) as text:
        rows = list(_about(csv.DictReader(text), only, engine, but="precision"))
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
