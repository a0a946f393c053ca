"""How the engine is compiled."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, Final, TypeVar, cast

from numba import config, njit
from numba.core import cgutils
from numba.extending import intrinsic
from numpy.typing import NDArray

from extender.machine_code import cache_folder, is_filled

Function = TypeVar("Function", bound=Callable[..., object])


CACHE: Final = cache_folder(Path(__file__).parent)
setattr(config, "CACHE_DIR", str(CACHE))  # noqa: B010  # numba makes its settings at run time
_null: Any = cgutils.get_null_value
_njit: Any = njit  # the options below are in the documentation, and not in the type hints


def compiled_before() -> bool:
    return is_filled(CACHE)


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
