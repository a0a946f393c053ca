"""What the policy knows, and when it has to know it anew."""

from typing import Final

import numpy as np

from extender.placement.spr.cluster import Cluster
from extender.placement.spr.learner import MixLearner
from extender.placement.spr.mix import Mix
from extender.placement.spr.model import IntArray, Nodes
from extender.placement.spr.potential import Expected
from extender.placement.spr.prices import (
    Prices,
    count_copies,
    cpu_left_share,
    excess_prices,
    gpu_types,
    guard_prices,
    price_table,
)
from extender.placement.spr.rollout import Streams
from extender.placement.spr.states import States
from extender.placement.spr.streams import node_kinds, sample_streams
from extender.placement.spr.watch import Watch

FIRST_REFRESH_ARRIVALS: Final = 32  # and then when half as many again have arrived: what is known is young
REFRESH_ARRIVALS: Final = 1024  # at most between two refreshes
# Prices are stale when the free work has fallen by this fraction: fixed ones cost .7 points at 100 %,
WORK_STEP: Final = 1 / 16
# or the copies of a type of several GPUs by this one: small pods can open all hosts of large ones within one period.
COPY_STEP: Final = 1 / 8
REDRAW_FRACTION: Final = 0.5  # streams are drawn anew when the mix rests on this many more pods
STREAM_SEED: Final = 1  # draws 2 to 5 differ by a few hundredths of a point


def due_after(arrived: int) -> int:
    """After how many arrivals prices are renewed next, at the latest."""
    return arrived + min(REFRESH_ARRIVALS, max(FIRST_REFRESH_ARRIVALS, arrived // 2))


class Spr:
    """What the policy knows: learnt mix, streams and prices."""

    def __init__(self, nodes: Nodes, learner: MixLearner, states: States, stream_seed: int = STREAM_SEED) -> None:
        self.learner = learner
        self._states = states
        self._kinds = node_kinds(nodes)
        self._stream_seed = stream_seed
        self._streams: Streams | None = None
        self._pods_since_draw = 0

    def observe(self, wish_of_arrival: IntArray) -> None:
        self.learner.observe(wish_of_arrival)
        self._pods_since_draw += wish_of_arrival.size

    def refresh(self, cluster: Cluster) -> tuple[Expected, Watch]:
        """Renewed prices, streams too where the mix has grown enough, and what makes them stale."""
        mix = self.learner.mix()
        streams = self._current_streams(mix)
        prices, watch = self._prices(cluster, mix)
        self._states.epochs[1] += 1
        return Expected(streams, prices), watch

    def _current_streams(self, mix: Mix) -> Streams:
        grown = self._pods_since_draw >= max(REDRAW_FRACTION * self.learner.pods, FIRST_REFRESH_ARRIVALS)
        if self._streams is None or grown:
            self._streams = sample_streams(mix, self._kinds, self._stream_seed)
            self._pods_since_draw = 0
            self._states.epochs[0] += 1
        return self._streams

    def _prices(self, cluster: Cluster, mix: Mix) -> tuple[Prices, Watch]:
        types = gpu_types(mix, cpu_left_share(mix, cluster))
        copies = np.zeros(types.mix.share.size)
        count_copies(cluster, types.groups, copies, np.zeros(8, dtype=np.int64))
        free_milli = float(cluster.gpu_free_milli.sum())
        mean_request_milli = float((types.mix.share * types.request_milli).sum())
        arrivals_left = free_milli / max(mean_request_milli, 1.0)
        price = excess_prices(types.mix.share, types.request_milli, copies, free_milli)
        price += guard_prices(types, copies, arrivals_left, self.learner.pods)
        several = types.mix.gpu_count > 1
        watch = Watch(
            np.full(1, free_milli * WORK_STEP),
            types.mix.gpu_milli[several],
            types.mix.gpu_count[several],
            types.mix.kind_mask[several],
            types.mix.cpu_milli[several],
            types.groups.memory_mib[several],
            np.maximum(1.0, COPY_STEP * copies[several]),
        )
        return price_table(types, price), watch
