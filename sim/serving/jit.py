"""The one place that knows numba."""

import os
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path
from tempfile import mkdtemp
from typing import Any, Final, TypeVar, cast

from numba import config, njit
from numba.core import cgutils
from numba.extending import intrinsic
from numpy.typing import NDArray

Function = TypeVar("Function", bound=Callable[..., object])


def _cache_folder() -> Path:
    """Outside the tree, and one for each state of these sources.

    Numba looks at the file of a function alone: it would go on using machine code with a constant of another file that
    has changed since. Where nothing can be kept, a folder of this process alone serves.
    """
    sources = b"".join(p.read_bytes() for p in sorted(Path(__file__).parent.glob("*.py")))
    kept = os.environ.get("XDG_CACHE_HOME") or str(Path("~/.cache").expanduser())
    folder = Path(kept) / "slicewise" / "numba" / sha256(sources).hexdigest()[:16]
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError:
        return Path(mkdtemp(prefix="slicewise-"))
    return folder if os.access(folder, os.W_OK) else Path(mkdtemp(prefix="slicewise-"))


CACHE: Final = os.environ.get("NUMBA_CACHE_DIR") or str(_cache_folder())
setattr(config, "CACHE_DIR", CACHE)  # noqa: B010  # numba makes its settings at run time
_null: Any = cgutils.get_null_value
_njit: Any = njit  # the options below are in the documentation, and not in the type hints


def compiled_before() -> bool:
    """Whether an earlier process has left its machine code: without it the first use takes some 20 s."""
    folder = Path(CACHE)
    return any(folder.rglob("*.nbc"))


def compiled(function: Function) -> Function:
    """`function` as machine code, kept for the next process; called from compiled code only."""
    made = _njit(cache=True, error_model="numpy", no_cpython_wrapper=True, no_cfunc_wrapper=True, forceinline=True)(
        function
    )
    return cast("Function", made)


def entry(function: Function) -> Function:
    """As `compiled`, callable from Python too; the way in costs compile time, so few functions have it."""
    return cast("Function", _njit(cache=True, error_model="numpy", no_cfunc_wrapper=True)(function))


def _borrowed(_typing: Any, array: Any) -> Any:  # noqa: ANN401  # numba's own objects have no types
    def without_owner(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:  # noqa: ANN401  # as above
        view = context.make_array(signature.args[0])(context, builder, value=arguments[0])
        view.meminfo = _null(view.meminfo.type)
        view.parent = _null(view.parent.type)
        return view._getvalue()  # noqa: SLF001  # there is no public way

    return array(array), without_owner


borrowed: Final = cast("Callable[[NDArray[Any]], NDArray[Any]]", intrinsic(_borrowed))
"""The same array without an owner, for compiled code; the caller keeps the owner alive.

Numba counts references at every call that an array goes through, atomically: without an owner there is nothing to
count, and the engine runs five times as fast.
"""
