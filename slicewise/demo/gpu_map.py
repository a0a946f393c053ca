"""A GPU as a strip: its slices at their places on the grid, coloured and tagged by the pod that holds them."""

from rich.text import Text

from slicewise.demo.scene import GpuPicture

FREE = "·"


def strip(gpu: GpuPicture, cell: int, *, parts: bool = False) -> Text:
    """`cell` characters a grid unit, with the pods' tags or, for a second row, with what `parts` of the GPU they hold.

    Free units are dotted; two blocks never share a character cell.
    """
    width = gpu.units * cell
    text = Text()
    for block in sorted(gpu.blocks, key=lambda b: b.start):
        start = max(round(block.start * cell), len(text))
        end = min(max(round((block.start + block.size) * cell), start + 1), width)
        text.append(FREE * (start - len(text)), style="dim")
        text.append(
            label(block.part if parts else block.tag, end - start),
            style=f"{block.style} dim" if block.starting else block.style,
        )
    text.append(FREE * (width - len(text)), style="dim")
    return text


def label(tag: str, width: int) -> str:
    """The tag in as many characters as there are; brackets show where a block ends when there is no colour.

    >>> [label("c12", width) for width in (2, 3, 5, 8)]
    ['c1', 'c12', '[c12]', '[ c12  ]']
    """
    if width < len(tag) + 2:
        return tag[:width].center(width)
    inner = width - 2
    left = (inner - len(tag)) // 2
    return f"[{' ' * left}{tag}{' ' * (inner - len(tag) - left)}]"
