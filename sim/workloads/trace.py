"""Reading recorded loads: plain or gzipped text, errors with file, line, field and rule."""

import gzip
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO


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
