"""Slice value against its formulas written as plain recursion, and what it is meant to do."""

from collections.abc import Iterator
from functools import cache

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from extender.placement import catalog
from extender.placement.demand import Shape
from extender.placement.masks import Tables, tables
from extender.placement.profile import GpuModel, Mode, Placement
from extender.placement.scorers import slice_value
from extender.placement.scorers.slice_value import DRAIN_RATE, SliceValue, expected_waste, worth
from extender.placement.traffic import NO_TRAFFIC, UNSEEN, Coming, Traffic

MODELS = [m for m in catalog.load().values() if m.profiles]
every_model = pytest.mark.parametrize("model", MODELS, ids=lambda m: m.name)
A100 = tables(catalog.load()["a100-80"])
SCORER = SliceValue()


def shape(name: str) -> Shape:
    return Shape(frozenset({Mode.MIG}), profile=name)


def turning(*names: str) -> Traffic:
    """As many pods leave as come."""
    traffic = NO_TRAFFIC
    for name in names or ("1g.10gb", "7g.80gb"):
        traffic = traffic.arrive(shape(name), 1).leave()
    return traffic


def census(grid: Tables, *states: int) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
    counts = np.zeros(grid.states, np.int64)
    np.add.at(counts, list(states), 1)
    return counts


def profile(grid: Tables, name: str) -> int:
    return next(k for k, p in enumerate(grid.model.profiles) if p.name == name)


# ---- twins -----------------------------------------------------------------------------------------------------


