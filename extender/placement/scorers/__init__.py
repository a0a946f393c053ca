"""Scorers, one file each. Adding one is a file and a line of SCORERS."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

from extender.placement.scorers.base import Scorer, Shares
from extender.placement.scorers.best_fit import BestFit
from extender.placement.scorers.first_fit import FirstFit
from extender.placement.scorers.fragmentation import Fragmentation

__all__ = ["DEFAULT", "SCORERS", "Scorer", "Shares"]

SCORERS: Final[Mapping[str, Scorer]] = MappingProxyType(
    {
        "best-fit": BestFit(),
        "first-fit": FirstFit(),
        "fragmentation": Fragmentation(),
    }
)
DEFAULT: Final = "fragmentation"
