"""What is left when the picture is gone: the numbers of the run, and whether the promises were kept."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from rich.console import RenderableType
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from slicewise.demo.promises import PROMISES, Breach
from slicewise.demo.scene import clock


@dataclass(frozen=True, slots=True)
class Summary:
    """`facts`: name and value in words, in the order of showing. `states`: states of the API that were checked."""

    cluster_s: float
    wall_s: float
    facts: Sequence[tuple[str, str]]
    breaches: Sequence[Breach]
    states: int
    server_faults: Sequence[str]

    @property
    def kept(self) -> bool:
        return not self.breaches and not self.server_faults

    def verdicts(self) -> Mapping[str, list[str]]:
        """Each promise, with what broke it."""
        return {promise: [b.what for b in self.breaches if b.promise == promise] for promise in PROMISES}


def rendered(summary: Summary) -> RenderableType:
    grid = Table.grid(padding=(0, 2))
    grid.add_column(style="bold", no_wrap=True)
    grid.add_column()
    for name, value in summary.facts:
        grid.add_row(name, value)
    grid.add_row("")
    for promise, broken in summary.verdicts().items():
        mark = Text("✗ broken", "bold red") if broken else Text("✓ kept", "bold green")
        grid.add_row(mark, promise, style="" if broken else None)
        for what in broken[:5]:
            grid.add_row("", Text(what, "red"))
    grid.add_row("", Text(f"checked from pods and nodes alone, in {summary.states:,} states of the API", "dim"))
    for fault in summary.server_faults:
        grid.add_row(Text("✗ server", "bold red"), Text(fault, "red"))
    title = f"[bold]{clock(summary.cluster_s)} of cluster time in {summary.wall_s:.0f} s[/]"
    return Panel(grid, title=title, title_align="left", border_style="green" if summary.kept else "red", padding=(0, 1))
