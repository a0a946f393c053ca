"""What the terminal shows, as values: the run writes it, the views read it, neither knows the other."""

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Curve:
    """One quantity over time.

    `values`: one a sampling interval, oldest first; None where the quantity was not known. `columns`: how many samples
    the whole axis holds. `now`: the newest value in words, with its unit. `limit`: a target to draw against, same unit.
    """

    title: str
    values: Sequence[float | None]
    columns: int
    now: str
    style: str
    limit: float | None = None


@dataclass(frozen=True, slots=True)
class Block:
    """What one pod holds of a GPU: `start`, `size` in grid units; `tag`: its short name; `part`: such as 2g, 25%."""

    start: float
    size: float
    tag: str
    part: str
    style: str
    starting: bool = False


@dataclass(frozen=True, slots=True)
class GpuPicture:
    """`units`: width of its grid, 8 for an A100's memory slices; an MPS share is a fraction of the same width."""

    name: str
    kind: str
    units: int
    blocks: Sequence[Block]


@dataclass(frozen=True, slots=True)
class NodePicture:
    name: str
    note: str
    gpus: Sequence[GpuPicture]


@dataclass(frozen=True, slots=True)
class Line:
    """Something that was decided: when in cluster time, by whom, what, and in a second breath why."""

    at_s: float
    who: str
    what: str
    why: str
    style: str = ""


@dataclass(frozen=True, slots=True)
class Scene:
    """`clock_s`: cluster time since the start; `length_s`: of the run, None: no end; `speed`: cluster s per s."""

    clock_s: float
    length_s: float | None
    speed: float
    phase: str
    endpoints: str
    mapping: str
    curves: Sequence[Curve]
    nodes: Sequence[NodePicture]
    legend: str
    lines: Sequence[Line]


def clock(seconds: float) -> str:
    """Minutes and seconds, as on a stop watch: 75 -> '1:15', 3675 -> '61:15'."""
    minutes, rest = divmod(int(seconds), 60)
    return f"{minutes}:{rest:02d}"
