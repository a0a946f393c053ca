"""The rollout's compiled code run by Python itself, line by line: what machine code does must be what the text says."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from types import ModuleType
from typing import Any

import numpy as np
from numba import config

PACKAGE = "extender.placement.spr"
_config: Any = config  # numba makes its settings at run time


@contextmanager
def _apart() -> Iterator[None]:
    """While the block runs, the package's modules are made anew and not compiled."""
    ours = {name: module for name, module in sys.modules.items() if name.startswith(PACKAGE)}
    for name in ours:
        del sys.modules[name]
    before, _config.DISABLE_JIT = _config.DISABLE_JIT, True
    try:
        yield
    finally:
        _config.DISABLE_JIT = before
        for name in [name for name in sys.modules if name.startswith(PACKAGE)]:
            del sys.modules[name]
        sys.modules.update(ours)
        for name, module in ours.items():
            parent, _, last = name.rpartition(".")
            setattr(sys.modules[parent], last, module)


def interpreted(module: str) -> ModuleType:
    with _apart():
        return import_module(f"{PACKAGE}.{module}")


@contextmanager
def wrapping() -> Iterator[None]:
    """Numbers of 64 bits wrap around in machine code without a word."""
    with np.errstate(over="ignore"):
        yield
