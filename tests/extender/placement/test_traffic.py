"""What the traffic remembers, and for how long."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from extender.placement import catalog
from extender.placement.demand import Shape
from extender.placement.masks import tables
from extender.placement.profile import Mode
from extender.placement.traffic import MAX_SHAPES, MIX_MEMORY, NO_TRAFFIC, UNSEEN, Traffic

MODELS = catalog.load()
A100 = tables(MODELS["a100-80"])
A30 = tables(MODELS["a30"])
MIG = frozenset({Mode.MIG})
SMALL, WHOLE = Shape(MIG, profile="1g.10gb"), Shape(MIG, profile="7g.80gb")
TEN_GIB = Shape(MIG, memory_mib=10 * 1024)
shapes = st.sampled_from([SMALL, WHOLE, TEN_GIB, Shape(frozenset({Mode.EXCLUSIVE}))])


def named(traffic: Traffic, model: str) -> dict[str, float]:
    grid = tables(MODELS[model])
    return dict(zip((p.name for p in grid.model.profiles), traffic.counts(grid).tolist(), strict=True))


def test_at_first_every_plain_profile_is_as_likely_as_another() -> None:
    assert set(named(NO_TRAFFIC, "a30").items()) == {
        ("1g.6gb", 1.0),
        ("1g.6gb+me", 0.0),
        ("2g.12gb", 1.0),
        ("2g.12gb+me", 0.0),
        ("4g.24gb", 1.0),
    }


def test_a_size_counts_on_each_model_for_the_profile_that_serves_it_there() -> None:
    traffic = NO_TRAFFIC.arrive(TEN_GIB, 3)
    assert named(traffic, "a100-80")["1g.20gb"] == 4
    assert named(traffic, "a30")["2g.12gb"] == 4


def test_a_shape_that_a_model_does_not_have_counts_on_others_only() -> None:
    traffic = NO_TRAFFIC.arrive(SMALL, 1)
    assert named(traffic, "a30") == named(NO_TRAFFIC, "a30")
    assert named(traffic, "h100-80")["1g.10gb"] == 2


def test_a_model_with_special_profiles_only_starts_from_all_of_them() -> None:
    model = MODELS["a30"]
    special = tables(type(model)("odd", model.memory_mib, tuple(p for p in model.profiles if not p.plain)))
    assert NO_TRAFFIC.counts(special).tolist() == [1, 1]


def test_an_old_mix_is_forgotten() -> None:
    traffic = NO_TRAFFIC
    for _ in range(50):
        traffic = traffic.present(SMALL, 1000)
    for _ in range(int(3 * MIX_MEMORY)):
        traffic = traffic.arrive(WHOLE, 1)
    assert sum(traffic.weights) == pytest.approx(MIX_MEMORY, rel=0.01)
    assert traffic.mix[SMALL] < 0.06 * traffic.mix[WHOLE]


@given(st.permutations([SMALL, SMALL, WHOLE, TEN_GIB, SMALL, WHOLE]))
def test_what_is_found_bound_gives_the_same_mix_in_any_order(found: list[Shape]) -> None:
    traffic = NO_TRAFFIC
    for shape in found:
        traffic = traffic.present(shape, 1)
    assert traffic.mix == {SMALL: 3, WHOLE: 2, TEN_GIB: 1}
    assert (traffic.arrived, traffic.left) == (NO_TRAFFIC.arrived, NO_TRAFFIC.left)


@given(st.lists(st.tuples(shapes, st.integers(1, 9)) | st.none(), max_size=60))
def test_weights_and_turnover_keep_their_bounds(events: list[tuple[Shape, int] | None]) -> None:
    traffic = NO_TRAFFIC
    for event in events:
        traffic = traffic.leave() if event is None else traffic.arrive(*event)
        assert 0 <= traffic.turnover <= 1
        assert all(w > 0 for w in traffic.weights)
    assert sum(traffic.weights) <= sum(e[1] for e in events if e)


def test_turnover_tells_a_fleet_that_fills_from_one_that_turns() -> None:
    filling = turning = NO_TRAFFIC
    for _ in range(300):
        filling = filling.arrive(SMALL, 1)
        turning = turning.arrive(SMALL, 1).leave()
    assert filling.turnover == 0
    assert turning.turnover == 1


def test_the_rarest_shape_is_forgotten_when_there_are_too_many() -> None:
    traffic = NO_TRAFFIC.present(SMALL, 2).present(WHOLE, 1)
    for mib in range(1, MAX_SHAPES):
        traffic = traffic.present(Shape(MIG, memory_mib=mib), 2)
    assert len(traffic.mix) == MAX_SHAPES
    assert SMALL in traffic.mix
    assert WHOLE not in traffic.mix


def test_pods_that_wait_are_what_is_expected_where_a_set_is_worked_off() -> None:
    one, two = Shape(frozenset({Mode.MIG}), profile="1g.10gb"), Shape(frozenset({Mode.MIG}), profile="2g.20gb")
    traffic = NO_TRAFFIC.wait(one, 300).wait(two, 40)
    at_first = traffic.coming(A100)
    assert at_first.total == pytest.approx(340 + NO_TRAFFIC.counts(A100).sum() + UNSEEN), (
        "as many again, for all we know"
    )
    for _ in range(200):
        traffic = traffic.wait(one, -1).place()
    known = traffic.coming(A100)
    assert known.total == pytest.approx(140, abs=0.01)
    assert known.slices.sum() == pytest.approx(140, abs=0.01)
    assert traffic.wait(one, -1000).waiting[0] == 0.0


def test_pods_that_come_one_by_one_make_no_set() -> None:
    one = Shape(frozenset({Mode.MIG}), profile="1g.10gb")
    traffic = NO_TRAFFIC
    for _ in range(50):
        traffic = traffic.wait(one, 1).wait(one, -1).arrive(one, 1).place()
    assert traffic.backlog == 0.0
    assert traffic.coming(A100).total == pytest.approx(traffic.counts(A100).sum() + UNSEEN)
