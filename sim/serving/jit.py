"""The one place that knows numba."""

import os
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path
from typing import TypeVar, cast

from numba import config, njit

Function = TypeVar("Function", bound=Callable[..., object])


def _cache_folder() -> Path:
    """Outside the tree, and one for each state of these sources: numba looks at the file of a function alone, and would
    go on using machine code with a constant of another file that has changed since."""
    sources = b"".join(p.read_bytes() for p in sorted(Path(__file__).parent.glob("*.py")))
    home = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return home / "slicewise" / "numba" / sha256(sources).hexdigest()[:16]


config.CACHE_DIR = os.environ.get("NUMBA_CACHE_DIR") or str(_cache_folder())


def compiled(function: Function) -> Function:
    """`function` as machine code, kept for the next process."""
    return cast("Function", njit(cache=True, error_model="numpy")(function))
