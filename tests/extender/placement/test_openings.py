"""Openings: against a search that tries everything, and against what one GPU can hold."""

from functools import cache

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from extender.placement import catalog
from extender.placement.masks import Tables, tables
from extender.placement.openings import weights
from extender.placement.profile import GpuModel

MODELS = [m for m in catalog.load().values() if m.profiles]
every_model = pytest.mark.parametrize("model", MODELS, ids=lambda m: m.name)
GRIDS = {name: tables(catalog.load()[name]) for name in ("a100-80", "a30")}


def census_of(grid: Tables, states: list[int]) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
    return np.bincount(states, minlength=grid.states)


@cache
def fewest(name: str, gpus: tuple[int, ...], waiting: tuple[int, ...]) -> int:
    """GPUs that are opened, by trying every place for every pod."""
    grid = GRIDS[name]
    if not any(waiting):
        return 0
    k = max(i for i, n in enumerate(waiting) if n)
    rest = tuple(n - (i == k) for i, n in enumerate(waiting))
    found = []
    for i, state in enumerate((*gpus, grid.empty)):
        for after in grid.next_state[state, list(grid.of_profile[k])].tolist():
            if after >= 0:
                others = gpus[:i] + gpus[i + 1 :]
                found.append((i == len(gpus)) + fewest(name, tuple(sorted((*others, after))), rest))
    return min(found)


@st.composite
def moments(draw: st.DrawFn) -> tuple[str, list[int], list[int]]:
    """Some GPUs in use and some pods that wait."""
    name = draw(st.sampled_from(sorted(GRIDS)))
    grid, gpus = GRIDS[name], []
    for _ in range(draw(st.integers(0, 3))):
        state = grid.empty
        for _ in range(draw(st.integers(1, 3))):
            following = sorted({s for s in grid.next_state[state].tolist() if s >= 0})
            state = draw(st.sampled_from(following)) if following else state
        gpus.append(state)
    return name, gpus, draw(st.lists(st.integers(0, len(grid.of_profile) - 1), max_size=4))


@settings(max_examples=150, deadline=None)
@given(moment=moments())
def test_the_bound_is_what_a_search_finds(moment: tuple[str, list[int], list[int]]) -> None:
    name, gpus, pods = moment
    grid = GRIDS[name]
    waiting = np.bincount(pods, minlength=len(grid.of_profile))
    got = weights(grid).opened(waiting.astype(np.float64), census_of(grid, gpus))
    assert got == fewest(name, tuple(sorted(gpus)), tuple(waiting.tolist()))


@settings(max_examples=60, deadline=None)
@given(moment=moments(), idle=st.integers(0, 2), data=st.data())
def test_what_a_placement_adds_is_the_bound_after_it_less_the_one_before(
    moment: tuple[str, list[int], list[int]], idle: int, data: st.DataObject
) -> None:
    name, gpus, pods = moment
    grid = GRIDS[name]
    rule, k = weights(grid), data.draw(st.integers(0, len(grid.of_profile) - 1))
    waiting = np.bincount(pods, minlength=len(grid.of_profile)).astype(np.float64)
    fleet = [*gpus, *[grid.empty] * idle]
    added, before = rule.added(grid, k, waiting, census_of(grid, fleet)), rule.opened(waiting, census_of(grid, fleet))
    for state in range(grid.states):
        for q, after in enumerate(grid.next_state[state, list(grid.of_profile[k])].tolist()):
            want = 0
            if after >= 0 and (state in gpus or state == grid.empty):
                others = [s for s in fleet if s != grid.empty]
                others = others if state == grid.empty else [*others[: (i := others.index(state))], *others[i + 1 :]]
                then = rule.opened(waiting, census_of(grid, [*others, after]))
                want = then + (state == grid.empty) - before
            assert added[state, q] == want


@every_model
def test_no_gpu_takes_more_weight_than_its_value(model: GpuModel) -> None:
    grid = tables(model)
    rule, reached = weights(grid), {grid.empty}
    todo = [grid.empty]
    for state in todo:
        for k, places in enumerate(grid.of_profile):
            for after in {s for s in grid.next_state[state, list(places)].tolist() if s >= 0}:
                assert (rule.value[state] >= rule.value[after] + rule.of_profile[:, k]).all()
                todo.extend({after} - reached)
                reached.add(after)
    assert (rule.of_empty == rule.value[grid.empty]).all()
    assert (rule.of_empty > 0).all()


@every_model
def test_there_are_few_weights(model: GpuModel) -> None:
    assert 1 <= len(weights(tables(model)).of_empty) <= 128


@pytest.mark.parametrize(
    ("gpus", "pods", "want"),
    [
        pytest.param([], ["3g.40gb", "3g.40gb"], 1, id="two 3g share a GPU"),
        pytest.param([], ["4g.40gb", "4g.40gb"], 2, id="two 4g never do"),
        pytest.param([0xF0], ["4g.40gb"], 0, id="a low half is free"),
        pytest.param([0x0F], ["4g.40gb"], 1, id="a high half is no place for a 4g"),
        pytest.param([0x0F, 0xF0], ["7g.80gb"], 1, id="two halves are no whole GPU"),
        pytest.param([0x3F], ["2g.20gb"], 1, id="no 2g reaches the last two slices"),
        pytest.param([0x3F], ["1g.20gb"], 0, id="double memory does"),
        pytest.param([], ["1g.10gb"] * 8, 2, id="seven 1g are a GPU"),
    ],
)
def test_what_pods_must_open(gpus: list[int], pods: list[str], want: int) -> None:
    grid = GRIDS["a100-80"]
    names = [p.name for p in grid.model.profiles]
    waiting = np.array([pods.count(name) for name in names], np.float64)
    assert weights(grid).opened(waiting, census_of(grid, gpus)) == want
