"""How the fluid model, the baselines and the oracle are compiled."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, Final, TypeVar, cast

from numba import config, njit

from extender.machine_code import cache_folder, is_filled

Function = TypeVar("Function", bound=Callable[..., object])

_SIM: Final = Path(__file__).parents[1]
CACHE: Final = cache_folder(_SIM / "fluid", _SIM / "baselines", _SIM / "oracle")
_njit: Any = njit  # the options below are not in the type hints
_config: Any = config  # numba makes its settings at run time


def compiled_before() -> bool:
    return is_filled(CACHE)


def compiled(function: Function) -> Function:
    """`function` as machine code, kept for the next process; its types are those of the first call."""
    return cast("Function", _kept(function, None, fastmath=False))


def vectorised(function: Function) -> Function:
    """As `compiled`; the order of additions may change, so that loops over arrays use vector instructions."""
    return cast("Function", _kept(function, None, fastmath=True))


def of_type(signature: Any) -> Callable[[Function], Function]:  # noqa: ANN401  # numba's own types have none
    """As `compiled`, for one signature: such functions can be given to compiled functions as arguments."""

    def decorate(function: Function) -> Function:
        return cast("Function", _kept(function, signature, fastmath=False))

    return decorate


def _kept(function: object, signature: object, *, fastmath: bool) -> object:
    before = _config.CACHE_DIR  # read while a function is decorated; other packages have their own folder
    _config.CACHE_DIR = str(CACHE)
    try:
        return _njit(signature, cache=True, error_model="numpy", fastmath=fastmath)(function)
    finally:
        _config.CACHE_DIR = before
