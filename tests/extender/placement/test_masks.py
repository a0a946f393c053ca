"""Laws of the tables, for every catalog model, against brute force over sets of placements."""

from collections.abc import Iterator
from itertools import combinations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from extender.placement import catalog
from extender.placement.masks import MAX_STATES, Tables, TablesError, tables
from extender.placement.profile import GpuModel, Media, Placement, Profile

MODELS = [m for m in catalog.load().values() if m.profiles]
EIGHT_SLICES = [m for m in MODELS if any(p.size == 8 for p in m.profiles)]
FOUR_PLACES = [m for m in MODELS if m not in EIGHT_SLICES]
every_model = pytest.mark.parametrize("model", MODELS, ids=lambda m: m.name)


def legal(model: GpuModel, taken: tuple[Placement, ...]) -> bool:
    """The rules as NVIDIA's guide says them, on a set of placements: the oracle of this file."""
    cells = [cell for x in taken for cell in range(x.start, x.start + x.size)]
    if len(cells) != len(set(cells)):
        return False
    kinds = [p for x in taken for p in model.profiles if p.name == x.profile]
    if any(sum(k.name == p.name for k in kinds) > p.max_count for p in model.profiles):
        return False
    media = [k.media for k in kinds]
    if media.count(Media.EXTENDED) > 1 or media.count(Media.ALL) > 1:
        return False
    return Media.ALL not in media or all(m in {Media.ALL, Media.NONE} for m in media)


def every_set(grid: Tables, among: tuple[Placement, ...]) -> Iterator[tuple[tuple[Placement, ...], int]]:
    """All sets that the tables allow, each with its state, found by taking placements in index order."""
    stack: list[tuple[tuple[Placement, ...], int, int]] = [((), grid.empty, 0)]
    while stack:
        taken, state, first = stack.pop()
        yield taken, state
        for i in range(first, len(among)):
            after = grid.after(state, among[i])
            if after is not None:
                stack.append(((*taken, among[i]), after, i + 1))


def plain(grid: Tables, *, without: str = "") -> tuple[Placement, ...]:
    names = {p.name for p in grid.model.profiles if p.plain and p.name != without}
    return tuple(x for x in grid.placements if x.profile in names)


@pytest.mark.parametrize("model", EIGHT_SLICES, ids=lambda m: m.name)
def test_eight_slice_gpus_have_the_known_number_of_layouts(model: GpuModel) -> None:
    grid = tables(model)
    double = next(p.name for p in model.profiles if p.slices == 1 and p.size == 2)
    assert len(list(every_set(grid, plain(grid, without=double)))) == 298
    sets = list(every_set(grid, plain(grid)))
    assert len(sets) == 723
    assert len({state for _, state in sets}) == 192
    slices = {p.name: p.slices for p in model.profiles}
    assert max(sum(slices[x.profile] for x in taken) for taken, _ in sets) == 7


@pytest.mark.parametrize("model", FOUR_PLACES, ids=lambda m: m.name)
def test_four_place_gpus_have_the_known_number_of_layouts(model: GpuModel) -> None:
    grid = tables(model)
    assert len(list(every_set(grid, plain(grid)))) == 26


@every_model
def test_the_sets_that_the_tables_allow_are_exactly_the_legal_ones(model: GpuModel) -> None:
    grid = tables(model)
    among = tuple(x for x in grid.placements if "gfx" not in x.profile)  # gfx profiles obey the rules of plain ones
    allowed = {frozenset(taken) for taken, _ in every_set(grid, among)}
    assert all(legal(model, tuple(taken)) for taken in allowed)
    # complete: every legal set of up to three placements, and every legal one-step growth of an allowed set
    small = (frozenset(c) for n in range(4) for c in combinations(among, n))
    assert all(c in allowed for c in small if legal(model, tuple(c)))
    for taken in allowed:
        for x in among:
            if x not in taken and legal(model, (*taken, x)):
                assert taken | {x} in allowed


