"""What an agent tells of links is read back as written, or refused for that GPU's links alone."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from extender.placement.links import MAX_GPUS, NO_LINKS, End, Links, LinksError, Tier, read, strength
from extender.placement.model import Inventory
from tests.extender.objects import gpu, inventory

LINKS = st.builds(
    lambda nvlink, nvswitch, pcie: Links(tuple(sorted(nvlink.items())), nvswitch, pcie),
    st.dictionaries(st.integers(0, 15).filter(lambda i: i != 3), st.integers(1, 255), max_size=MAX_GPUS - 1),
    st.integers(0, 255),
    st.none() | st.integers(0, 15),
)


@given(LINKS)
def test_what_is_written_is_read(links: Links) -> None:
    assert read(links.wire(), 3) == links


@pytest.mark.parametrize(
    ("found", "rule"),
    [
        pytest.param([], "links: Expected `object`", id="a list"),
        pytest.param(None, "links: Expected `object`", id="null"),
        pytest.param({"nvswitch": "12"}, "Expected `int`", id="a text for a number"),
        pytest.param({"nvswitch": -1}, "links.nvswitch: want 0 to 255 links, got -1", id="fewer than none"),
        pytest.param({"nvswitch": 1 << 70}, "links", id="a number that no GPU has"),
        pytest.param({"pcie": -2}, "links.pcie: want >= 0, got -2", id="a negative switch"),
        pytest.param({"nvlink": {"3": 4}}, "want indexes of other GPUs, got '3'", id="a link to itself"),
        pytest.param({"nvlink": {"GPU-1": 4}}, "want indexes of other GPUs, got 'GPU-1'", id="no index"),
        pytest.param({"nvlink": {"\u0661": 4}}, "want indexes of other GPUs", id="digits of another script"),
        pytest.param({"nvlink": {"9" * 5000: 4}}, "want indexes of other GPUs", id="an endless index"),
        pytest.param(
            {"nvlink": {"1": 0}}, r"links.nvlink\[1\]: want each GPU once, with 1 to 255", id="no link at all"
        ),
        pytest.param({"nvlink": {"1": 4, "01": 4}}, "want each GPU once", id="one GPU under two names"),
        pytest.param(
            {"nvlink": {str(i): 1 for i in range(16)}}, "fewer than 16 other GPUs, got 16", id="too many peers"
        ),
    ],
)
def test_links_that_cannot_be_cost_a_gpu_its_links_and_nothing_else(found: object, rule: str) -> None:
    with pytest.raises(LinksError, match=rule):
        read(found, 3)
    read_back, problems = Inventory.parse(inventory(gpu("GPU-3", index=3, mode="exclusive", links=found)))
    assert [(g.uuid, g.links, g.usable) for g in read_back.gpus] == [("GPU-3", NO_LINKS, True)]
    (problem,) = problems
    assert problem.gpu == "GPU-3"
    assert problem.why.endswith("used as if nothing were known of its links")


@pytest.mark.parametrize(
    "others", [pytest.param(15, id="16 GPUs: kept"), pytest.param(16, id="17 GPUs: not looked at")]
)
def test_links_of_large_nodes(others: int) -> None:
    gpus = [gpu(f"GPU-{i}", index=i, links={"nvswitch": 6}) for i in range(others + 1)]
    found, problems = Inventory.parse(inventory(*gpus))
    assert {g.links.nvswitch for g in found.gpus} == ({6} if others < MAX_GPUS else {0})
    assert len(problems) == (0 if others < MAX_GPUS else 17)


BRIDGE = Links(nvlink=((1, 4),))


@pytest.mark.parametrize(
    ("a", "b", "want"),
    [
        pytest.param(End(0, None, NO_LINKS), End(1, None, NO_LINKS), Tier.FAR, id="nothing known"),
        pytest.param(End(0, 0, NO_LINKS), End(1, 1, NO_LINKS), Tier.FAR, id="two NUMA nodes"),
        pytest.param(End(0, 0, NO_LINKS), End(1, 0, NO_LINKS), Tier.NUMA, id="one NUMA node"),
        pytest.param(End(0, 0, Links(pcie=0)), End(1, 0, Links(pcie=1)), Tier.NUMA, id="two PCIe switches"),
        pytest.param(End(0, 0, Links(pcie=0)), End(1, 0, Links(pcie=0)), Tier.PCIE, id="one PCIe switch"),
        pytest.param(End(0, 0, BRIDGE), End(1, 0, Links(nvlink=((0, 4),))), Tier.PCIE + 4, id="a bridge of four links"),
        pytest.param(
            End(0, 0, BRIDGE), End(1, 0, Links(nvlink=((0, 2),))), Tier.PCIE + 2, id="as many as both tell of"
        ),
        pytest.param(End(0, 0, BRIDGE), End(1, 0, NO_LINKS), Tier.NUMA, id="only one side tells: none"),
        pytest.param(End(0, 0, Links(nvswitch=18)), End(1, 1, Links(nvswitch=18)), Tier.PCIE + 18, id="an NVSwitch"),
        pytest.param(End(0, 0, Links(nvswitch=18)), End(1, 0, NO_LINKS), Tier.NUMA, id="only one at the NVSwitch"),
    ],
)
def test_strength_of_a_join(a: End, b: End, want: int) -> None:
    assert strength(a, b) == strength(b, a) == want
