"""The default policy's parts against their formulas in plain Python."""

import math
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from extender.placement.spr.learner import HALF_LIFE_ARRIVALS, MixLearner
from extender.placement.spr.prices import (
    GpuTypes,
    chance_of_at_least,
    count_copies,
    cpu_left_share,
    excess_prices,
    gpu_types,
    guard_prices,
    price_table,
    priced_copies,
)
from extender.placement.spr.rollout import Free, Streams, rollout_milli
from extender.placement.spr.streams import CPU_VALUE, LENGTH, STREAMS, node_kinds, sample_streams
from sim.packing.cluster import empty_cluster
from sim.packing.engine import bind, decide, forget, new_desk
from sim.packing.mix import Mix, mix_of_counts
from sim.packing.model import ANY_KIND_MASK, Experiment
from sim.packing.policies.spr import spr_of, spr_tables
from tests.sim.packing.clusters import ANY, KINDS, experiment_of, experiments, nodes_of, trace_of

GPUS = st.lists(st.integers(0, 1000), min_size=8, max_size=8).map(lambda gpus: sorted(gpus, reverse=True))
MEMORY = st.integers(0, 400_000)
SLOWLY = settings(deadline=None, max_examples=60, suppress_health_check=[HealthCheck.too_slow])


def mix_of(experiment: Experiment) -> Mix:
    return mix_of_counts(experiment.trace.classes, experiment.trace.counts())


def filled_milli(streams: Streams, kind: int, cpu: int, memory: int, free: list[int]) -> float:
    """Every stream pod by pod, no pod skipped unseen."""
    total = 0.0
    for r in range(STREAMS):
        left, left_mib, gpus = cpu, memory, list(free)
        for i in range(streams.start[kind, r], streams.start[kind, r + 1]):
            asked, milli, count = int(streams.cpu_milli[i]), int(streams.gpu_milli[i]), int(streams.gpu_count[i])
            fitting = sorted((g, j) for j, g in enumerate(gpus) if g >= milli)
            asked_mib = int(streams.memory_mib[i])
            if asked > left or asked_mib > left_mib or len(fitting) < count:
                continue
            left -= asked
            left_mib -= asked_mib
            total += milli * count or CPU_VALUE * asked
            for _, j in fitting[:count]:
                gpus[j] -= milli
    return total / STREAMS