def blocks(grid: Tables) -> list[int]:
    places = {(p.start // grid.unit, p.size // grid.unit) for p in grid.placements}
    return [sum(1 << cell for cell in range(start, start + size)) for start, size in sorted(places)]


def cuts(mask: int, among: list[int]) -> Iterator[frozenset[int]]:
    """Every way to cut a mask into blocks."""
    if mask == 0:
        yield frozenset()
    for block in among:
        if mask & block == block and (mask ^ block) & -(mask ^ block) != mask & -mask:
            yield from (frozenset({block}) | rest for rest in cuts(mask ^ block, among))


def drained_twin(grid: Tables) -> tuple[list[float], list[list[float]]]:
    among = blocks(grid)
    running: list[float] = []
    drained: list[list[float]] = []
    for mask in range(1 << grid.cells):
        ways = list(cuts(mask, among))
        count = max(len(ways), 1)
        rates = {b: sum(b in way for way in ways) / count for b in among}
        running.append(sum(rates.values()))
        drained.append(
            [
                (DRAIN_RATE * int(grid.room[mask, k]) + sum(r * drained[mask ^ b][k] for b, r in rates.items() if r))
                / (DRAIN_RATE + running[mask])
                for k in range(len(grid.of_profile))
            ]
        )
    return running, drained


@every_model
def test_room_after_departures_is_its_plain_recursion(model: GpuModel) -> None:
    grid = tables(model)
    running, drained = slice_value._leaving(grid, grid.room.astype(np.float64))
    want_running, want_drained = drained_twin(grid)
    assert running == pytest.approx(want_running)
    assert drained == pytest.approx(np.array(want_drained))


@every_model
def test_expected_waste_is_its_plain_recursion(model: GpuModel) -> None:
    grid = tables(model)
    found = census(grid, 0, 0, 1, 2, grid.full)
    counts = NO_TRAFFIC.arrive(shape(model.profiles[0].name), 7).counts(grid)
    mix = counts / counts.sum()
    opened = [1, 2, grid.full]
    chance = [mix[k] / (1 + sum(bool(grid.room[s, k]) for s in opened)) for k in range(len(mix))]
    end = 1 / (counts.sum() + UNSEEN)

    @cache
    def waste(state: int) -> float:
        total, weight = end * int(grid.free[state]), end
        for k, places in enumerate(grid.of_profile):
            after = [int(s) for s in grid.next_state[state, list(places)] if s >= 0]
            if after:
                total += chance[k] * min(map(waste, after))
                weight += chance[k]
        return float(total / weight)

    coming = Coming(counts, float(counts.sum() + UNSEEN))
    got = expected_waste(slice_value._static(grid), grid.free, coming, found)
    assert got == pytest.approx([waste(s) for s in range(grid.states)])


def test_worth_is_its_formula() -> None:
    static, found = slice_value._static(A100), census(A100, 0, 0, 1, 3, 255)
    mix = np.array([0.3, 0.0, 0.2, 0.1, 0.1, 0.1, 0.2])
    instances = float(static.running[[1, 3, 255]].sum())

    def price(k: int, supply: float) -> float:
        wanted = 1 + 0.5 * float(mix[k]) * instances
        return float(mix[k] * static.size[k] ** 2 * (wanted / (supply + wanted)) ** 1.5)

    supplies = [sum(int(A100.room[s, k]) for s in (0, 0, 1, 3, 255)) for k in range(7)]
    unit = sum(price(k, 5 * int(A100.room[0, k])) * float(static.prospect[0, k]) for k in range(7))
    want = [sum(price(k, supplies[k]) * static.prospect[s, k] for k in range(7)) / unit for s in range(A100.states)]
    assert worth(static, mix, found) == pytest.approx(want)


def risen(grid: Tables, value: np.ndarray[tuple[int], np.dtype[np.float64]]) -> list[float]:
    """By how much taking a place raises the value of a state: a mean over ways to cut a mask lets it do so a little."""
    reached, order = {grid.empty}, [grid.empty]
    found = []
    for state in order:
        for after in grid.next_state[state].tolist():
            if after >= 0:
                found.append(value[after] - value[state])
                order.extend({after} - reached)
                reached.add(after)
    return found


# ---- laws ------------------------------------------------------------------------------------------------------


@every_model
@settings(max_examples=15)
@given(seed=st.integers(0, 2**32 - 1))
def test_worth_and_waste_keep_their_bounds(model: GpuModel, seed: int) -> None:
    grid, random = tables(model), np.random.default_rng(seed)
    found = random.integers(0, 5, grid.states) * (random.random(grid.states) < 0.1)
    counts = NO_TRAFFIC.counts(grid) + random.integers(0, 50, len(grid.of_profile))
    value = worth(slice_value._static(grid), counts / counts.sum(), found)
    coming = Coming(counts, float(counts.sum() + UNSEEN))
    waste = expected_waste(slice_value._static(grid), grid.free, coming, found)
    assert (value >= 0).all()
    assert value.argmax() == grid.empty
    assert (waste >= 0).all()
    assert (waste <= grid.free).all()
    assert max(risen(grid, value)) <= value[grid.empty] / 100


@every_model
@pytest.mark.parametrize("leaves", [0, 1, 3], ids=["the fleet fills", "between the two", "pods leave"])
def test_prices_are_finite_exactly_where_it_fits(model: GpuModel, leaves: int) -> None:
    grid, traffic = tables(model), NO_TRAFFIC
    for _ in range(4):
        traffic = traffic.arrive(shape(model.profiles[0].name), 1)
    for _ in range(leaves):
        traffic = traffic.leave()
    assert traffic.turnover == pytest.approx(min(1.0, leaves * 0.4), rel=0.05)
    for k, places in enumerate(grid.of_profile):
        price = SCORER.mig(grid, k, census(grid, 0, 0, grid.full), traffic)
        assert (np.isfinite(price) == (grid.next_state[:, list(places)] >= 0)).all()


def test_the_same_moment_has_the_same_prices() -> None:
    counts = census(A100, 0, 0, 15)
    for traffic in (NO_TRAFFIC, turning()):
        first, again = (SCORER.mig(A100, 0, counts, traffic) for _ in range(2))
        assert (first == again).all()


# ---- what it is meant to do ------------------------------------------------------------------------------------


@pytest.mark.parametrize("traffic", [NO_TRAFFIC, turning()], ids=["the fleet fills", "pods come and go"])
@pytest.mark.parametrize(
    ("name", "taken", "want"),
    [
        pytest.param("3g.40gb", (), 4, id="the first 3g goes where the 4g cannot"),
        pytest.param("1g.20gb", (), 6, id="double memory goes to the end, which no 1g or 2g reaches"),
        pytest.param("1g.10gb", (Placement("1g.10gb", 4, 1),), 5, id="1g beside 1g: the other half stays whole"),
    ],
)
def test_the_scarce_places_stay_free(traffic: Traffic, name: str, taken: tuple[Placement, ...], want: int) -> None:
    k, state = profile(A100, name), A100.covering(taken)
    price = SCORER.mig(A100, k, census(A100, state, 0, 0), traffic)
    assert A100.placements[A100.of_profile[k][int(price[state].argmin())]].start == want


@pytest.mark.parametrize("traffic", [NO_TRAFFIC, turning()], ids=["the fleet fills", "pods come and go"])
def test_a_gpu_in_use_goes_before_an_unused_one(traffic: Traffic) -> None:
    k, half = profile(A100, "3g.40gb"), A100.covering([Placement("3g.40gb", 4, 4)])
    price = SCORER.mig(A100, k, census(A100, half, 0, 0, 0), traffic)
    assert price[half].min() < price[0].min()


def test_the_mix_decides_what_is_kept() -> None:
    """Two GPUs have a free half. Where only small slices are asked for, the one that no 4g can use any more goes."""
    k, counts = profile(A100, "1g.10gb"), census(A100, 0x0F, 0xF0, 0xFF)
    big = SCORER.mig(A100, k, counts, turning(*["4g.40gb"] * 50))
    assert big[0x0F].min() < big[0xF0].min()
