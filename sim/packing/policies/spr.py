"""SPR, scarcity-priced rollout: the default.

    score(pod, node, GPU) = [V(s') - V(s)] + sum_k price_k [a_k(s') - a_k(s)],     s, s': node before, after

V(s)     milli-GPU that 16 sampled streams of 48 expected pods still fill on the node, on average (`spr/rollout.py`)
a_k(s)   copies of pod type k that the node holds; A_k = sum over nodes
price_k  p_k w_k max(0, free / (w_k (A_k + 1)) - 1): the free work that type k cannot use, relative to what it can
         (p_k: the type's share of the pods, w_k: its GPU request), and for types of several GPUs
         w_k P(the pods still to come need all A_k hosts) besides, which keeps hosts for rare large pods

Both terms are milli-GPU and have weight 1; nothing is rounded; no pod is refused that fits somewhere. The mix is learnt
from what arrives; nothing of the trace is known beforehand.
"""

from typing import Final

import numpy as np

from sim.packing.cluster import Cluster
from sim.packing.engine import Tables, Watch, new_desk, place_sequence
from sim.packing.fragmentation import no_typical_pods
from sim.packing.mix import Mix
from sim.packing.model import Experiment, IntArray, Nodes, PodClasses, nothing_placed
from sim.packing.spr.learner import MixLearner
from sim.packing.spr.prices import Prices, count_copies, excess_prices, gpu_types, guard_prices, price_table
from sim.packing.spr.rollout import Streams
from sim.packing.spr.streams import node_kinds, sample_streams
from sim.packing.states import States

FIRST_REFRESH_ARRIVALS: Final = 32  # and then when half as many again have arrived: what is known is young
REFRESH_ARRIVALS: Final = 1024  # at most between two refreshes
# Prices are stale when the free work has fallen by this fraction: fixed ones cost .7 points at 100 %,
WORK_STEP: Final = 1 / 16
# or the copies of a type of several GPUs by this one: small pods can open all hosts of large ones within one period.
COPY_STEP: Final = 1 / 8
REDRAW_FRACTION: Final = 0.5  # streams are drawn anew when the mix rests on this many more pods
STREAM_SEED: Final = 1  # draws 2 to 5 differ by a few hundredths of a point


class Spr:
    """What the policy knows: learnt mix, streams and prices."""

    def __init__(self, nodes: Nodes, classes: PodClasses, states: States, stream_seed: int = STREAM_SEED) -> None:
        self._states = states
        self._learner = MixLearner(classes, nodes)
        self._kinds = node_kinds(nodes)
        self._stream_seed = stream_seed
        self._streams: Streams | None = None
        self._pods_since_draw = 0

    def observe(self, class_of_arrival: IntArray) -> None:
        self._learner.observe(class_of_arrival)
        self._pods_since_draw += class_of_arrival.size

    def refresh(self, cluster: Cluster) -> tuple[Tables, Watch]:
        """Renewed prices, streams too where the mix has grown enough, and what makes them stale."""
        mix = self._learner.mix()
        streams = self._current_streams(mix)
        prices, watch = self._prices(cluster, mix)
        self._states.epochs[1] += 1
        return Tables(by_fragmentation=False, typical=no_typical_pods(), streams=streams, prices=prices), watch

    def _current_streams(self, mix: Mix) -> Streams:
        grown = self._pods_since_draw >= max(REDRAW_FRACTION * self._learner.pods, FIRST_REFRESH_ARRIVALS)
        if self._streams is None or grown:
            self._streams = sample_streams(mix, self._kinds, self._stream_seed)
            self._pods_since_draw = 0
            self._states.epochs[0] += 1
        return self._streams

    def _prices(self, cluster: Cluster, mix: Mix) -> tuple[Prices, Watch]:
        types = gpu_types(mix)
        copies = np.zeros(types.mix.share.size)
        count_copies(cluster, types.groups, copies, np.zeros(8, dtype=np.int64))
        free_milli = float(cluster.gpu_free_milli.sum())
        mean_request_milli = float((types.mix.share * types.request_milli).sum())
        arrivals_left = free_milli / max(mean_request_milli, 1.0)
        price = excess_prices(types.mix.share, types.request_milli, copies, free_milli)
        price += guard_prices(types, copies, arrivals_left, self._learner.pods)
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


class SprRun:
    """One experiment under the default policy."""

    def __init__(self, experiment: Experiment, _seed: int, stream_seed: int = STREAM_SEED) -> None:
        self._arrivals = experiment.class_of_arrival
        self._desk = new_desk(experiment.nodes, experiment.trace.classes)
        self._policy = Spr(experiment.nodes, experiment.trace.classes, self._desk.states, stream_seed)
        self._tables, self._watch = self._policy.refresh(self._desk.cluster)
        self._observed = 0
        self._due = FIRST_REFRESH_ARRIVALS
        self._stale = False
        self.placement = nothing_placed(self._arrivals.size)

    def advance(self, begin: int, end: int) -> int:
        """Place arrivals from `begin` to `end` or to the next refresh; how many were placed or refused."""
        if self._stale or begin == self._due:
            self._refresh(begin)
        end = min(end, self._due)
        part = self.placement.part(begin, end)
        handled, self._stale = place_sequence(self._desk, self._tables, self._watch, self._arrivals[begin:end], part)
        return handled

    def _refresh(self, arrived: int) -> None:
        self._policy.observe(self._arrivals[self._observed : arrived])
        self._observed = arrived
        self._tables, self._watch = self._policy.refresh(self._desk.cluster)
        self._due = arrived + min(REFRESH_ARRIVALS, max(FIRST_REFRESH_ARRIVALS, arrived // 2))
        self._stale = False
