"""Tuning in hindsight leaves out most runs; what it chooses must be what running everything would choose."""

from collections.abc import Sequence

import numpy as np
import pytest

from sim.baselines import BASELINES
from sim.baselines.base import Baseline, Settings
from sim.evaluation import tuning
from sim.evaluation.tuning import outcome_of, tuned
from sim.fluid.runs import Case
from sim.oracle.bounds import TARGET
from tests.sim.fluid.loads import case, waves

PEAK = 4


def cases(most: int, mean_per_s: float = 15.0) -> list[Case]:
    return [case(waves(200, seed, mean_per_s), most=most, first=3, scored_from=20) for seed in (1, 2, 3)]


def by_brute_force(baseline: Baseline, seeds: Sequence[Case]) -> Settings | None:
    """The cheapest setting with the first seed, of those that meet the target over all; None where none does."""
    found: list[tuple[float, Settings]] = []
    for settings in baseline.grid(PEAK):
        outcomes = [outcome_of(baseline, settings, one)[0] for one in seeds]
        if np.mean([outcome.attainment for outcome in outcomes]) >= TARGET:
            found.append((outcomes[0].gpu_hours, settings))
    return min(found)[1] if found else None


@pytest.mark.parametrize("long", [0, 11_520], ids=["a long load, given up early", "a short load"])
@pytest.mark.parametrize("name", BASELINES)
def test_the_setting_is_the_one_that_running_the_whole_grid_finds(
    name: str, long: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tuning, "LONG", long)
    monkeypatch.setattr(tuning, "NEAR", 1.0 if long else 0.2)
    baseline, seeds = BASELINES[name], cases(most=12)
    cheapest = by_brute_force(baseline, seeds)
    if cheapest is not None:
        assert tuned(baseline, PEAK, seeds) == cheapest


@pytest.mark.parametrize("name", ["static", "hpa-queue", "rate-hold"])
def test_the_law_above_is_not_void(name: str) -> None:
    assert by_brute_force(BASELINES[name], cases(most=12)) is not None


@pytest.mark.parametrize("name", BASELINES)
def test_where_no_setting_meets_the_target_it_is_the_one_with_most_on_time(name: str) -> None:
    baseline, seeds = BASELINES[name], cases(most=2, mean_per_s=40.0)
    assert by_brute_force(baseline, seeds) is None

    def attained(settings: Settings) -> float:
        return float(np.mean([outcome_of(baseline, settings, one)[0].attainment for one in seeds]))

    assert attained(tuned(baseline, PEAK, seeds)) == max(attained(settings) for settings in baseline.grid(PEAK))


@pytest.mark.parametrize("name", BASELINES)
def test_no_setting_costs_less_than_the_fewest_replicas_it_says(name: str) -> None:
    baseline, (one, *_) = BASELINES[name], cases(most=12)
    for settings in baseline.grid(PEAK):
        ticks = one.load.ticks - one.terms.scored_from
        least_s = 15.0 * ticks * min(baseline.fewest(settings), one.terms.max_replicas)
        assert outcome_of(baseline, settings, one)[0].gpu_hours >= least_s * one.gpu_hours_per_s * (1 - 1e-12)
