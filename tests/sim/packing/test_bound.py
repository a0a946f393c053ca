"""The bound: above every policy, and exact where a small case can be counted by hand."""

import sys

import pytest
from hypothesis import given, settings

from sim.packing.bound import NoSolverError, bound_100_pct
from sim.packing.lab import run_experiment
from sim.packing.model import Experiment
from tests.sim.packing.clusters import ANY, experiment_of, experiments

Pod = tuple[int, int, int, int, int]


def shares(*milli: int, cpu: int = 0, memory: int = 0, mask: int = ANY) -> list[Pod]:
    return [(cpu, memory, m, 1, mask) for m in milli]


@settings(max_examples=60, deadline=None)
@given(experiment=experiments())
def test_no_policy_exceeds_it(experiment: Experiment) -> None:
    bound = bound_100_pct(experiment)
    assert 0 <= bound <= 100 + 1e-6
    for scorer in ("best_fit", "first_fit"):
        assert run_experiment(experiment, scorer, 0).outcome.allocation_100_pct <= bound + 1e-6


@pytest.mark.parametrize(
    ("kinds", "pods", "want_pct"),
    [
        pytest.param([1], shares(600, 600), 60, id="a GPU holds one pod of 600 milli"),
        pytest.param([1], shares(600, 600, 400), 80, id="and one of 400 beside it"),
        pytest.param([1], shares(333, 333, 333), 49.95, id="three of 333 share one GPU"),
        pytest.param([0, 0], shares(500, 500, cpu=20_000), 0, id="no node has the CPU"),
        pytest.param([0, 0], shares(500, 500, cpu=12_000), 50, id="each node has the CPU of one"),
        pytest.param([1], shares(500, 500, 500, cpu=16_000), 50, id="the CPU is that of two"),
        pytest.param([1], shares(500, 500, 500, memory=32_768), 50, id="the memory is that of two"),
        pytest.param([0, 1], shares(1000, 1000, 1000, mask=0b01), 100 / 3, id="one GPU of the model"),
        pytest.param([1, 1], [(0, 0, 1000, 4, ANY)], 0, id="four GPUs are on no node"),
        pytest.param([1], [(32_000, 0, 0, 0, ANY), (16_000, 0, 1000, 2, ANY)], 100, id="CPU-only pods are refused"),
        pytest.param([0], shares(1000, 500), 100, id="what came beyond 100 % does not count"),
    ],
)
def test_small_cases(kinds: list[int], pods: list[Pod], want_pct: float) -> None:
    assert bound_100_pct(experiment_of(kinds, pods)) == pytest.approx(want_pct)


def test_without_the_solver_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "highspy", None)
    with pytest.raises(NoSolverError, match=r"pip install 'slicewise\[bounds\]'"):
        bound_100_pct(experiment_of([1], shares(600)))
