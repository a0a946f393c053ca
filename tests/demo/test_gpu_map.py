import pytest

from slicewise.demo.gpu_map import label, strip
from slicewise.demo.scene import Block, GpuPicture


def gpu(*blocks: Block) -> GpuPicture:
    return GpuPicture("0", "mig", 8, blocks)


@pytest.mark.parametrize(
    ("blocks", "drawn"),
    [
        pytest.param([], "·" * 16, id="empty: dots"),
        pytest.param([Block(2, 2, "c1", "2g", "")], "····[c1]········", id="a slice at its place"),
        pytest.param([Block(0, 1, "e1", "1g", ""), Block(1, 1, "e2", "1g", "")], "e1e2············", id="neighbours"),
        pytest.param([Block(4, 4, "c7", "3g", ""), Block(0, 4, "c6", "4g", "")], "[  c6  ][  c7  ]", id="any order"),
        pytest.param([Block(0, 8, "t1", "whole", "")], "[      t1      ]", id="the whole GPU"),
        pytest.param(
            [Block(0, 0.1, "n1", "1%", ""), Block(0.1, 0.1, "n2", "1%", "")], "nn" + "·" * 14, id="tiny shares"
        ),
    ],
)
def test_strip(blocks: list[Block], drawn: str) -> None:
    assert strip(gpu(*blocks), 2).plain == drawn


def test_a_second_row_says_what_part_each_pod_has() -> None:
    assert strip(gpu(Block(0, 2, "c1", "2g", "")), 3, parts=True).plain == "[ 2g ]" + "·" * 18


@pytest.mark.parametrize("width", range(1, 12))
def test_a_label_is_as_wide_as_its_block(width: int) -> None:
    assert len(label("c12", width)) == width
