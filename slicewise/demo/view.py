"""The live picture. It fits 80 x 24 and uses what a larger terminal has: taller charts, more reasons."""

from collections.abc import Sequence

from rich.console import Group, RenderableType
from rich.layout import Layout
from rich.panel import Panel
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from slicewise.demo.chart import bars, round_top
from slicewise.demo.gpu_map import strip
from slicewise.demo.scene import Curve, GpuPicture, Line, Scene, clock

WIDE = 116  #: columns from which charts and GPUs stand side by side
FRAME = "grey42"


def picture(scene: Scene, width: int, height: int) -> RenderableType:
    """The whole screen for a terminal of this size."""
    layout = Layout()
    top, middle, bottom = Layout(_header(scene, width), size=2), Layout(name="middle"), Layout(name="bottom")
    if width >= WIDE:
        gpu_width = width // 2
        rows = max(1, min(5, (height - 18) // len(scene.curves)))
        gpus = _gpus(scene, gpu_width - 4, roomy=True)
        middle.size = max(rows * len(scene.curves), gpus.row_count) + 2
        charts = Layout(_framed(_charts(scene, width - gpu_width - 4, rows), "agents and engines"))
        middle.split_row(charts, Layout(_framed(gpus, _gpu_title(scene)), size=gpu_width))
    else:
        gpus = _gpus(scene, width - 4, roomy=False)
        rows = max(1, min(4, (height - 16) // len(scene.curves) - 1))
        charts_size, gpus_size = rows * len(scene.curves) + 2, gpus.row_count + 2
        middle.size = charts_size + gpus_size
        middle.split_column(
            Layout(_framed(_charts(scene, width - 4, rows), "agents and engines"), size=charts_size),
            Layout(_framed(gpus, _gpu_title(scene)), size=gpus_size),
        )
    room = max(1, height - 2 - middle.size - 2)
    bottom.update(_framed(_lines(scene, width - 4, room), "who decided what, and why"))
    layout.split_column(top, middle, bottom)
    return layout


def _framed(inside: RenderableType, title: str) -> Panel:
    return Panel(inside, title=f"[bold]{title}[/]", title_align="left", border_style=FRAME, padding=(0, 1))


def _header(scene: Scene, width: int) -> RenderableType:
    first = Table.grid(expand=True)
    first.add_column(no_wrap=True, overflow="ellipsis")
    first.add_column(justify="right", no_wrap=True)
    end = f" of {clock(scene.length_s)}" if scene.length_s is not None else ""
    name = Text.assemble((" slicewise demo ", "bold black on bright_cyan"), " ", (scene.phase, "bold"))
    mapping = scene.mapping if width >= WIDE else f"1 s = {scene.speed:g} s"
    first.add_row(name, Text.assemble((f" {mapping}", "dim"), f"   {clock(scene.clock_s)}{end} "))
    second = Table.grid(expand=True)
    second.add_column(no_wrap=True, overflow="ellipsis", ratio=1)
    second.add_column(width=max(16, width // 3))
    done = scene.clock_s if scene.length_s is None else min(scene.clock_s, scene.length_s)
    progress = ProgressBar(total=scene.length_s, completed=done, pulse=scene.length_s is None, animation_time=done / 30)
    second.add_row(Text(f" {scene.endpoints} ", style="dim", overflow="ellipsis"), progress)
    return Group(first, second)


def _charts(scene: Scene, width: int, rows: int) -> RenderableType:
    """A row each: title, value, sparkline. Several rows: the value under the title, to leave room."""
    grid = Table.grid(padding=(0, 1))
    first = 10 if rows == 1 else 17
    grid.add_column(no_wrap=True, width=first)
    if rows == 1:
        grid.add_column(no_wrap=True, justify="right", width=17)
    grid.add_column(no_wrap=True)
    chart_width = max(10, width - first - 1 - (18 if rows == 1 else 0))
    for curve in scene.curves:
        title, value = Text(curve.title, style="bold"), Text(curve.now, style=curve.style)
        words = (title, value) if rows == 1 else (Text("\n").join((title, value)),)
        grid.add_row(*words, _chart(curve, chart_width, rows))
    return grid


def _chart(curve: Curve, width: int, rows: int) -> Text:
    top = round_top([*curve.values, curve.limit], 1.0)
    drawn = bars(curve.values, samples=curve.columns, width=width, height=rows, top=top)
    text = Text("\n".join(drawn), style=curve.style, no_wrap=True)
    if curve.limit is not None and rows > 1:
        row = rows - 1 - min(rows - 1, int(curve.limit / top * rows))
        start = row * (width + 1)
        text.stylize("underline", start, start + width)
    return text


def _gpu_title(scene: Scene) -> str:
    return f"GPU slices by pod   [not bold dim]{scene.legend}[/]"


def _gpus(scene: Scene, width: int, *, roomy: bool) -> Table:
    """Compact: a node a line. Roomy: a line that names the node, then its GPUs, two a line and two rows high."""
    most = max(len(node.gpus) for node in scene.nodes)
    units = max(gpu.units for node in scene.nodes for gpu in node.gpus)
    if not roomy:
        grid = Table.grid(padding=(0, 1))
        cell = max(1, (width - 6 - most) // (most * units))
        for node in scene.nodes:
            grid.add_row(Text(node.name, style="bold"), *(strip(gpu, cell) for gpu in node.gpus))
        return grid
    grid = Table.grid()
    cell = max(1, (width // 2 - 5) // units)
    for node in scene.nodes:
        grid.add_row(Text.assemble((node.name, "bold"), (f"  {node.note}", "dim")))
        for first in range(0, len(node.gpus), 2):
            pair = node.gpus[first : first + 2]
            grid.add_row(_pair(pair, cell, parts=False))
            grid.add_row(_pair(pair, cell, parts=True))
            grid.add_row("")
    return grid


def _pair(gpus: Sequence[GpuPicture], cell: int, *, parts: bool) -> Text:
    strips = (strip(gpu, cell, parts=parts) for gpu in gpus)
    names = (f"{'' if parts else gpu.name:>2} " for gpu in gpus)
    return Text("  ").join(Text.assemble((name, "dim"), drawn) for name, drawn in zip(names, strips, strict=True))


def _lines(scene: Scene, width: int, room: int) -> RenderableType:
    """The newest at the bottom; a reason that does not fit beside its decision is cut, never the decision."""
    shown = [_told(line, width) for line in scene.lines[-room:]]
    return Group(*shown) if shown else Text("nothing yet", style="dim")


def _told(line: Line, width: int) -> Text:
    text = Text.assemble(
        (f"{clock(line.at_s):>5} ", "dim"), (f"{line.who:<8} ", line.style), (line.what, "bold"), no_wrap=True
    )
    if line.why:
        text.append(f"  {line.why}", style="dim")
    text.truncate(width, overflow="ellipsis")
    return text
