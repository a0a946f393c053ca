import pytest
from hypothesis import given
from hypothesis import strategies as st

from extender.placement.allocation import (
    Allocation,
    AllocationError,
    ContainerGrants,
    MigSlice,
    MpsShare,
    WholeGpu,
)
from extender.placement.profile import Mode, Placement

UUID = st.text(min_size=1, max_size=12)
GRANTS = (
    st.builds(MigSlice, UUID, st.sampled_from(["1g.10gb", "1g.5gb+me"]), st.integers(0, 12), st.integers(1, 12))
    | st.builds(MpsShare, UUID, st.integers(1, 10**6), st.integers(1, 100), st.integers(0, 9))
    | st.builds(WholeGpu, UUID)
)
ALLOCATIONS = st.builds(
    lambda cs: Allocation(tuple(ContainerGrants(n, tuple(g)) for n, g in cs)),
    st.lists(st.tuples(st.text(max_size=10), st.lists(GRANTS, max_size=4)), max_size=4),
)


@given(ALLOCATIONS)
def test_decoding_undoes_encoding(allocation: Allocation) -> None:
    assert Allocation.decode(allocation.encode()) == allocation
    assert Allocation.decode(allocation.encode()).encode() == allocation.encode()


def test_the_record_as_it_stands_in_the_annotation() -> None:
    allocation = Allocation.of(
        {
            "main": [MigSlice("GPU-a", "1g.10gb", 0, 1)],
            "helper": [MpsShare("GPU-b", 10240, 30), MpsShare("GPU-b", 10240, 30, share=1)],
            "whole": [WholeGpu("GPU-c")],
        }
    )
    assert allocation.encode() == (
        '{"version":1,"containers":['
        '{"name":"main","gpus":[{"uuid":"GPU-a","mode":"mig","profile":"1g.10gb","start":0,"size":1}]},'
        '{"name":"helper","gpus":[{"uuid":"GPU-b","mode":"mps","memory_mib":10240,"compute_pct":30},'
        '{"uuid":"GPU-b","mode":"mps","memory_mib":10240,"compute_pct":30,"share":1}]},'
        '{"name":"whole","gpus":[{"uuid":"GPU-c","mode":"exclusive"}]}]}'
    )
    assert [g.mode for g in allocation.grants()] == [Mode.MIG, Mode.MPS, Mode.MPS, Mode.EXCLUSIVE]


def test_a_grant_used_in_turn_is_held_once() -> None:
    one = MigSlice("GPU-a", "1g.10gb", 3, 1)
    assert Allocation.of({"init": [one], "main": [one]}).grants() == (one,)
    assert one.placement == Placement("1g.10gb", 3, 1)


@pytest.mark.parametrize(
    ("text", "why"),
    [
        pytest.param("", "slicewise.dev/allocation", id="empty"),
        pytest.param("[]", "Expected `object`", id="not an object"),
        pytest.param('{"version":2,"containers":[]}', "version 2 is not known", id="a later version"),
        pytest.param('{"version":1}', "containers", id="no containers"),
        pytest.param(
            '{"version":1,"containers":[{"name":"m","gpus":[{"uuid":"","mode":"mig"}]}]}', "uuid", id="no uuid"
        ),
        pytest.param(
            '{"version":1,"containers":[{"name":"m","gpus":[{"uuid":"G","mode":"half"}]}]}', "half", id="unknown mode"
        ),
        pytest.param(
            '{"version":1,"containers":[{"name":"m","gpus":[{"uuid":"G","mode":"mig","profile":"1g.5gb"}]}]}',
            "m.gpus[0]: mode mig wants profile, start and size",
            id="a MIG slice without a place",
        ),
        pytest.param(
            '{"version":1,"containers":[{"name":"m","gpus":[{"uuid":"G","mode":"mig","profile":"p","start":-1,"size":1}]}]}',
            "start >= 0",
            id="a place before the first",
        ),
        pytest.param(
            '{"version":1,"containers":[{"name":"m","gpus":[{"uuid":"G","mode":"mps","memory_mib":5}]}]}',
            "wants memory_mib and compute_pct",
            id="half a share",
        ),
        pytest.param(
            '{"version":1,"containers":[{"name":"m","gpus":[{"uuid":"G","mode":"mps","memory_mib":5,"compute_pct":0}]}]}',
            "compute_pct from 1 to 100",
            id="a share of nothing",
        ),
    ],
)
def test_what_cannot_be_read_says_why(text: str, why: str) -> None:
    with pytest.raises(AllocationError) as raised:
        Allocation.decode(text)
    assert why in str(raised.value)


@given(st.text(max_size=60) | st.just('{"version":1,"containers":[{"name":1}]}'))
def test_text_that_is_no_record_is_a_clear_error(text: str) -> None:
    with pytest.raises(AllocationError, match=r"slicewise\.dev/allocation"):
        Allocation.decode(text)
