"""Who decided what: lines for the view out of the servers' logs and of what changes in the API."""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from slicewise.demo.kube_store import Change, Store
from slicewise.demo.promises import Part, parts
from slicewise.demo.scene import Line
from slicewise.demo.tags import Tags

#: A step as the scaler's log has it.
VOTES: Final = "any up, all down: "
STEP: Final = re.compile(r"(?P<rule>[^:]+): \S+ -> \S+ \((?P<why>.*)\)")


@dataclass(slots=True)
class Told:
    """`now_s`: cluster time, for the lines."""

    store: Store
    tell: Callable[[Line], None]
    tags: Tags
    now_s: Callable[[], float]
    decisions: int = 0
    server_errors: list[str] = field(default_factory=list)
    _answered: int | None = None
    _version: int = 0

    def scaler(self, event: Mapping[str, Any]) -> None:
        """A line for each decision that is not the one before."""
        self._complain("scaler", event)
        if event.get("event") != "scaler.decided":
            return
        self.decisions += 1
        replicas = event["replicas"]
        if replicas == self._answered:
            return
        self._answered = replicas
        wish = "does not know" if replicas is None else f"wants {replicas}"
        self.tell(Line(self.now_s(), "scaler", f"{wish}, {event['current']} run", why(event["steps"]), "cyan"))

    def extender(self, event: Mapping[str, Any]) -> None:
        self._complain("extender", event)

    def changes(self) -> None:
        """Bindings and freed slices, from the API's own history."""
        for change in self.store.changes_after(self._version):
            self._version = change.version
            for line in self._of(change):
                self.tell(line)

    def _of(self, change: Change) -> list[Line]:
        before, after = change.before, change.after
        if (after or before or {}).get("kind") != "Pod":
            return []
        held, holds = (parts([pod]) if pod is not None else [] for pod in (before, after))
        if holds and not held:
            return [Line(self.now_s(), "extender", self._placed(part), part.pod, "magenta") for part in holds]
        if held and not holds:
            freed = ", ".join(where(part) for part in held)
            return [Line(self.now_s(), "kubelet", f"{self.tags.of(held[0].pod)} is gone", f"{freed} is free", "blue")]
        return []

    def _placed(self, part: Part) -> str:
        return f"{self.tags.of(part.pod)} -> {where(part)}"

    def _complain(self, who: str, event: Mapping[str, Any]) -> None:
        if event.get("level") in {"warning", "error", "critical"}:
            rest = {k: v for k, v in event.items() if k not in {"event", "level", "timestamp", "exception"}}
            told = f"{event.get('event')} {' '.join(f'{k}={v}' for k, v in rest.items())}"
            self.server_errors.append(f"{who}: {told}")
            self.tell(Line(self.now_s(), who, str(event.get("event")), told, "red"))


def where(part: Part) -> str:
    """A part of a GPU in words: `gpu-a GPU 2, 2g.20gb at 4`."""
    gpu = f"{part.node} GPU {part.uuid.rsplit('-', 1)[-1]}"
    if part.mode == "mig":
        return f"{gpu}, {part.profile} at {part.start}"
    if part.mode == "mps":
        return f"{gpu}, MPS {part.compute_pct:g}% and {part.memory_mib / 1024:.0f} GiB"
    return f"{gpu}, all of it"


def why(steps: Sequence[str]) -> str:
    """The reasons of a decision's steps, the last step first: a line may be cut on the right.

    >>> why(["queue: 4 -> 2 (9 requests)", "composite: 4 -> 7 (any up, all down: queue 2, sessions 7)"])
    'queue 2, sessions 7 · queue: 9 requests'
    """
    return " · ".join(_reason(step) for step in reversed(steps))


def _reason(step: str) -> str:
    found = STEP.fullmatch(step)
    if found is None:
        return step
    rule, reason = found["rule"], found["why"]
    return reason.removeprefix(VOTES) if rule == "composite" else f"{rule}: {reason}"
