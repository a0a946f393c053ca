"""Health of what agents depend on: where a vector database or a model endpoint is slow, more agents help nobody.

They would only wait with the others, and press harder on what is down. Health is told, never inferred from the agents'
own latency: that would take the effect for the cause.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

from scaler.signals.reading import Missing, Reading, Sample


class State(StrEnum):
    WELL = "well"
    SLOW = "slow"
    FAILING = "failing"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True, kw_only=True)
class Bounds:
    """Up to which a dependency is well. `latency_s`: of its P95. `error_share`: of its calls, 0..1."""

    latency_s: float
    error_share: float


@dataclass(frozen=True, slots=True)
class Health:
    name: str
    state: State
    why: str

    @property
    def holds_growth(self) -> bool:
        """Whether more agents will not help. Never where health is unknown."""
        return self.state in {State.SLOW, State.FAILING}


def health(name: str, latency_s: Reading, error_share: Reading, bounds: Bounds) -> Health:
    """What is known of a dependency: failing before slow; unknown only where nothing speaks against it and one is.

    Law: worse readings never make it better; what is missing never makes it slow or failing.
    """
    if isinstance(error_share, Sample) and error_share.value > bounds.error_share:
        return Health(name, State.FAILING, f"{error_share.value:.0%} of calls fail, more than {bounds.error_share:.0%}")
    if isinstance(latency_s, Sample) and latency_s.value > bounds.latency_s:
        return Health(name, State.SLOW, f"P95 is {latency_s.value:g} s, more than {bounds.latency_s:g} s")
    lacking = [reading.why for reading in (error_share, latency_s) if isinstance(reading, Missing)]
    if lacking:
        return Health(name, State.UNKNOWN, "; ".join(lacking))
    return Health(name, State.WELL, "within its bounds")


def growth_held(dependencies: Sequence[Health]) -> tuple[str, ...]:
    """Why more agents will not help, one line a dependency; empty where they may. Unknown health is no reason.

    It only ever keeps from growing: what runs is not taken away because something else is slow.
    """
    return tuple(f"{one.name} is {one.state}: {one.why}" for one in dependencies if one.holds_growth)


def capped(want: int, current: int | None, dependencies: Sequence[Health]) -> int:
    """`want`, not above `current` while a dependency holds growth; 0 may always become 1, for somebody has to find out.

    Law: never below min(want, current); `want` where every health is well or unknown, or `current` is not known.
    """
    if current is None or not growth_held(dependencies):
        return want
    return min(want, max(current, 1))
