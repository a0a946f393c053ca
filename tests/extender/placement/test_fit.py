import pytest

from extender.placement import catalog
from extender.placement.demand import Shape
from extender.placement.fit import profile_for, share_mib, share_pct
from extender.placement.profile import Mode

MIG = frozenset({Mode.MIG})
MODELS = catalog.load()


@pytest.mark.parametrize(
    ("model", "shape", "want"),
    [
        pytest.param("a100-40", Shape(MIG, "1g.10gb"), "1g.10gb", id="1g.10gb is the double-memory one on 40 GB"),
        pytest.param("a100-80", Shape(MIG, "1g.10gb"), "1g.10gb", id="and the plain one on 80 GB"),
        pytest.param("a100-80", Shape(MIG, "1g.10gb+me"), "1g.10gb+me", id="by name, with media extensions"),
        pytest.param("a100-80", Shape(MIG, "1g.5gb"), None, id="a profile of another model"),
        pytest.param("a100-80", Shape(MIG, memory_mib=9856), "1g.10gb", id="exactly the memory of a slice"),
        pytest.param("a100-80", Shape(MIG, memory_mib=9857), "1g.20gb", id="a little more: the double-memory slice"),
        pytest.param("a100-80", Shape(MIG, memory_mib=20480), "3g.40gb", id="20 GiB are more than 1g.20gb has"),
        pytest.param("a100-80", Shape(MIG, compute_pct=14), "1g.10gb", id="a seventh is a little over 14 %"),
        pytest.param("a100-80", Shape(MIG, compute_pct=15), "2g.20gb", id="15 % are more than a seventh"),
        pytest.param("a100-80", Shape(MIG, memory_mib=1, compute_pct=50), "4g.40gb", id="half the compute: 4 of 7"),
        pytest.param("a100-80", Shape(MIG, compute_pct=100), "7g.80gb", id="all of it"),
        pytest.param("a100-80", Shape(MIG, memory_mib=81000), None, id="more than the largest has"),
        pytest.param("rtx-pro-6000", Shape(MIG, memory_mib=24000), "1g.24gb", id="the plain one of many variants"),
        pytest.param("t4", Shape(MIG, memory_mib=1), None, id="not MIG-capable"),
        pytest.param("a100-80", Shape(frozenset({Mode.MPS}), memory_mib=1), None, id="a share is no slice"),
        pytest.param("a100-80", Shape(MIG, "1g.10gb", models=frozenset({"h100-80"})), None, id="another model wanted"),
        pytest.param(
            "a100-80", Shape(MIG, "1g.10gb", models=frozenset({"a100-80"})), "1g.10gb", id="this model wanted"
        ),
    ],
)
def test_the_smallest_profile_that_is_enough(model: str, shape: Shape, want: str | None) -> None:
    k = profile_for(MODELS[model], shape)
    assert (None if k is None else MODELS[model].profiles[k].name) == want


@pytest.mark.parametrize(
    ("shape", "want"),
    [
        pytest.param(Shape(MIG, memory_mib=20480, compute_pct=10), (20480, 10), id="both asked for"),
        pytest.param(Shape(MIG, memory_mib=20480), (20480, 25), id="compute in the proportion of memory"),
        pytest.param(Shape(MIG, memory_mib=20481), (20481, 26), id="rounded up"),
        pytest.param(Shape(MIG, compute_pct=30), (24576, 30), id="memory in the proportion of compute"),
    ],
)
def test_the_size_of_a_share(shape: Shape, want: tuple[int, int]) -> None:
    assert (share_mib(shape, 81920), share_pct(shape, 81920)) == want


def test_a_share_is_never_without_memory() -> None:
    assert share_mib(Shape(MIG, compute_pct=1), 10) == 1
