"""Laws that every scorer keeps, and what tells them apart."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from extender.placement import catalog
from extender.placement.demand import Shape
from extender.placement.fragment import SHARES, Mix
from extender.placement.masks import Tables, tables
from extender.placement.profile import GpuModel, Mode, Placement
from extender.placement.scorers import DEFAULT, SCORERS, Scorer, Shares
from extender.placement.scorers.fgd import Fgd
from extender.placement.scorers.fragmentation import Fragmentation
from extender.placement.traffic import NO_TRAFFIC

MODELS = [m for m in catalog.load().values() if m.profiles]
A100 = tables(catalog.load()["a100-80"])
every_scorer = pytest.mark.parametrize("scorer", SCORERS.values(), ids=SCORERS)
SP = SCORERS["fragmentation"]


def census(grid: Tables, *states: int) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
    counts = np.zeros(grid.states, np.int64)
    np.add.at(counts, list(states), 1)
    return counts


def profile(grid: Tables, name: str) -> int:
    return next(k for k, p in enumerate(grid.model.profiles) if p.name == name)


def best_start(scorer: Scorer, name: str, state: int) -> int:
    k = profile(A100, name)
    price = scorer.mig(A100, k, census(A100, state))
    return A100.placements[A100.of_profile[k][int(price[state].argmin())]].start


def test_the_default_is_there() -> None:
    assert DEFAULT in SCORERS


@every_scorer
@pytest.mark.parametrize("model", MODELS, ids=lambda m: m.name)
def test_prices_are_finite_exactly_where_it_fits(scorer: Scorer, model: GpuModel) -> None:
    grid = tables(model)
    for k, places in enumerate(grid.of_profile):
        price = scorer.mig(grid, k, census(grid, 0, 0, grid.full))
        assert price.shape == (grid.states, len(places))
        assert (np.isfinite(price) == (grid.next_state[:, list(places)] >= 0)).all()


@every_scorer
@given(
    gpus=st.lists(st.tuples(st.integers(1, 80_000), st.integers(1, 100)), min_size=1, max_size=5),
    part=st.floats(0, 1),
)
def test_shares_and_whole_gpus_have_finite_prices(scorer: Scorer, gpus: list[tuple[int, int]], part: float) -> None:
    mib, pct = (np.array(column, np.float64) for column in zip(*gpus, strict=True))
    before, after = Shares(mib * 0 + 80_000, mib, pct), Shares(mib * 0 + 80_000, mib * part, pct * part)
    price = scorer.mps(before, after, np.ones(len(SHARES)), len(gpus))
    assert price.shape == mib.shape
    assert np.isfinite(price).all()
    free = np.arange(8)
    assert np.isfinite(scorer.whole(free, 3, free)).all()


@pytest.mark.parametrize(
    ("name", "taken", "want"),
    [
        pytest.param("3g.40gb", (), 4, id="the first 3g goes where the 4g cannot"),
        pytest.param("1g.20gb", (), 6, id="the first double-memory slice goes to the end, which no 1g or 2g reaches"),
        pytest.param(
            "1g.10gb", (Placement("1g.10gb", 4, 1),), 5, id="1g beside 1g, so that the other half stays whole"
        ),
        pytest.param("1g.10gb", (Placement("3g.40gb", 0, 4),), 6, id="alone in a half: at the place that no 2g uses"),
    ],
)
def test_the_default_scorer_keeps_the_scarce_places_free(name: str, taken: tuple[Placement, ...], want: int) -> None:
    assert best_start(SP, name, A100.covering(taken)) == want


def test_the_default_scorer_never_costs_less_for_taking_more() -> None:
    k1, k7 = profile(A100, "1g.10gb"), profile(A100, "7g.80gb")
    counts = census(A100, 0, 0, 0)
    assert SP.mig(A100, k1, counts)[0].min() < SP.mig(A100, k7, counts)[0].min()


def test_an_empty_gpu_of_an_empty_fleet_costs_its_memory() -> None:
    k = profile(A100, "7g.80gb")
    assert SP.mig(A100, k, census(A100, *[0] * 50))[0].min() == pytest.approx(80, rel=1e-6)
    share = SP.mps(*_one_share(81_920.0, 100.0), 50 / np.array(SHARES), 50)
    assert share.tolist() == pytest.approx([80], rel=1e-6)


def _one_share(mib: float, pct: float) -> tuple[Shares, Shares]:
    full = np.array([81_920.0])
    return Shares(full, full, np.array([100.0])), Shares(full, full - mib, np.array([100.0 - pct]))


def test_a_scarce_size_is_dear() -> None:
    half = _one_share(40_960.0, 50.0)
    plenty = SP.mps(*half, 50 / np.array(SHARES), 50)
    scarce = SP.mps(*half, np.array([50.0, 20.0, 1.0, 1.0]), 50)
    assert scarce[0] > plenty[0]


def test_runs_of_whole_gpus_are_kept_together() -> None:
    free = np.array([8, 3, 1, 4])
    assert SP.whole(free, 1, free).argmin() == 2
    assert SP.whole(free[:2], 2, free).argmin() == 1


def test_a_known_mix_changes_the_prices_and_an_unrelated_one_leaves_only_ties() -> None:
    k = profile(A100, "1g.10gb")
    counts = census(A100, 0)
    small = Fragmentation(Mix((("1g.10gb", 1.0),))).mig(A100, k, counts)
    none = Fragmentation(Mix((("nothing", 1.0),))).mig(A100, k, counts)
    assert not np.allclose(small[0], SP.mig(A100, k, counts)[0])
    assert none[0].max() < 1e-4
    assert none[0].argmin() == 0


def test_best_fit_takes_the_fuller_gpu_and_the_lower_start() -> None:
    scorer, k = SCORERS["best-fit"], profile(A100, "1g.10gb")
    half = A100.covering([Placement("4g.40gb", 0, 4)])
    price = scorer.mig(A100, k, census(A100))
    assert price[half].min() < price[0].min()
    assert price[0].argmin() == 0
    assert scorer.whole(np.array([5, 2]), 2, np.array([5, 2])).tolist() == [3, 0]
    fuller = scorer.mps(*_one_share(40_960.0, 50.0), np.ones(4), 1) < scorer.mps(
        *_one_share(4_096.0, 5.0), np.ones(4), 1
    )
    assert fuller.all()


def test_first_fit_has_no_preference() -> None:
    scorer, k = SCORERS["first-fit"], profile(A100, "1g.10gb")
    assert set(scorer.mig(A100, k, census(A100))[0].tolist()) == {0.0}
    assert not scorer.mps(*_one_share(1.0, 1.0), np.ones(4), 1).any()
    assert not scorer.whole(np.array([5, 2]), 2, np.array([5, 2])).any()


def test_fgd_spares_what_the_mix_asks_for() -> None:
    """Beside a 4g a half is free. Only a mix of 3g minds where the 1g goes; a 1g mix leaves it to the tie."""
    k, state = profile(A100, "1g.10gb"), census(A100, 0)
    asks_3g = Fgd(Mix((("3g.40gb", 1.0),))).mig(A100, k, state)
    asks_1g = Fgd(Mix((("1g.10gb", 1.0),))).mig(A100, k, state)
    half = A100.covering([Placement("4g.40gb", 0, 4)])
    assert asks_3g[half].min() > 10
    assert abs(asks_1g[half]).min() < 1e-4


def test_fgd_learns_the_mix_where_it_is_not_told() -> None:
    k, state = profile(A100, "1g.10gb"), census(A100, 0)
    traffic = NO_TRAFFIC
    for _ in range(500):
        traffic = traffic.arrive(Shape(frozenset({Mode.MIG}), profile="3g.40gb"), 1)
    told = Fgd(Mix((("3g.40gb", 1.0),))).mig(A100, k, state)[A100.covering([Placement("4g.40gb", 0, 4)])]
    seen = Fgd().mig(A100, k, state, traffic)[A100.covering([Placement("4g.40gb", 0, 4)])]
    assert seen[np.isfinite(seen)] == pytest.approx(told[np.isfinite(told)], rel=0.05)


def test_unweighted_is_fgd_before_anything_was_asked_for() -> None:
    for k in range(len(A100.of_profile)):
        price = SCORERS["unweighted"].mig(A100, k, census(A100, 0))
        assert (price == Fgd().mig(A100, k, census(A100, 0))).all()


def test_the_longest_run_stays() -> None:
    scorer = SCORERS["longest-run"]
    assert best_start(scorer, "1g.10gb", 0) == 0
    assert best_start(scorer, "1g.10gb", A100.covering([Placement("1g.10gb", 6, 1)])) == 5
    assert best_start(scorer, "3g.40gb", A100.covering([Placement("1g.10gb", 0, 1)])) == 4
    assert best_start(scorer, "1g.10gb", A100.covering([Placement("2g.20gb", 2, 2)])) == 0
