from functools import partial

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from extender.placement.spr.states import new_states, sort_descending, state_id
from sim.packing.fragmentation import TYPICAL_COVERAGE, fragmentation_milli, typical_pods
from sim.packing.lab import TIMED_EVERY, run_experiment
from sim.packing.law import BrokenLawError, check
from sim.packing.mix import mix_of_counts
from sim.packing.model import Experiment, Placement, nothing_placed
from sim.packing.table import SCORERS
from tests.sim.packing import twins
from tests.sim.packing.clusters import ANY, KINDS, experiment_of, experiments

often = partial(settings, deadline=None, suppress_health_check=[HealthCheck.too_slow])
TWINS = {
    "first_fit": twins.first_fit,
    "best_fit": twins.best_fit,
    "dot_prod": twins.dot_prod,
    "gpu_packing": twins.gpu_packing,
    "gpu_clustering": twins.gpu_clustering,
}


def placed(experiment: Experiment, scorer: str, seed: int = 0) -> Placement:
    run = SCORERS[scorer](experiment, seed)
    begin = 0
    while begin < experiment.class_of_arrival.size:
        begin += run.advance(begin, experiment.class_of_arrival.size)
    return run.placement


@pytest.mark.parametrize("scorer", TWINS)
@often(max_examples=60)
@given(experiment=experiments())
def test_a_ranking_places_every_pod_where_its_formula_in_plain_python_does(scorer: str, experiment: Experiment) -> None:
    assert placed(experiment, scorer).node_of_arrival.tolist() == twins.place_all(experiment, TWINS[scorer])


@often(max_examples=60)
@given(experiment=experiments())
def test_fgd_places_every_pod_where_its_formula_in_plain_python_does(experiment: Experiment) -> None:
    mix = mix_of_counts(experiment.trace.classes, experiment.trace.counts(), TYPICAL_COVERAGE, memory=False)
    assert placed(experiment, "fgd").node_of_arrival.tolist() == twins.place_all(experiment, twins.fgd(mix))


@often(max_examples=100)
@given(
    experiment=experiments(),
    cpu=st.integers(0, 128_000),
    gpus=st.lists(st.integers(0, 1000), min_size=8, max_size=8),
    kind=st.integers(0, len(KINDS) - 1),
)
def test_fragmentation_of_a_node_is_the_papers_sum_over_typical_pods(
    experiment: Experiment, cpu: int, gpus: list[int], kind: int
) -> None:
    mix = mix_of_counts(experiment.trace.classes, experiment.trace.counts())
    states, free = new_states(1), np.array(gpus, dtype=np.int64)
    sort_descending(free)
    state = state_id(states, kind, cpu, free, 0)
    computed = fragmentation_milli(states, state, typical_pods(mix), np.zeros(8, dtype=np.int64))
    assert computed == pytest.approx(twins.fragmentation(twins.Node(cpu, 0, gpus, kind), mix))


@pytest.mark.parametrize("scorer", SCORERS)
@often(max_examples=40)
@given(experiment=experiments(), seed=st.integers(0, 1000))
def test_no_policy_refuses_a_pod_that_fits_or_places_one_that_does_not(
    scorer: str, experiment: Experiment, seed: int
) -> None:
    placement = placed(experiment, scorer, seed)
    assert twins.first_broken_law(experiment, placement) is None
    check(experiment, placement)


@pytest.mark.parametrize("scorer", SCORERS)
@often(max_examples=20)
@given(experiment=experiments(), seed=st.integers(0, 1000))
def test_the_same_seed_gives_the_same_result_and_timing_changes_nothing(
    scorer: str, experiment: Experiment, seed: int
) -> None:
    first, again = (run_experiment(experiment, scorer, seed) for _ in range(2))
    assert first.outcome == again.outcome
    whole = placed(experiment, scorer, seed)
    run = SCORERS[scorer](experiment, seed)
    begin, count = 0, experiment.class_of_arrival.size
    while begin < count:
        begin += run.advance(begin, min(count, begin + TIMED_EVERY // 5))
    assert run.placement.node_of_arrival.tolist() == whole.node_of_arrival.tolist()
    assert run.placement.gpu_of_arrival.tolist() == whole.gpu_of_arrival.tolist()


def test_random_takes_every_node_about_equally_often() -> None:
    experiment = experiment_of([2] * 4, [(100, 0, 10, 1, ANY)] * 400)
    counts = np.bincount(placed(experiment, "random").node_of_arrival, minlength=4)
    assert counts.min() > 70
    assert counts.max() < 130


@pytest.mark.parametrize(
    ("nodes", "gpus", "told"),
    [
        pytest.param([0, -1], [-1, -1], "arrival 1 was refused, but fits on a node", id="refused although it fits"),
        pytest.param(
            [0, 0], [0, 0], "arrival 1 was placed on node 0, where it does not fit", id="on a GPU that is full"
        ),
    ],
)
def test_the_check_of_a_run_names_the_arrival_that_breaks_a_law(nodes: list[int], gpus: list[int], told: str) -> None:
    experiment = experiment_of([1], [(1000, 0, 600, 1, ANY)] * 2)
    with pytest.raises(BrokenLawError, match=told):
        check(experiment, Placement(np.array(nodes), np.array(gpus)))


def test_nothing_placed_has_no_node_and_no_gpu_for_anyone() -> None:
    assert [part.tolist() for part in nothing_placed(2).part(0, 1)] == [[-1], [-1]]
