"""Scarcity prices of pod types, and the priced copies that a node state holds."""

import math
from dataclasses import dataclass
from typing import Final, NamedTuple

import numpy as np

from extender.placement.spr.cluster import Cluster
from extender.placement.spr.jit import compiled
from extender.placement.spr.mix import Mix
from extender.placement.spr.model import FloatArray, IntArray
from extender.placement.spr.states import sort_descending

LEAST_CPU_LEFT: Final = 0.1
_SCALE: Final = 1e200  # terms of a sum are divided by it before they overflow


class Groups(NamedTuple):
    """GPU types of a mix, grouped by (milli, GPUs, kinds of node) and sorted by CPU within a group."""

    milli: IntArray
    gpu_count: IntArray
    kind_mask: IntArray
    start: IntArray  # [groups + 1]: first type of each group
    cpu_milli: IntArray  # of each type, and what pods without a GPU will have taken beside it
    memory_mib: IntArray  # of each type; 1 where none is asked for, which never binds
    cpu_per_mib: FloatArray  # of each group: CPU over memory of its pods, in milli per MiB


class Prices(NamedTuple):
    """Prefix sums over the types, so that pricing a state needs one search a group of types of one GPU."""

    groups: Groups
    price_before: FloatArray  # [types + 1]: prices of the types before
    ratio_before: FloatArray  # [types + 1]: the same of price / CPU


@dataclass(frozen=True, slots=True)
class GpuTypes:
    """The types of a mix that ask for GPUs, in group order."""

    groups: Groups
    mix: Mix

    @property
    def request_milli(self) -> FloatArray:
        return (self.mix.gpu_milli * self.mix.gpu_count).astype(np.float64)


def cpu_left_share(mix: Mix, cluster: Cluster) -> float:
    """The part of the free CPU that is left when pods without a GPU have come too, until the free GPUs are full."""
    request_milli = float((mix.share * mix.gpu_milli * mix.gpu_count).sum())
    cpu_only_milli = float((mix.share * mix.cpu_milli)[mix.gpu_count == 0].sum())
    free_cpu_milli = float(cluster.cpu_free_milli[cluster.gpu_count > 0].sum())
    arrivals = float(cluster.gpu_free_milli.sum()) / max(request_milli, 1.0)
    return max(LEAST_CPU_LEFT, 1.0 - arrivals * cpu_only_milli / max(free_cpu_milli, 1.0))


def gpu_types(mix: Mix, cpu_left: float = 1.0) -> GpuTypes:
    """`cpu_left`: the part of the CPU that is there for pods with GPUs.

    Those of one GPU are counted as if they asked for more by as much. A pod of several GPUs has a host or has none: for
    it what is free now counts.
    """
    order = np.lexsort((mix.memory_mib, mix.cpu_milli, mix.kind_mask, mix.gpu_milli, mix.gpu_count))
    order = order[mix.gpu_count[order] > 0]
    sorted_mix = Mix(
        mix.cpu_milli[order],
        mix.memory_mib[order],
        mix.gpu_milli[order],
        mix.gpu_count[order],
        mix.kind_mask[order],
        mix.share[order],
    )
    keys = np.stack([sorted_mix.gpu_milli, sorted_mix.gpu_count, sorted_mix.kind_mask], axis=1)
    opens = np.ones(order.size, dtype=np.bool_)
    opens[1:] = (keys[1:] != keys[:-1]).any(axis=1)
    first = np.flatnonzero(opens)
    columns = [np.ascontiguousarray(keys[first, column]) for column in range(3)]
    start = np.append(first, order.size).astype(np.int64)
    memory_mib = np.maximum(sorted_mix.memory_mib, 1)
    group = np.cumsum(opens) - 1
    cpu, memory = (np.bincount(group, sorted_mix.share * asked) for asked in (sorted_mix.cpu_milli, memory_mib))
    counted = np.where(
        sorted_mix.gpu_count == 1, (sorted_mix.cpu_milli / cpu_left).astype(np.int64), sorted_mix.cpu_milli
    )
    groups = Groups(columns[0], columns[1], columns[2], start, counted, memory_mib, cpu / memory / cpu_left)
    return GpuTypes(groups, sorted_mix)


@compiled
def gpu_copies(milli: int, wanted: int, gpus: IntArray) -> int:
    """How many pods asking for `wanted` x `milli` the GPUs hold, CPU aside; `gpus` descending."""
    pieces = 0
    if milli == 1000:
        while pieces < 8 and gpus[pieces] == 1000:
            pieces += 1
        return pieces // wanted
    for i in range(8):
        if gpus[i] < milli:
            break
        pieces += 1 if 2 * milli > gpus[i] else gpus[i] // milli
    return pieces // wanted


@compiled
def hosted(groups: Groups, k: int, cpu_milli: int, memory_mib: int, held: int) -> float:
    """Copies of type k, of several GPUs, on a node whose GPUs hold `held`."""
    copies = min(cpu_milli / groups.cpu_milli[k], memory_mib / groups.memory_mib[k])
    return min(copies, float(held)) if copies >= 1.0 else 0.0


