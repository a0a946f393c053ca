"""Short names and colours of pods, as on the GPU map and in the lines below it."""

from typing import Final

from slicewise.demo.cluster import WORKLOAD

COLOURS: Final = (
    *("#7fd1ff", "#ffd17f", "#9fe89f", "#ffa8a8", "#d0b0ff", "#7fe8d8"),
    *("#ffc0e8", "#c8e070", "#a8c0ff", "#ffb870", "#b0f0c0", "#e8d8a0"),
)
GUEST_STYLE: Final = "white on grey35"


class Tags:
    """`c7` is the seventh pod of the workload that was placed; a guest is told by two letters of its name."""

    def __init__(self) -> None:
        self._known: dict[str, str] = {}

    def of(self, pod: str) -> str:
        if not pod.startswith(f"{WORKLOAD}-"):
            kind, which, *_ = pod.split("-")
            return f"{kind[0]}{which}"
        return self._known.setdefault(pod, f"{WORKLOAD[0]}{len(self._known) + 1}")

    def said(self, pod: str) -> str:
        """In a line: the workload's pods by their tags, guests by their names."""
        return self.of(pod) if pod.startswith(f"{WORKLOAD}-") else pod


def style(tag: str) -> str:
    if tag.startswith(WORKLOAD[0]):
        return f"black on {COLOURS[int(tag[1:]) % len(COLOURS)]}"
    return GUEST_STYLE
