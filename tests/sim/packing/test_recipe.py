import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from sim.packing.metrics import evaluate
from sim.packing.mix import mix_of_counts
from sim.packing.model import Experiment, Placement
from sim.packing.recipe import build_experiment
from tests.sim.packing.clusters import ANY, experiment_of, experiments, nodes_of, trace_of


def demand_milli(experiment: Experiment) -> int:
    classes = experiment.trace.classes
    return int((classes.gpu_milli * classes.gpu_count)[experiment.class_of_arrival].sum())


@settings(deadline=None)
@given(small=experiments(), seed=st.integers(0, 2**32 - 1))
def test_the_recipe_permutes_nodes_and_tunes_pods_to_the_target(small: Experiment, seed: int) -> None:
    trace = small.trace
    request = trace.classes.gpu_milli * trace.classes.gpu_count
    assume(request.sum() > 0)
    built = build_experiment(small.nodes, trace, seed)
    target = 1.3 * small.nodes.gpu_milli_total
    counts = np.bincount(built.class_of_arrival, minlength=request.size)
    originals = trace.counts()
    if demand_milli(small) > target:
        assert (counts <= originals).all(), "pods are deleted only"
        assert demand_milli(built) <= target
    else:
        assert (counts >= originals).all(), "pods are cloned only"
        head = built.class_of_arrival[: trace.class_of_pod.size]
        assert sorted(head) == sorted(trace.class_of_pod), "clones come at the end"
        assert demand_milli(built) <= target + 7000, "the last clone may pass the target by its other GPUs"
    rows = [np.stack([n.cpu_milli, n.memory_mib, n.gpu_count, n.kind_id]).T for n in (small.nodes, built.nodes)]
    assert sorted(map(tuple, rows[0])) == sorted(map(tuple, rows[1]))


def test_the_same_seed_builds_the_same_experiment_and_another_one_does_not() -> None:
    trace = trace_of([(1000 * i, 0, 500, 1, ANY) for i in range(20)])
    first, again, other = (build_experiment(nodes_of([2, 3] * 5), trace, seed) for seed in (7, 7, 8))
    assert first.class_of_arrival.tolist() == again.class_of_arrival.tolist()
    assert first.nodes.kind_id.tolist() == again.nodes.kind_id.tolist()
    assert first.class_of_arrival.tolist() != other.class_of_arrival.tolist()


def test_a_mix_without_memory_joins_classes_that_differ_in_it_and_is_sorted_by_frequency() -> None:
    pods = [
        (0, 1, 500, 1, ANY),
        (0, 2, 500, 1, ANY),
        (100, 3, 500, 1, ANY),
        (9000, 0, 1000, 1, ANY),
        (4000, 0, 0, 0, ANY),
    ]
    trace = trace_of(pods)
    assert mix_of_counts(trace.classes, trace.counts()).share.size == 5
    mix = mix_of_counts(trace.classes, trace.counts(), memory=False)
    assert mix.gpu_milli.tolist() == [500, 1000, 0]
    assert mix.cpu_milli.tolist() == [100, 9000, 4000], "no CPU request counts as 100 m"
    assert mix.share.tolist() == pytest.approx([0.6, 0.2, 0.2])


@pytest.mark.parametrize(
    ("coverage", "types"),
    [
        pytest.param(1.0, 3, id="all pods: all types"),
        pytest.param(0.8, 2, id="80 %: exactly the two commonest"),
        pytest.param(0.81, 3, id="a little more than two types have: the third too"),
        pytest.param(0.5, 1, id="half of the pods: the commonest"),
    ],
)
def test_a_covered_mix_has_as_few_types_as_reach_the_coverage(coverage: float, types: int) -> None:
    trace = trace_of([(1000, 0, 500, 1, ANY)] * 5 + [(1000, 0, 250, 1, ANY)] * 3 + [(1000, 0, 0, 0, ANY)] * 2)
    mix = mix_of_counts(trace.classes, trace.counts(), coverage)
    assert mix.share.size == types
    assert mix.share.sum() == pytest.approx(1.0)


def test_an_outcome_counts_allocation_losses_and_the_first_failure() -> None:
    """Two GPUs: 50 %, 100 %, then two pods too many; one of them named a model."""
    pods = [(1000, 0, 1000, 1, ANY), (1000, 0, 500, 1, ANY), (1000, 0, 500, 1, 0b10), (8000, 0, 0, 0, ANY)]
    experiment = experiment_of([1], [*pods, (1000, 0, 600, 1, ANY)])
    outcome = evaluate(experiment, Placement(np.array([0, 0, -1, -1, -1]), np.full(5, -1)))
    assert outcome.allocation_100_pct == 75.0
    assert outcome.allocation_130_pct == 75.0
    assert outcome.first_failure_pct == 100.0
    lost = {name: value for name, value in outcome.lost_by_class_pct.items() if value}
    assert lost == {"<600m": 25.0, "with-model": 25.0, "cpu-only": 25.0}


def test_a_pod_that_no_empty_node_holds_is_no_first_failure() -> None:
    experiment = experiment_of([1], [(1000, 0, 1000, 8, ANY), (1000, 0, 1000, 1, ANY)])
    outcome = evaluate(experiment, Placement(np.array([-1, 0]), np.full(2, -1)))
    assert outcome.first_failure_pct == 450.0, "nothing failed that could have been held: all that arrived"
    assert outcome.allocation_100_pct == 0.0, "the first pod alone is more than the cluster"