@compiled
def count_copies(cluster: Cluster, groups: Groups, copies: FloatArray, gpus: IntArray) -> None:
    """Add to `copies` A_k: how many pods of each type the whole cluster holds now, each type taken alone.

    A node holds min(CPU / c_k, what its GPUs hold), where CPU that has no memory beside it does not count. The first is
    not rounded. Of a type of several GPUs it is min(CPU / c_k, memory / mem_k, GPUs), and a node with less than one pod
    asks for holds none.
    """
    for node in range(cluster.cpu_free_milli.size):
        cpu_milli, memory_mib = cluster.cpu_free_milli[node], cluster.memory_free_mib[node]
        for gpu in range(8):
            gpus[gpu] = cluster.gpu_free_milli[node, gpu]
        sort_descending(gpus)
        if gpus[0] == 0 or cpu_milli == 0:
            continue
        for g in range(groups.milli.size):
            if (groups.kind_mask[g] >> cluster.kind_id[node]) & 1 == 0:
                continue
            held = gpu_copies(groups.milli[g], groups.gpu_count[g], gpus)
            if held == 0:
                continue
            useful_milli = min(float(cpu_milli), memory_mib * groups.cpu_per_mib[g])
            for k in range(groups.start[g], groups.start[g + 1]):
                if groups.gpu_count[g] == 1:
                    copies[k] += min(float(held), useful_milli / groups.cpu_milli[k])
                else:
                    copies[k] += hosted(groups, k, cpu_milli, memory_mib, held)


def excess_prices(share: FloatArray, request_milli: FloatArray, copies: FloatArray, free_milli: float) -> FloatArray:
    """p_k w_k max(0, free / (w_k (A_k + 1)) - 1): the free work that type k cannot use, relative to what it can."""
    return share * request_milli * np.maximum(0.0, free_milli / (request_milli * (copies + 1.0)) - 1.0)


@compiled
def _terms_below(needed: int, odds: float, seen: float) -> tuple[float, int]:
    """Sum of the first terms of the negative binomial, relative to the first; how often it was divided by the scale."""
    term, total, scalings = 1.0, 1.0, 0
    for count in range(1, needed):
        term *= odds * (seen + count - 1.0) / count
        total += term
        if total > _SCALE:
            term, total, scalings = term / _SCALE, total / _SCALE, scalings + 1
    return total, scalings


def chance_of_at_least(least: float, mean: float, seen: float) -> float:
    """P(D >= least) for the number D of pods still to come: Poisson with a rate that is known from `seen` pods alone.

    The rate is gamma-distributed then, and D negative binomial with this mean.
    """
    needed = math.ceil(least)
    if needed <= 0 or mean <= 0.0:
        return 1.0 if needed <= 0 else 0.0
    odds = mean / (mean + seen)
    deviation = math.sqrt(mean / (1.0 - odds)) if odds < 1.0 else math.inf
    if needed > mean + 12.0 * deviation + 12.0:  # beyond these bounds the tail is below 1e-12: no sum needed
        return 0.0
    if needed < mean - 8.0 * deviation:
        return 1.0
    total, scalings = _terms_below(needed, odds, seen)
    return max(0.0, 1.0 - math.exp(seen * math.log1p(-odds) + math.log(total) + scalings * math.log(_SCALE)))


def guard_prices(types: GpuTypes, copies: FloatArray, arrivals_left: float, pods_seen: float) -> FloatArray:
    """Littlewood's rule for pods of several GPUs.

    A host is worth the work of the pod that it would serve, times the chance that the pods still to come need all the
    hosts that are left. Pods that ask for at least as much in every respect compete for the same hosts. (Littlewood,
    "Forecasting and control of passenger bookings", AGIFORS 1972.)
    """
    mix, request = types.mix, types.request_milli
    price = np.zeros(request.size)
    for k in np.flatnonzero((mix.gpu_count > 1) & (copies > 0)):
        rivals = (
            (mix.cpu_milli >= mix.cpu_milli[k])
            & (mix.memory_mib >= mix.memory_mib[k])
            & (mix.gpu_milli >= mix.gpu_milli[k])
            & (mix.gpu_count >= mix.gpu_count[k])
            & ((mix.kind_mask & ~mix.kind_mask[k]) == 0)
        )
        share = float(mix.share[rivals].sum())
        chance = chance_of_at_least(float(copies[k]), share * arrivals_left, share * pods_seen)
        price[k] = float(request[k]) * chance
    return price


def price_table(types: GpuTypes, price: FloatArray) -> Prices:
    ratio = price / types.groups.cpu_milli
    return Prices(types.groups, np.append(0.0, np.cumsum(price)), np.append(0.0, np.cumsum(ratio)))


@compiled
def _first_above(values: IntArray, begin: int, end: int, limit: float) -> int:
    """The first position in values[begin:end], ascending, whose value exceeds the limit."""
    while begin < end:
        middle = (begin + end) >> 1
        if values[middle] > limit:
            end = middle
        else:
            begin = middle + 1
    return begin


@compiled
def priced_copies(prices: Prices, kind: int, cpu_milli: int, memory_mib: int, gpus: IntArray) -> float:
    """sum_k price_k a_k(s), a_k counted as in `count_copies`; `gpus` descending."""
    groups, before = prices.groups, prices.price_before
    total = 0.0
    for g in range(groups.milli.size):
        if (groups.kind_mask[g] >> kind) & 1 == 0:
            continue
        held = gpu_copies(groups.milli[g], groups.gpu_count[g], gpus)
        if held == 0:
            continue
        begin, end = groups.start[g], groups.start[g + 1]
        if groups.gpu_count[g] > 1:
            for k in range(begin, end):
                total += (before[k + 1] - before[k]) * hosted(groups, k, cpu_milli, memory_mib, held)
            continue
        useful_milli = min(float(cpu_milli), memory_mib * groups.cpu_per_mib[g])
        split = _first_above(groups.cpu_milli, begin, end, useful_milli / held)
        total += held * (before[split] - before[begin])
        total += useful_milli * (prices.ratio_before[end] - prices.ratio_before[split])
    return total
