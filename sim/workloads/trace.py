"""Reading recorded loads: plain or gzipped text, line by line, errors with file, line, field and rule."""

import csv
import gzip
import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from math import isfinite
from pathlib import Path
from typing import IO, Any


class TraceError(ValueError):
    """A recorded load that cannot be used."""


@contextmanager
def opened(path: Path) -> Iterator[IO[str]]:
    """The file's text. Raises `TraceError` for what cannot be read."""
    try:
        with gzip.open(path, "rt", encoding="utf-8") if path.suffix == ".gz" else path.open(encoding="utf-8") as text:
            yield text
    except (OSError, EOFError, UnicodeDecodeError) as e:
        why = e.strerror if isinstance(e, OSError) and e.strerror else str(e)
        raise TraceError(f"{path}: cannot be read: {why}") from e


def given(trace: Path | None) -> Path:
    if trace is None:
        raise TraceError("this scenario replays a recorded trace; give it with --trace PATH")
    return trace


@contextmanager
def at(path: Path, line: int) -> Iterator[None]:
    """What is wrong with one line, said with where it stands."""
    try:
        yield
    except TraceError:
        raise
    except (ValueError, IndexError) as e:
        raise TraceError(f"{path}:{line}: {e}") from e


def rows(path: Path, columns: Sequence[str], optional: Sequence[str] = ()) -> Iterator[tuple[int, dict[str, str]]]:
    """The lines of a CSV file with a header, by the names that are wanted. Others are not read."""
    with opened(path) as text:
        reader = csv.reader(text)
        header = next(reader, [])
        if missing := [c for c in columns if c not in header]:
            raise TraceError(f"{path}:1: want the columns {', '.join(columns)}; missing: {', '.join(missing)}")
        places = {c: header.index(c) for c in (*columns, *optional) if c in header}
        for row in reader:
            if not row:
                continue
            if len(row) != len(header):
                raise TraceError(f"{path}:{reader.line_num}: want {len(header)} fields as in line 1 (got {len(row)})")
            yield reader.line_num, {c: row[i].strip() for c, i in places.items()}


def objects(path: Path, parse_float: Callable[[str], Any] = float) -> Iterator[tuple[int, dict[str, Any]]]:
    """The lines of a file of JSON lines. `parse_float`: how a number with a point is read."""
    with opened(path) as text:
        for number, line in enumerate(text, 1):
            if not line.strip():
                continue
            try:
                value = json.loads(line, parse_float=parse_float)
            except ValueError as e:
                raise TraceError(f"{path}:{number}: not JSON: {e}") from e
            if not isinstance(value, dict):
                raise TraceError(f"{path}:{number}: want one JSON object a line")
            yield number, value


def tokens(value: object, field: str, least: int = 1) -> int:
    """A count of tokens, as text or as a number. Raises `ValueError` with field and rule."""
    text = str(value).strip().removesuffix(".0")
    if isinstance(value, bool) or not text.isascii() or not text.isdecimal() or not least <= int(text) < 2**31:
        raise ValueError(f"{field}: want a whole number of tokens, {least} or more (got {value!r})")
    return int(text)


def number(value: object, field: str, least: float = float("-inf")) -> float:
    """A finite number, as text or as a number. Raises `ValueError` with field and rule."""
    try:
        found = float("nan") if isinstance(value, bool) else float(value)  # type: ignore[arg-type]
    except (TypeError, ValueError):
        found = float("nan")
    if not isfinite(found) or found < least:
        rule = "want a number" if least == float("-inf") else f"want a number, {least:g} or more"
        raise ValueError(f"{field}: {rule} (got {value!r})")
    return found