@every_model
def test_room_is_the_most_that_brute_force_can_add(model: GpuModel) -> None:
    grid = tables(model)
    for state in {state for _, state in every_set(grid, plain(grid))}:
        for k, places in enumerate(grid.of_profile):
            most, frontier = 0, {state}
            while frontier := {int(grid.next_state[s, p]) for s in frontier for p in places} - {-1}:
                most += 1
            assert grid.room[state, k] == most


@every_model
def test_free_largest_and_full_say_what_the_mask_says(model: GpuModel) -> None:
    grid = tables(model)
    for state in range(grid.states):
        fitting = [k for k in range(len(model.profiles)) if grid.room[state, k]]
        assert grid.free[state] == grid.cells - (state & ((1 << grid.cells) - 1)).bit_count()
        if fitting:
            assert model.profiles[grid.largest[state]].size == max(model.profiles[k].size for k in fitting)
        else:
            assert grid.largest[state] == -1
    assert grid.free[grid.full] == 0
    assert not grid.room[grid.full].any()


@every_model
def test_taking_leads_upwards_and_at_most_256_masks_exist(model: GpuModel) -> None:
    grid = tables(model)
    after = grid.next_state
    assert ((after > np.arange(grid.states)[:, None]) | (after == -1)).all()
    assert 1 << grid.cells <= 256


@given(model=st.sampled_from(MODELS), picks=st.lists(st.integers(0, 200), max_size=20))
def test_taking_one_by_one_and_covering_at_once_agree(model: GpuModel, picks: list[int]) -> None:
    grid = tables(model)
    state, taken = grid.empty, list[Placement]()
    for pick in picks:
        x = grid.placements[pick % len(grid.placements)]
        after = grid.after(state, x)
        assert (after is not None) == legal(model, (*taken, x))
        if after is not None:
            state, taken = after, [*taken, x]
    assert grid.covering(taken) == state
    assert grid.covering(reversed(taken)) == state


@given(model=st.sampled_from(MODELS), start=st.integers(0, 40), size=st.integers(1, 40))
def test_what_is_not_understood_takes_every_cell_it_touches(model: GpuModel, start: int, size: int) -> None:
    grid = tables(model)
    state = grid.covering([Placement("9g.99gb", start, size)])
    for x in grid.placements:
        if x.start < start + size and start < x.start + x.size:
            assert grid.after(state, x) is None


def test_a_placement_of_no_profile_never_fits() -> None:
    assert tables(MODELS[0]).after(0, Placement("9g.99gb", 0, 1)) is None


def profile(name: str, size: int, starts: tuple[int, ...], max_count: int) -> Profile:
    return Profile(name, slices=size, size=size, memory_mib=1000 * size, starts=starts, max_count=max_count)


def test_a_count_below_what_the_geometry_allows_is_kept() -> None:
    grid = tables(GpuModel("odd", 9000, (profile("1g.1gb", 1, (0, 1, 2), 2), profile("3g.3gb", 3, (0,), 1))))
    assert grid.room[0].tolist() == [2, 1]
    assert len(list(every_set(grid, grid.placements))) == 1 + 3 + 3 + 1


def test_starts_closer_than_the_size_are_allowed() -> None:
    grid = tables(GpuModel("odd", 9000, (profile("2g.2gb", 2, (0, 1, 2), 2),)))
    assert grid.room[0, 0] == 2
    assert grid.room[grid.covering([Placement("2g.2gb", 1, 2)]), 0] == 0


@pytest.mark.parametrize(
    ("model", "why"),
    [
        pytest.param(GpuModel("t4", 15360), "no MIG profiles", id="no profiles: there is nothing to tabulate"),
        pytest.param(
            GpuModel("wide", 9000, (profile("1g.1gb", 1, tuple(range(40)), 40),)), "40 cells", id="a grid far too fine"
        ),
        pytest.param(
            GpuModel("counted", 9000, tuple(profile(f"1g.{i}gb", 1, tuple(range(12)), 6) for i in range(1, 9))),
            "8 counts",
            id="too many counts that the geometry does not imply",
        ),
    ],
)
def test_profiles_that_cannot_be_tabulated_are_refused(model: GpuModel, why: str) -> None:
    with pytest.raises(TablesError, match=why):
        Tables.of(model)
    assert MAX_STATES < 12**6
