"""The policies as placers of one pod at a time, for recipes in which pods leave."""

from collections.abc import Callable, Mapping
from functools import partial
from types import MappingProxyType
from typing import Final

import numpy as np

from extender.placement.spr.policy import WORK_STEP, due_after
from sim.packing.cluster import Cluster, Requests
from sim.packing.engine import Desk, Tables, bind, decide, new_desk
from sim.packing.model import Experiment
from sim.packing.policies.fgd import fgd_tables
from sim.packing.policies.spr import spr_of, spr_tables
from sim.packing.ranking import Ranking, RankingPlacer
from sim.packing.replay import Placer
from sim.packing.table import DEFAULT


class FgdPlacer:
    """FGD, told the mix of the trace's pods as published."""

    def __init__(self, experiment: Experiment, _seed: int) -> None:
        self._desk: Desk = new_desk(experiment.nodes, experiment.trace.classes, memory=False)
        self._tables: Tables = fgd_tables(experiment.trace)

    @property
    def cluster(self) -> Cluster:
        return self._desk.cluster

    @property
    def requests(self) -> Requests:
        return self._desk.requests

    def choose(self, pod: int) -> int:
        return decide(self._desk, pod, self._tables)

    def take(self, pod: int, node: int) -> None:
        bind(self._desk, node, pod)

    def left(self, _pod: int, node: int) -> None:
        self._desk.scores.node_state[node] = -1


class SprPlacer:
    """SPR. Prices are renewed as in the arrivals-only recipe, and when as much work has left as makes them stale."""

    def __init__(self, experiment: Experiment, _seed: int) -> None:
        self._desk = new_desk(experiment.nodes, experiment.trace.classes)
        self._policy = spr_of(experiment.nodes, experiment.trace.classes, self._desk)
        self._arrived: list[int] = []
        self._seen = 0
        self._refresh()

    @property
    def cluster(self) -> Cluster:
        return self._desk.cluster

    @property
    def requests(self) -> Requests:
        return self._desk.requests

    def choose(self, pod: int) -> int:
        due = self._seen + len(self._arrived) >= due_after(self._seen)
        if due or abs(self._moved_milli) > self._step_milli:
            self._refresh()
        return decide(self._desk, pod, self._tables)

    def take(self, pod: int, node: int) -> None:
        self._arrived.append(pod)
        bind(self._desk, node, pod)
        self._moved_milli += self._work_milli(pod)

    def left(self, pod: int, node: int) -> None:
        self._desk.scores.node_state[node] = -1
        self._moved_milli -= self._work_milli(pod)

    def _work_milli(self, pod: int) -> float:
        return float(self.requests.gpu_milli[pod] * self.requests.gpu_count[pod])

    def _refresh(self) -> None:
        self._policy.observe(np.array(self._arrived, dtype=np.int64))
        self._seen += len(self._arrived)
        self._arrived.clear()
        self._tables = spr_tables(self._policy.refresh(self.cluster)[0])
        self._moved_milli, self._step_milli = 0.0, WORK_STEP * float(self.cluster.gpu_free_milli.sum())


PLACERS: Final[Mapping[str, Callable[[Experiment, int], Placer]]] = MappingProxyType(
    {
        DEFAULT: SprPlacer,
        "fgd": FgdPlacer,
        **{ranking.name.lower(): partial(RankingPlacer, ranking) for ranking in Ranking},
    }
)
