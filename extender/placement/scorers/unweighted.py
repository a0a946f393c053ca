"""As FGD, with every plain profile as likely as another, whatever is asked for. For comparison.

In the manner of arXiv 2511.18906, which greedily keeps the number of profiles that still fit high.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from extender.placement.fragment import uniform
from extender.placement.masks import Tables
from extender.placement.scorers.base import Floats
from extender.placement.scorers.best_fit import BestFit
from extender.placement.scorers.fgd import unusable_growth
from extender.placement.traffic import NO_TRAFFIC, Traffic


@dataclass(frozen=True, slots=True)
class Unweighted(BestFit):
    def mig(
        self, tables: Tables, profile: int, _census: NDArray[np.int64], _traffic: Traffic = NO_TRAFFIC, /
    ) -> Floats:
        return unusable_growth(tables, profile, uniform(tables))
