"""The policies by name."""

from collections.abc import Callable, Mapping
from functools import partial
from types import MappingProxyType
from typing import Final, Protocol

from sim.packing.arguments import DEFAULT_SCORER
from sim.packing.model import Experiment, Placement
from sim.packing.policies.fgd import FgdRun
from sim.packing.policies.spr import SprRun
from sim.packing.ranking import Ranking, RankingRun


class Run(Protocol):
    """One experiment under one policy; `placement` fills as arrivals are handled."""

    @property
    def placement(self) -> Placement: ...

    def advance(self, begin: int, end: int) -> int:
        """Place arrivals from `begin` on, in order, `end` excluded; how many were handled, 1 or more."""


Scorer = Callable[[Experiment, int], Run]  # of an experiment and its seed

DEFAULT: Final = "spr"
SCORERS: Final[Mapping[str, Scorer]] = MappingProxyType(
    {
        DEFAULT: SprRun,
        "fgd": FgdRun,
        "best_fit": partial(RankingRun, Ranking.BEST_FIT),
        "dot_prod": partial(RankingRun, Ranking.DOT_PROD),
        "gpu_packing": partial(RankingRun, Ranking.GPU_PACKING),
        "gpu_clustering": partial(RankingRun, Ranking.GPU_CLUSTERING),
        "random": partial(RankingRun, Ranking.RANDOM),
        "first_fit": partial(RankingRun, Ranking.FIRST_FIT),
    }
)


def scorer(name: str) -> Scorer:
    """`default` is what production uses."""
    return SCORERS[DEFAULT if name == DEFAULT_SCORER else name]
