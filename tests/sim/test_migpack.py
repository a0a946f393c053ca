"""The MIG packing lab: streams, the optimum, both kinds of run, and the command."""

import json
from dataclasses import replace
from functools import cache
from itertools import combinations_with_replacement, product
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

from extender.placement import catalog
from extender.placement.masks import tables
from extender.placement.scorers import DEFAULT
from sim.cli import app
from sim.migpack.lab import CONTESTANTS, Fleet, Row, fixed_set, with_departures
from sim.migpack.mixes import MIXES, MixError, Workload, plain
from sim.migpack.optimum import fewest_gpus
from sim.migpack.report import table

UNIFORM = Workload.of("a100-80", "uniform")


def sim(*args: str) -> Any:  # noqa: ANN401
    return CliRunner().invoke(app, ["pack", *args])


# ---- what is asked for -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("mix", MIXES)
def test_a_mix_is_a_distribution_over_the_plain_profiles(mix: str) -> None:
    work = Workload.of("a100-80", mix)
    assert sum(work.shares) == pytest.approx(1)
    assert [p.name.split(".")[0] for p in work.profiles] == ["1g", "1g", "2g", "3g", "4g", "7g"]
    assert work.sizes.tolist() == [1, 2, 2, 4, 4, 8]


@pytest.mark.parametrize(
    ("model", "mix", "why"),
    [
        pytest.param("a30", "bimodal", "is made for 6 profiles, a30 has 3", id="a mix for six profiles"),
        pytest.param("t4", "uniform", "--model: want one of", id="a GPU that cannot be cut"),
        pytest.param("z80", "uniform", "got 'z80'", id="a GPU that nobody knows"),
    ],
)
def test_a_mix_that_a_model_cannot_serve_is_refused(model: str, mix: str, why: str) -> None:
    with pytest.raises(MixError, match=why):
        Workload.of(model, mix)


def test_the_load_is_met_on_average_and_seeds_give_other_streams() -> None:
    offered = [float((a.lifetime * UNIFORM.sizes[a.profile]).sum()) for a in _streams(range(30))]
    assert np.mean(offered) == pytest.approx(0.8 * 8 * 50 * 10, rel=0.05)
    assert len(set(offered)) == 30
    first, again = _streams([3, 3])
    assert (first.at == again.at).all()
    assert (first.profile == again.profile).all()


def _streams(seeds: Any) -> list[Any]:  # noqa: ANN401
    return [UNIFORM.arrivals(seed, gpus=50, load=0.8, end=10.0) for seed in seeds]


# ---- the optimum -----------------------------------------------------------------------------------------------


@cache
def fits_on_one(model: str) -> frozenset[tuple[int, ...]]:
    """Every multiset of plain profiles that one GPU can hold, by trying all placements."""
    grid = tables(catalog.load()[model])
    wanted = [next(k for k, p in enumerate(grid.model.profiles) if p == q) for q in plain(grid.model)]
    found, todo = set(), [(grid.empty, (0,) * len(wanted))]
    while todo:
        state, counts = item = todo.pop()
        if item in found:
            continue
        found.add(item)
        for i, k in enumerate(wanted):
            more = tuple(n + (i == j) for j, n in enumerate(counts))
            todo += [(a, more) for a in grid.next_state[state, list(grid.of_profile[k])].tolist() if a >= 0]
    return frozenset(counts for _, counts in found)


def by_trying(model: str, counts: tuple[int, ...]) -> int:
    able = fits_on_one(model)
    gpus = 0
    reached = {(0,) * len(counts)}
    while not any(all(n >= want for n, want in zip(r, counts, strict=True)) for r in reached):
        reached = {tuple(map(min, map(sum, zip(r, a, strict=True)), counts)) for r, a in product(reached, able)}
        gpus += 1
    return gpus


@settings(max_examples=40, deadline=None)
@given(counts=st.tuples(*(st.integers(0, 3) for _ in range(5)), st.integers(0, 1)))
def test_the_fewest_gpus_on_the_eight_slice_grid_is_what_trying_finds(counts: tuple[int, ...]) -> None:
    assert fewest_gpus(catalog.load()["a100-80"], counts) == by_trying("a100-80", counts)


@pytest.mark.parametrize("model", ["a30", "rtx-pro-6000"])
def test_the_bound_by_memory_is_exact_where_sizes_divide_one_another(model: str) -> None:
    for chosen in combinations_with_replacement(range(3), 4):
        counts = tuple(chosen.count(k) for k in range(3))
        assert fewest_gpus(catalog.load()[model], counts) == by_trying(model, counts)


# ---- runs ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("scorer", CONTESTANTS)
def test_a_run_is_the_same_again_and_adds_up(scorer: str) -> None:
    row = with_departures(UNIFORM, scorer, seed=1, gpus=4, load=1.0)
    assert row == with_departures(UNIFORM, scorer, seed=1, gpus=4, load=1.0)
    assert 0 < row.accepted < row.offered
    assert 0 < row.accepted_slices < row.offered_slices
    assert row.gpus_used == 4
    assert row.optimum_gpus is None


