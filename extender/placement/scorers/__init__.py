"""Scorers, one file each. Adding one is a file and a line of SCORERS."""

from collections.abc import Callable, Mapping
from importlib import import_module
from types import MappingProxyType
from typing import Final

from extender.placement.fleet import Fleet
from extender.placement.scorers.base import NodeScorer, Scorer, Shares
from extender.placement.scorers.best_fit import BestFit
from extender.placement.scorers.fgd import Fgd
from extender.placement.scorers.first_fit import FirstFit
from extender.placement.scorers.fragmentation import Fragmentation
from extender.placement.scorers.longest_run import LongestRun
from extender.placement.scorers.slice_value import SliceValue
from extender.placement.scorers.unweighted import Unweighted

__all__ = ["DEFAULT", "SCORERS", "NodeScorer", "Scorer", "Shares", "node_scorer"]

SCORERS: Final[Mapping[str, Scorer]] = MappingProxyType(
    {
        "best-fit": BestFit(),
        "dot-prod": BestFit(),
        "fgd": Fgd(),
        "first-fit": FirstFit(),
        "fragmentation": Fragmentation(),
        "gpu-clustering": BestFit(),
        "gpu-packing": BestFit(),
        "longest-run": LongestRun(),
        "random": FirstFit(),
        "slice-value": SliceValue(),
        "spr": SliceValue(),
        "unweighted": Unweighted(),
    }
)
DEFAULT: Final = "slice-value"

#: Scorers that price shares and whole GPUs by what else there is on a node; SCORERS has what prices their MIG slices.
#: Most are compiled, so they are imported where one is used: numba takes a second and 100 MiB.
_NODE_SCORERS: Final = {
    "dot-prod": ("extender.placement.ranking.dot_prod", "DotProd"),
    "gpu-clustering": ("extender.placement.ranking.gpu_clustering", "GpuClustering"),
    "gpu-packing": ("extender.placement.ranking.gpu_packing", "GpuPacking"),
    "random": ("extender.placement.ranking.random_fit", "RandomFit"),
    "spr": ("extender.placement.spr.desk", "Desk"),
}


def node_scorer(name: str, fleet: Fleet) -> NodeScorer | None:
    """A new one that knows nothing yet; None where a scorer looks at GPUs one by one."""
    if name not in _NODE_SCORERS:
        return None
    module, made = _NODE_SCORERS[name]
    new: Callable[[Fleet], NodeScorer] = getattr(import_module(module), made)
    return new(fleet)
