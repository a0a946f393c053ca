from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from extender.placement.demand import ContainerDemand, Demand, DemandError, Shape, busiest
from extender.placement.links import Link
from extender.placement.profile import Mode
from tests.extender.objects import container, demand, pod

MIG, MPS, WHOLE = frozenset({Mode.MIG}), frozenset({Mode.MPS}), frozenset({Mode.EXCLUSIVE})
ANY = MIG | MPS


@pytest.mark.parametrize(
    ("ask", "want"),
    [
        pytest.param({"profile": "1g.10gb"}, Shape(MIG, "1g.10gb"), id="a profile is MIG"),
        pytest.param({"profile": "1g.10gb.me", "mode": "mig"}, Shape(MIG, "1g.10gb+me"), id="in any form of its name"),
        pytest.param({"memory": "20Gi"}, Shape(ANY, memory_mib=20480), id="memory alone: MIG or MPS"),
        pytest.param(
            {"memory": "20Gi", "compute": "30", "mode": "mps"},
            Shape(MPS, memory_mib=20480, compute_pct=30),
            id="a share of memory and compute",
        ),
        pytest.param({"compute": "100", "mode": "mig"}, Shape(MIG, compute_pct=100), id="compute alone, all of it"),
        pytest.param({"mode": "exclusive"}, Shape(WHOLE), id="a whole GPU"),
        pytest.param(
            {"mode": "exclusive", "memory": "70Gi", "gpu-model": "H100-80, a100-80"},
            Shape(WHOLE, memory_mib=71680, models=frozenset({"h100-80", "a100-80"})),
            id="a whole GPU of one of two models, with so much memory",
        ),
        pytest.param(
            {"mode": "exclusive", "link": "require"}, Shape(WHOLE, link=Link.REQUIRE), id="whole GPUs, joined by NVLink"
        ),
    ],
)
def test_shapes(ask: dict[str, str], want: Shape) -> None:
    assert demand(ask=ask).shape == want


@pytest.mark.parametrize(
    ("ask", "faults"),
    [
        pytest.param({}, ["no size"], id="no size at all"),
        pytest.param({"mode": "mps"}, ["no size"], id="a share of what size?"),
        pytest.param(
            {"mode": "both", "memory": "1Gi"}, ["mode: want one of any, mig, mps, exclusive"], id="unknown mode"
        ),
        pytest.param({"profile": "half"}, ["profile: want a MIG profile"], id="no profile name"),
        pytest.param({"memory": "20GB"}, ["memory: want a positive quantity"], id="not a quantity"),
        pytest.param({"memory": "0"}, ["memory: want a positive quantity"], id="no memory is not a size"),
        pytest.param({"compute": "0"}, ["compute: want a whole percentage"], id="no compute is not a size"),
        pytest.param({"compute": "101"}, ["compute: want a whole percentage"], id="more than a GPU"),
        pytest.param({"compute": "30%"}, ["compute: want a whole percentage"], id="the sign is not part of it"),
        pytest.param({"memory": "1Gi", "gpu-model": " , "}, ["gpu-model: want a GPU model"], id="no model named"),
        pytest.param({"profile": "1g.10gb", "memory": "1Gi"}, ["want one way"], id="two ways to say the size"),
        pytest.param({"profile": "1g.10gb", "mode": "mps"}, ["only MIG has profiles"], id="a profile of an MPS share"),
        pytest.param({"mode": "exclusive", "compute": "50"}, ["leave it out"], id="half the compute of a whole GPU"),
        pytest.param({"mode": "exclusive", "link": "yes"}, ["link: want one of any, prefer"], id="an unknown link"),
        pytest.param({"memory": "1Gi", "link": "any"}, ["only whole GPUs are joined"], id="a link between slices"),
        pytest.param(
            {"mode": "x", "profile": "?", "memory": "?", "compute": "?"},
            ["mode: want", "profile: want", "memory: want", "compute: want", "want one way"],
            id="all faults at once",
        ),
    ],
)
def test_faults_name_the_annotation_and_the_rule(ask: dict[str, str], faults: list[str]) -> None:
    with pytest.raises(DemandError) as raised:
        demand(ask=ask)
    for fault in faults:
        assert fault in str(raised.value)
    assert "pod team/pod-u1" in str(raised.value)


def static(**counts: str) -> dict[str, Any]:
    return {"name": "main", "resources": {"limits": {f"nvidia.com/{k}": v for k, v in counts.items()}}}


def test_static_mig_is_counted_by_profile() -> None:
    both = [static(**{"mig-1g.5gb.me": "1", "mig-3g.20gb": "2"}), static(**{"mig-3g.20gb": "1", "gpu": "1"})]
    found = demand(containers=both, ask={})
    assert found.static == (("1g.5gb+me", 1), ("3g.20gb", 3))
    assert (found.shape, found.count) == (None, 0)


def test_a_static_profile_of_an_unknown_name_keeps_it() -> None:
    assert demand(containers=[static(**{"mig-custom": "1"})]).static == (("custom", 1),)


