import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from extender.placement import catalog
from extender.placement.fragment import SHARES, Mix, expected, share_room, shared_fragment, uniform
from extender.placement.masks import tables
from extender.placement.profile import GpuModel, Placement, Profile

MODELS = [m for m in catalog.load().values() if m.profiles]
every_model = pytest.mark.parametrize("model", MODELS, ids=lambda m: m.name)


@every_model
def test_fragmentation_is_some_of_what_is_free(model: GpuModel) -> None:
    grid = tables(model)
    found = expected(grid, uniform(grid))
    assert ((found >= -1e-9) & (found <= grid.free + 1e-9)).all()
    assert found[grid.full] == 0


@every_model
def test_the_mix_is_a_distribution_over_plain_profiles(model: GpuModel) -> None:
    p = uniform(tables(model))
    assert p.sum() == pytest.approx(1)
    assert {x.plain for x, share in zip(model.profiles, p, strict=True) if share} == {True}


def test_profiles_that_all_have_attributes_are_as_likely_as_one_another() -> None:
    odd = GpuModel("odd", 9000, (Profile("1g.1gb+gfx", 1, 1, 1000, (0,), 1), Profile("1g.1gb-me", 1, 1, 1000, (0,), 1)))
    assert uniform(tables(odd)).tolist() == [0.5, 0.5]


def test_slices_1_and_5_taken_leave_five_compute_slices_and_no_3g() -> None:
    grid = tables(catalog.load()["a100-80"])
    state = grid.covering([Placement("1g.10gb", 1, 1), Placement("1g.10gb", 5, 1)])
    only_3g = Mix((("3g.40gb", 2.0), ("2g.20gb", -1.0), ("unknown", 5.0))).over(grid)
    assert expected(grid, only_3g)[state] == grid.free[state] == 6


def test_a_mix_that_names_none_of_the_profiles_weighs_nothing() -> None:
    grid = tables(catalog.load()["a30"])
    assert Mix((("7g.80gb", 1.0),)).over(grid).tolist() == [0.0] * len(grid.model.profiles)


FREE = st.tuples(st.floats(0, 1), st.floats(0, 100))


@given(FREE)
def test_shared_fragmentation_is_some_of_what_is_free(free: tuple[float, float]) -> None:
    total = np.array(80_000.0)
    found = shared_fragment(total, total * free[0], np.array(free[1]))
    assert -1e-9 <= found <= max(free[0], free[1] / 100) + 1e-9


def test_memory_without_compute_is_of_no_use() -> None:
    total = np.array([80_000.0, 80_000.0, 80_000.0])
    found = shared_fragment(total, np.array([40_000.0, 40_000.0, 80_000.0]), np.array([0.0, 50.0, 100.0]))
    assert found.tolist() == [0.5, 0.125, 0.0]


def test_room_for_typical_shares() -> None:
    assert SHARES == (0.125, 0.25, 0.5, 1.0)
    assert share_room(np.array(80_000.0), np.array(40_000.0), np.array(30.0)).tolist() == [2, 1, 0, 0]
    assert share_room(np.array(0.0), np.array(0.0), np.array(0.0)).tolist() == [0, 0, 0, 0]
