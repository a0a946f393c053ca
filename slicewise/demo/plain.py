"""The same run for a pipe or a CI log: one line a decision, one line of numbers a minute of cluster time."""

from collections.abc import Callable

from slicewise.demo.scene import Line, Scene, clock

STATUS_EVERY_S = 60.0


class PlainView:
    def __init__(self, write: Callable[[str], None]) -> None:
        self._write = write
        self._next_status_s = 0.0
        self._phase = ""

    def tell(self, line: Line) -> None:
        why = f"  ({line.why})" if line.why else ""
        self._write(f"{clock(line.at_s):>6}  {line.who:<9} {line.what}{why}")

    def show(self, scene: Scene) -> None:
        if scene.phase != self._phase:
            self._phase = scene.phase
            self._write(f"{clock(scene.clock_s):>6}  story     {scene.phase}")
        if scene.clock_s >= self._next_status_s:
            self._next_status_s = scene.clock_s + STATUS_EVERY_S
            numbers = "   ".join(f"{curve.title} {curve.now}" for curve in scene.curves)
            self._write(f"{clock(scene.clock_s):>6}  status    {numbers}")