def test_contestants_see_the_same_demands() -> None:
    offered = {with_departures(UNIFORM, s, 5, 3, 0.7).offered_slices for s in ("first-fit", "slice-value", "fgd-told")}
    assert len(offered) == 1


@pytest.mark.parametrize(("model", "mix"), [("a100-80", "skew-small"), ("a30", "uniform"), ("rtx-pro-6000", "uniform")])
@pytest.mark.parametrize("scorer", CONTESTANTS)
def test_a_fixed_set_needs_no_fewer_than_the_optimum(model: str, mix: str, scorer: str) -> None:
    row = fixed_set(Workload.of(model, mix), scorer, seed=1, pods=40)
    assert row.optimum_gpus is not None
    assert row.accepted == row.offered == 40
    assert row.gpus_used >= row.optimum_gpus


def test_a_demand_is_lost_only_where_it_fits_nowhere() -> None:
    fleet = Fleet(UNIFORM, "slice-value", 1)
    assert [fleet.place(f"u{i}", 3) for i in range(3)] == [True, True, False]
    fleet.leave("u0")
    assert [fleet.place("u4", 5), fleet.place("u5", 3)] == [False, True]
    assert fleet.gpus_used == 1


def test_slice_value_opens_fewer_gpus_than_first_fit() -> None:
    work = Workload.of("a100-80", "skew-small")
    ours, theirs = (fixed_set(work, scorer, 2, 250) for scorer in ("slice-value", "first-fit"))
    assert ours.gpus_used < theirs.gpus_used


@pytest.mark.parametrize("mix", MIXES)
def test_slice_value_packs_a_set_that_waits_into_the_fewest_gpus(mix: str) -> None:
    row = fixed_set(Workload.of("a100-80", mix), "slice-value", seed=1, pods=150)
    assert row.gpus_used == row.optimum_gpus


# ---- the command -----------------------------------------------------------------------------------------------


def test_default_is_the_scorer_that_the_extender_uses() -> None:
    ours, same = (with_departures(UNIFORM, name, 2, 3, 1.0) for name in ("default", DEFAULT))
    assert replace(ours, scorer=DEFAULT) == same


def test_rows_as_json() -> None:
    args = ("--gpus", "3", "--mix", "bimodal", "--seeds", "1,3-4", "--scorers", "best-fit", "--json", "-")
    ran = sim(*args)
    assert ran.exit_code == 0
    rows = json.loads(ran.stdout)["results"]
    assert [r["seed"] for r in rows] == [1, 3, 4]
    assert rows[0].keys() == {
        "mix",
        "scorer",
        "seed",
        "accepted",
        "offered",
        "accepted_slices",
        "offered_slices",
        "gpus_used",
        "optimum_gpus",
    }
    assert sim(*args).stdout == ran.stdout


def test_the_table_compares_with_the_first_scorer() -> None:
    ran = sim("--fixed", "20", "--seeds", "1-2", "--scorers", "first-fit,slice-value", "--mix", "uniform,skew-big")
    assert ran.exit_code == 0
    lines = [line.split() for line in ran.stdout.splitlines()]
    assert [line[:2] for line in lines[1:]] == [
        [mix, scorer] for mix in ("uniform", "skew-big") for scorer in ("first-fit", "slice-value")
    ]
    assert lines[1][3] == "+0.0000"


def test_one_seed_has_no_error() -> None:
    rows = [Row("uniform", s, 1, 5, 10, accepted, 40, 3, None) for s, accepted in (("a", 20), ("b", 22))]
    assert table(rows).splitlines()[2].split() == ["uniform", "b", "55.0000", "+5.0000", "nan"]


@pytest.mark.parametrize(
    ("args", "why"),
    [
        pytest.param(("--mix", "odd"), "no such mix: odd; there are uniform", id="a mix"),
        pytest.param(("--mix", ","), "no such mix: ','", id="no mix at all"),
        pytest.param(("--mix", "all", "--scorers", "luck"), "no such scorer: luck; there are default", id="a scorer"),
        pytest.param(("--mix", "all", "--model", "t4"), "--model", id="a model that cannot be cut"),
        pytest.param(("--mix", "all", "--model", "a30"), "want uniform", id="a mix that is not for this model"),
        pytest.param(("--mix", "all", "--seeds", "4-1"), "upwards (got '4-1')", id="a range downwards"),
        pytest.param(("--mix", "all", "--seeds", "x"), "(got 'x')", id="no number"),
        pytest.param(("--mix", "all", "--nodes", __file__), "--mix: makes its own", id="a mix and files"),
        pytest.param(("--pods", __file__), "want --nodes FILE and --pods FILE", id="pods without nodes"),
    ],
)
def test_wrong_usage_is_refused_before_anything_runs(args: tuple[str, ...], why: str) -> None:
    ran = CliRunner(env={"COLUMNS": "400", "TERM": "dumb"}).invoke(app, ["pack", *args])
    assert ran.exit_code == 2
    assert why in " ".join(ran.output.split())