def test_static_and_own_slices_have_different_owners() -> None:
    with pytest.raises(DemandError, match="want one of them"):
        demand(containers=[container(), static(**{"mig-1g.5gb": "1"})])


@pytest.mark.parametrize("quantity", ["-1", "1.5", "many", "5000", None])
def test_quantities_of_slices_are_whole_numbers(quantity: object) -> None:
    with pytest.raises(DemandError, match=r"containers\[0\] \(main\) resource slicewise.dev/gpu-slice: want a whole"):
        Demand.of(pod(containers=[{"name": "main", "resources": {"limits": {"slicewise.dev/gpu-slice": quantity}}}]))


@pytest.mark.parametrize(
    "given",
    [
        pytest.param({}, id="an empty object"),
        pytest.param({"spec": None, "metadata": None}, id="nulls"),
        pytest.param({"spec": {"containers": None}}, id="no list of containers"),
        pytest.param({"spec": {"containers": ["main", None]}}, id="containers that are none"),
        pytest.param(pod(containers=[container(count=0)]), id="zero slices"),
        pytest.param(pod(containers=[static(gpu="1")]), id="another resource"),
    ],
)
def test_pods_that_ask_for_nothing_of_ours(given: dict[str, Any]) -> None:
    assert Demand.of(given) is None


def test_a_pod_without_uid_and_name_is_a_clear_error() -> None:
    nameless = pod()
    nameless["metadata"] |= {"uid": None, "name": ""}
    with pytest.raises(DemandError, match=r"metadata.uid is missing.*metadata.name is missing"):
        Demand.of(nameless)


def test_requests_stand_in_for_limits() -> None:
    wanted = demand(containers=[{"resources": {"requests": {"slicewise.dev/gpu-slice": "2"}}}])
    assert wanted.containers == (ContainerDemand("containers[0]", 2),)


def test_tenant_priority_and_key() -> None:
    plain, named = demand(), demand(ask={"profile": "1g.10gb", "tenant": "blue"}, priority=7)
    assert (plain.tenant, plain.priority, plain.key) == ("team", 0, "team/pod-u1")
    assert (named.tenant, named.priority) == ("blue", 7)


def test_the_default_namespace() -> None:
    bare = pod()
    del bare["metadata"]["namespace"]
    found = Demand.of(bare)
    assert found is not None
    assert (found.tenant, found.key) == ("default", "default/pod-u1")


def always(name: str, count: int) -> dict[str, Any]:
    return container(name, count, restartPolicy="Always")


@pytest.mark.parametrize(
    ("init", "containers", "want"),
    [
        pytest.param([], [container("a", 1), container("b", 2)], 3, id="containers run together"),
        pytest.param([container("i", 2)], [container("a", 1)], 2, id="a greedier init container decides"),
        pytest.param([container("i", 1), container("j", 1)], [container("a", 1)], 1, id="init containers run in turn"),
        pytest.param([always("s", 1)], [container("a", 1)], 2, id="a sidecar stays beside the containers"),
        pytest.param(
            [always("s", 1), container("i", 2)], [container("a", 1)], 3, id="and beside later init containers"
        ),
        pytest.param([container("i", 2), always("s", 1)], [container("a", 1)], 2, id="but not beside earlier ones"),
        pytest.param([always("s", 3)], [container("a", 0)], 3, id="a sidecar alone"),
    ],
)
def test_the_busiest_moment_decides(init: list[Any], containers: list[Any], want: int) -> None:
    assert demand(init=init, containers=containers).count == want


@given(
    st.lists(st.tuples(st.integers(0, 5), st.sampled_from(["init", "sidecar", "main"])), max_size=8).map(
        lambda cs: sorted(cs, key=lambda c: c[1] == "main")
    )
)
def test_the_busiest_moment_is_the_maximum_over_all_moments(cs: list[tuple[int, str]]) -> None:
    containers = [ContainerDemand(str(i), n, init=k == "init", sidecar=k == "sidecar") for i, (n, k) in enumerate(cs)]
    moments = [sum(c.count for c in containers if not c.init)]
    for i, c in enumerate(containers):
        if c.init:
            moments.append(c.count + sum(s.count for s in containers[:i] if s.sidecar))
    assert busiest(containers) == max(moments)


def test_several_shares_of_one_container_are_kept_apart() -> None:
    assert demand(containers=[container(count=2)]).apart
    assert not demand(containers=[container("a"), container("b")]).apart


@pytest.mark.parametrize(
    ("ask", "want"),
    [
        ({"profile": "1g.10gb"}, "1g.10gb"),
        ({"memory": "20Gi", "compute": "30"}, "20480 MiB 30 % compute"),
        ({"mode": "exclusive", "gpu-model": "t4"}, "whole GPU on t4"),
    ],
)
def test_a_shape_reads_well(ask: dict[str, str], want: str) -> None:
    assert str(demand(ask=ask).shape) == want
