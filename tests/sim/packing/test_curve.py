"""Curves: what is allocated and fragmented at each demand, against plain Python and the outcome."""

import numpy as np
import pytest
from hypothesis import given, settings

from sim.packing.curve import ARRIVED_PCT, trace_curve
from sim.packing.fragmentation import TYPICAL_COVERAGE
from sim.packing.metrics import evaluate
from sim.packing.mix import mix_of_counts
from sim.packing.model import Experiment, Placement
from sim.packing.table import SCORERS
from tests.sim.packing import twins
from tests.sim.packing.clusters import experiments


def filled(experiment: Experiment, placement: Placement, arrivals: int) -> tuple[float, float]:
    """Milli-GPU that are allocated and fragmented after so many arrivals."""
    nodes, allocated = twins.nodes_of(experiment), 0
    for i, pod in enumerate(twins.pods_of(experiment)[:arrivals]):
        node, gpu = int(placement.node_of_arrival[i]), int(placement.gpu_of_arrival[i])
        if node >= 0:
            twins.take(nodes[node], pod, gpu if gpu >= 0 else None)
            allocated += pod.milli * pod.gpus
    mix = mix_of_counts(experiment.trace.classes, experiment.trace.counts(), TYPICAL_COVERAGE, memory=False)
    return allocated, sum(twins.fragmentation(node, mix) for node in nodes)


@settings(max_examples=40, deadline=None)
@given(experiment=experiments())
def test_a_curve_is_what_plain_python_counts_and_ends_as_the_outcome_does(experiment: Experiment) -> None:
    run = SCORERS["fgd"](experiment, 0)
    run.advance(0, experiment.class_of_arrival.size)
    curve, outcome = trace_curve(experiment, run.placement), evaluate(experiment, run.placement)
    assert curve.allocated_pct[100] == pytest.approx(outcome.allocation_100_pct)
    capacity, arrived = experiment.nodes.gpu_milli_total, 0
    requests = [pod.milli * pod.gpus for pod in twins.pods_of(experiment)]
    for at in (0, 50, 100, 130):
        arrived = int(np.searchsorted(np.cumsum(requests) * 100 / capacity, ARRIVED_PCT[at], side="right"))
        allocated, fragmented = filled(experiment, run.placement, arrived)
        assert curve.allocated_pct[at] == pytest.approx(100 * allocated / capacity)
        assert curve.fragmented_pct[at] == pytest.approx(100 * fragmented / capacity, abs=1e-6)
