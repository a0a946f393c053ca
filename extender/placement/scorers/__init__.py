"""Scorers, one file each. Adding one is a file and a line of SCORERS."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

from extender.placement.scorers.base import Scorer, Shares
from extender.placement.scorers.best_fit import BestFit
from extender.placement.scorers.fgd import Fgd
from extender.placement.scorers.first_fit import FirstFit
from extender.placement.scorers.fragmentation import Fragmentation
from extender.placement.scorers.longest_run import LongestRun
from extender.placement.scorers.slice_value import SliceValue
from extender.placement.scorers.unweighted import Unweighted

__all__ = ["DEFAULT", "SCORERS", "Scorer", "Shares"]

SCORERS: Final[Mapping[str, Scorer]] = MappingProxyType(
    {
        "best-fit": BestFit(),
        "fgd": Fgd(),
        "first-fit": FirstFit(),
        "fragmentation": Fragmentation(),
        "longest-run": LongestRun(),
        "slice-value": SliceValue(),
        "unweighted": Unweighted(),
    }
)
DEFAULT: Final = "slice-value"