def copies(types: GpuTypes, k: int, node: tuple[int, int, int, list[int]]) -> float:
    mix = types.mix
    kind, cpu, memory, free = node
    if not int(mix.kind_mask[k]) >> kind & 1:
        return 0.0
    milli, count = int(mix.gpu_milli[k]), int(mix.gpu_count[k])
    pieces = sum(g // milli for g in free) // count
    asked, asked_mib = int(mix.cpu_milli[k]), int(mix.memory_mib[k])
    if count > 1:
        fit = cpu >= asked and memory >= asked_mib
        return min(float(pieces), cpu / asked, memory / max(asked_mib, 1)) if fit else 0.0
    alike = (mix.gpu_milli == milli) & (mix.gpu_count == count) & (mix.kind_mask == mix.kind_mask[k])
    cpu_of_all = float(mix.share[alike] @ mix.cpu_milli[alike])
    mib_of_all = float(mix.share[alike] @ np.maximum(mix.memory_mib[alike], 1))
    return min(float(pieces), cpu / asked, memory * cpu_of_all / mib_of_all / asked)


@SLOWLY
@given(experiment=experiments(), cpu=st.integers(0, 128_000), memory=MEMORY, gpus=GPUS, seed=st.integers(0, 9))
def test_a_rollout_takes_each_pod_of_a_stream_that_fits(
    experiment: Experiment, cpu: int, memory: int, gpus: list[int], seed: int
) -> None:
    kinds = node_kinds(experiment.nodes)
    streams = sample_streams(mix_of(experiment), kinds, seed)
    for kind in range(kinds.cpu_milli.size):
        rolled = rollout_milli(streams, kind, Free(cpu, memory, np.array(gpus)), np.zeros(8, dtype=np.int64))
        assert rolled == pytest.approx(filled_milli(streams, kind, cpu, memory, gpus))


@SLOWLY
@given(experiment=experiments(), seed=st.integers(0, 9))
def test_streams_have_only_pods_that_an_empty_node_holds_largest_request_first(
    experiment: Experiment, seed: int
) -> None:
    kinds = node_kinds(experiment.nodes)
    streams = sample_streams(mix_of(experiment), kinds, seed)
    request = streams.gpu_milli.astype(np.int64) * streams.gpu_count
    for kind, row in enumerate(streams.start):
        assert (streams.cpu_milli[row[0] : row[-1]] <= kinds.cpu_milli[kind]).all()
        assert (streams.memory_mib[row[0] : row[-1]] <= kinds.memory_mib[kind]).all()
        assert (streams.gpu_count[row[0] : row[-1]] <= kinds.gpu_count[kind]).all()
        for begin, end in pairwise(row):
            assert end - begin <= LENGTH + 1
            assert (np.diff(request[begin:end]) <= 0).all()


@SLOWLY
@given(experiment=experiments(), cpu=st.integers(0, 128_000), memory=MEMORY, gpus=GPUS)
def test_priced_copies_are_the_sum_over_types_of_price_times_copies(
    experiment: Experiment, cpu: int, memory: int, gpus: list[int]
) -> None:
    types = gpu_types(mix_of(experiment))
    price = np.arange(1.0, types.mix.share.size + 1.0)
    table = price_table(types, price)
    for kind in range(len(KINDS)):
        expected = sum(p * copies(types, k, (kind, cpu, memory, gpus)) for k, p in enumerate(price))
        assert priced_copies(table, kind, cpu, memory, np.array(gpus)) == pytest.approx(expected)


@SLOWLY
@given(experiment=experiments())
def test_copies_of_the_cluster_are_the_sum_over_its_nodes(experiment: Experiment) -> None:
    types = gpu_types(mix_of(experiment))
    cluster, counted = empty_cluster(experiment.nodes), np.zeros(types.mix.share.size)
    count_copies(cluster, types.groups, counted, np.zeros(8, dtype=np.int64))
    columns = (cluster.kind_id, cluster.cpu_free_milli, cluster.memory_free_mib, cluster.gpu_free_milli)
    nodes = list(zip(*(column.tolist() for column in columns), strict=True))
    for k in range(counted.size):
        assert counted[k] == pytest.approx(sum(copies(types, k, node) for node in nodes))


@SLOWLY
@given(experiment=experiments(), already=st.integers(0, 30), data=st.data())
def test_a_decision_takes_the_node_with_the_most_potential_after_it(
    experiment: Experiment, already: int, data: st.DataObject
) -> None:
    """By the formula in plain Python over all nodes and all GPUs; a later decision from kept scores is as good."""
    arrivals = experiment.class_of_arrival
    desk = new_desk(experiment.nodes, experiment.trace.classes)
    policy = spr_of(experiment.nodes, experiment.trace.classes, desk)
    policy.observe(arrivals)
    expected, _ = policy.refresh(desk.cluster)
    tables = spr_tables(expected)
    for pod in arrivals[:already]:
        if (node := decide(desk, pod, tables)) >= 0:
            bind(desk, node, pod)
    if data.draw(st.booleans(), label="forget all scores"):
        forget(desk)
    pod = int(data.draw(st.sampled_from(arrivals.tolist()), label="pod"))
    node = decide(desk, pod, tables)
    assume(node >= 0)
    cluster, requests = desk.cluster, desk.requests
    asked = (requests.cpu_milli, requests.memory_mib, requests.gpu_milli, requests.gpu_count)
    cpu, memory, milli, count = (int(column[pod]) for column in asked)

    def state(n: int) -> tuple[int, int, int, list[int]]:
        columns = (cluster.kind_id, cluster.cpu_free_milli, cluster.memory_free_mib)
        kind, cpu, memory = (int(column[n]) for column in columns)
        return kind, cpu, memory, cluster.gpu_free_milli[n].tolist()

    def potential(kind: int, cpu: int, memory: int, free: list[int]) -> float:
        ordered = np.array(sorted(free, reverse=True))
        rolled = rollout_milli(expected.streams, kind, Free(cpu, memory, ordered), np.zeros(8, dtype=np.int64))
        return rolled + priced_copies(expected.prices, kind, cpu, memory, ordered)

    def gains(n: int) -> list[float]:
        kind, left, left_mib, free = state(n)
        fitting = sorted((g, j) for j, g in enumerate(free) if g >= milli)
        no_model = count and not int(requests.kind_mask[pod]) >> kind & 1
        if left < cpu or left_mib < memory or len(fitting) < count or no_model:
            return []
        choices = [[j] for _, j in fitting] if count == 1 else [[j for _, j in fitting[:count]]]
        afters = [[g - milli * (j in choice) for j, g in enumerate(free)] for choice in choices]
        before = potential(kind, left, left_mib, free)
        return [potential(kind, left - cpu, left_mib - memory, after) - before for after in afters]

    best = max(gain for n in range(cluster.cpu_free_milli.size) for gain in gains(n))
    before = state(node)
    bind(desk, node, pod)
    assert potential(*state(node)) - potential(*before) == pytest.approx(best, abs=1e-6)


@pytest.mark.parametrize(
    ("cpu_only_milli", "left"),
    [
        pytest.param(0, 1.0, id="no pod without a GPU: all"),
        pytest.param(3000, 0.75, id="one comes for each of eight GPUs that are free"),
        pytest.param(30000, 0.1, id="more than there is: never nothing"),
    ],
)
def test_cpu_that_pods_without_a_gpu_will_take_is_not_there_for_the_others(cpu_only_milli: int, left: float) -> None:
    pods = [(4000, 0, 1000, 1, ANY), (cpu_only_milli, 0, 0, 0, ANY)]
    experiment = experiment_of([2], pods[: 1 + bool(cpu_only_milli)])
    mix, cluster = mix_of(experiment), empty_cluster(experiment.nodes)
    assert (cluster.gpu_free_milli.sum(), cluster.cpu_free_milli.sum()) == (8000, 96_000)
    assert cpu_left_share(mix, cluster) == pytest.approx(left)
    whole, part = gpu_types(mix).groups, gpu_types(mix, left).groups
    assert part.cpu_milli.tolist() == [int(asked / left) for asked in whole.cpu_milli.tolist()]


@pytest.mark.parametrize(
    ("copies_left", "price"),
    [
        pytest.param(0.0, 0.5 * 500 * 3.0, id="nothing left: the free work is all useless to the type"),
        pytest.param(1.0, 0.5 * 500 * 1.0, id="one copy left: half of the excess"),
        pytest.param(3.0, 0.0, id="all free work is of use to it: no price"),
        pytest.param(9.0, 0.0, id="never below zero"),
    ],
)
def test_a_price_is_the_free_work_that_a_type_cannot_use_relative_to_what_it_can(
    copies_left: float, price: float
) -> None:
    share, request = np.array([0.5]), np.array([500.0])
    assert excess_prices(share, request, np.array([copies_left]), 2000.0).tolist() == [price]


@given(least=st.integers(0, 40), mean=st.floats(0.01, 30), seen=st.floats(0.5, 200))
def test_the_chance_of_so_many_pods_is_the_negative_binomial_tail(least: int, mean: float, seen: float) -> None:
    odds = mean / (mean + seen)
    below = sum(
        math.exp(math.lgamma(seen + n) - math.lgamma(seen) - math.lgamma(n + 1) + seen * math.log1p(-odds)) * odds**n
        for n in range(least)
    )
    assert chance_of_at_least(least, mean, seen) == pytest.approx(1.0 - below, abs=1e-6)


@pytest.mark.parametrize(
    ("least", "mean", "seen", "chance"),
    [
        pytest.param(0, 0.0, 10.0, 1.0, id="none are needed: certain"),
        pytest.param(1, 0.0, 10.0, 0.0, id="none are expected"),
        pytest.param(10_000, 5.0, 100.0, 0.0, id="far above what is expected"),
        pytest.param(100, 10_000.0, 1e6, 1.0, id="far below what is expected"),
    ],
)
def test_a_chance_beyond_doubt_is_not_summed_up(least: float, mean: float, seen: float, chance: float) -> None:
    assert chance_of_at_least(least, mean, seen) == chance


def test_the_guard_prices_hosts_of_several_gpus_alone_and_more_when_few_are_left() -> None:
    pods = [(9000, 0, 1000, 8, ANY)] * 2 + [(1000, 0, 500, 1, ANY)] * 8
    mix = mix_of(experiment_of([2], pods))
    types = gpu_types(mix)
    single, eight = (int(np.flatnonzero(types.mix.gpu_count == count)[0]) for count in (1, 8))
    few, many = (guard_prices(types, np.full(2, copies), 10.0, 100.0) for copies in (1.0, 4.0))
    assert few[single] == many[single] == 0.0
    assert 8000.0 > few[eight] > many[eight] > 0.0
    assert guard_prices(types, np.zeros(2), 10.0, 100.0).tolist() == [0.0, 0.0], "no host is left to be kept"


def test_before_any_arrival_the_mix_expects_parts_and_named_models_and_whole_nodes() -> None:
    nodes = nodes_of([1, 2])
    mix = MixLearner.of_classes(trace_of([(1000, 0, 333, 1, ANY)]).classes, nodes).mix()
    assert 333 not in mix.gpu_milli, "what may come is not known beforehand"
    assert {250, 500, 1000} <= set(mix.gpu_milli.tolist())
    assert {1 << 1, 1 << 2} <= set(mix.kind_mask.tolist())
    assert {2, 8} <= set(mix.gpu_count.tolist())


@SLOWLY
@given(experiment=experiments())
def test_after_many_arrivals_the_learnt_mix_is_that_of_the_arrivals(experiment: Experiment) -> None:
    learner = MixLearner.of_classes(experiment.trace.classes, experiment.nodes)
    for _ in range(30):
        learner.observe(np.tile(experiment.class_of_arrival, 100))
    learnt, true = learner.mix(), mix_of(experiment)
    weight = {row[:5]: row[5] for row in zip(*(c.tolist() for c in _columns(learnt)), strict=True)}
    for row in zip(*(c.tolist() for c in _columns(true)), strict=True):
        assert weight[row[:5]] >= 0.7 * row[5] - 0.01


def _columns(mix: Mix) -> tuple[np.ndarray, ...]:
    return mix.cpu_milli, mix.memory_mib, mix.gpu_milli, mix.gpu_count, mix.kind_mask, mix.share


def test_what_was_learnt_is_half_forgotten_after_a_half_life() -> None:
    trace = trace_of([(1000, 0, 333, 1, ANY_KIND_MASK), (1000, 0, 444, 1, ANY_KIND_MASK)])
    learner = MixLearner.of_classes(trace.classes, nodes_of([2]))
    half_life = int(HALF_LIFE_ARRIVALS)
    learner.observe(np.zeros(half_life, dtype=np.int64))
    learner.observe(np.ones(half_life, dtype=np.int64))
    mix = learner.mix()
    share = dict(zip(mix.gpu_milli.tolist(), mix.share.tolist(), strict=False))
    assert share[333] == pytest.approx(share[444] / 2)
