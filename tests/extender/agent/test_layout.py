from itertools import combinations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from extender.agent.layout import Blocked, Create, Destroy, Present, steps
from extender.placement import catalog
from extender.placement.masks import tables
from extender.placement.profile import GpuModel, Placement

A100 = catalog.load()["a100-80"]
OWNED = {"GPU-a": A100}
ONE = [Placement("1g.10gb", start, 1) for start in range(7)]
TWO = Placement("2g.20gb", 0, 2)
THREE = Placement("3g.40gb", 4, 4)


def there(place: Placement, *, made: bool = True, busy: bool = False, gpu: str = "GPU-a") -> Present:
    return Present(gpu, place, f"MIG-{place}", made=made, busy=busy)


@pytest.mark.parametrize(
    ("wanted", "present", "want"),
    [
        pytest.param([], [], [], id="nothing wanted, nothing there: nothing to do"),
        pytest.param([ONE[0]], [there(ONE[0])], [], id="as wanted: nothing to do"),
        pytest.param(
            [ONE[2], TWO, THREE],
            [],
            [Create("GPU-a", THREE), Create("GPU-a", TWO), Create("GPU-a", ONE[2])],
            id="created from large to small",
        ),
        pytest.param(
            [THREE],
            [there(ONE[4]), there(ONE[5])],
            [
                Destroy("GPU-a", ONE[4], "MIG-1g.10gb@4"),
                Destroy("GPU-a", ONE[5], "MIG-1g.10gb@5"),
                Create("GPU-a", THREE),
            ],
            id="what nobody wants leaves before the others come",
        ),
        pytest.param([], [there(ONE[0], busy=True)], [], id="processes run on it: it stays"),
        pytest.param([], [there(ONE[0], made=False)], [], id="another manager made it: it stays"),
    ],
)
def test_steps(wanted: list[Placement], present: list[Present], want: list[object]) -> None:
    found = steps({"GPU-a": wanted}, present, OWNED)
    assert (list(found.steps), found.blocked) == (want, ())


@pytest.mark.parametrize(
    ("wanted", "present", "why"),
    [
        pytest.param([TWO], [there(ONE[1], busy=True)], "MIG-1g.10gb@1 .* in its way, and processes", id="busy"),
        pytest.param([TWO], [there(ONE[1], made=False)], "in its way, and it was made by another", id="foreign"),
        pytest.param([TWO], [there(TWO, made=False)], "is there, made by another manager", id="foreign, same place"),
        pytest.param([TWO, ONE[0]], [], "2g.20gb@0 is wanted in the same place", id="wanted twice"),
        pytest.param([Placement("3g.40gb", 2, 4)], [], "is no placement of a100-80", id="an illegal place"),
        pytest.param([Placement("9g.9gb", 0, 9)], [], "is no placement of a100-80", id="an unknown profile"),
        pytest.param(
            [Placement("1g.10gb+me", 0, 1), Placement("1g.10gb+me", 1, 1)],
            [],
            "no more instances of 1g.10gb.me fit",
            id="more than the profile allows",
        ),
    ],
)
def test_what_cannot_be_made_says_why(wanted: list[Placement], present: list[Present], why: str) -> None:
    found = steps({"GPU-a": wanted}, present, OWNED)
    (blocked,) = found.blocked
    assert not [s for s in found.steps if isinstance(s, Destroy)]
    with pytest.raises(AssertionError, match=why):
        raise AssertionError(blocked.why)


def test_a_gpu_that_is_not_ours_is_never_touched() -> None:
    found = steps({"GPU-b": [TWO]}, [there(ONE[0], gpu="GPU-b")], OWNED)
    assert (found.steps, found.blocked) == ((), (Blocked("GPU-b", TWO, "the GPU is not this agent's"),))


@st.composite
def layouts(draw: st.DrawFn, model: GpuModel) -> list[Placement]:
    """Placements that can stand beside one another."""
    grid = tables(model)
    state, chosen = grid.empty, []
    for place in draw(st.lists(st.sampled_from(grid.placements), max_size=8)):
        after = grid.after(state, place)
        if after is not None and place not in chosen:
            state = after
            chosen.append(place)
    return chosen


@st.composite
def cases(draw: st.DrawFn) -> tuple[GpuModel, list[Placement], list[Present]]:
    model = draw(st.sampled_from([m for m in catalog.load().values() if m.profiles]))
    present = [there(p, made=draw(st.booleans()), busy=draw(st.booleans())) for p in draw(layouts(model))]
    wanted = draw(layouts(model)) + draw(st.lists(st.sampled_from(tables(model).placements), max_size=3))
    return model, wanted, present


@given(cases())
def test_laws(case: tuple[GpuModel, list[Placement], list[Present]]) -> None:
    model, wanted, present = case
    found = steps({"GPU-a": wanted}, present, {"GPU-a": model})
    destroyed = {s.uuid for s in found.steps if isinstance(s, Destroy)}
    created = [s.placement for s in found.steps if isinstance(s, Create)]
    after = [i for i in present if i.uuid not in destroyed]
    assert all(i.made and not i.busy and i.placement not in wanted for i in present if i.uuid in destroyed)
    assert not any(_overlap(a, b) for a, b in combinations([i.placement for i in after] + created, 2))
    assert created == sorted(created, key=lambda p: (-p.size, p.start, p.profile))
    ours = {i.placement for i in after if i.made}
    assert set(wanted) == (ours & set(wanted)) | set(created) | {b.placement for b in found.blocked}
    again = steps({"GPU-a": wanted}, [*after, *(there(p) for p in created)], {"GPU-a": model})
    assert again.steps == ()


def _overlap(a: Placement, b: Placement) -> bool:
    return a.start < b.start + b.size and b.start < a.start + a.size
