"""Strain of what agents depend on: where a vector database or a model endpoint is slow, more agents help nobody.

They would only wait with the others, and press harder on what is down. Strain is told, never inferred from the agents'
own latency: that would take the effect for the cause.
"""

from collections.abc import Mapping

from scaler.signals.reading import Missing, Reading, Sample

PREFIX = "dependency."


def name_of(dependency: str) -> str:
    """The reading's name of a dependency."""
    return f"{PREFIX}{dependency}"


def strain(parts: Mapping[str, tuple[Reading, float]]) -> Reading:
    """How far a dependency is beyond its bounds: the highest of value / bound; above 1 it is slow or failing.

    `parts`: by what is measured (a latency, a share of errors), the reading and its bound, above 0. Missing where
    nothing speaks against it and something is not known.
    Law: worse readings never make it less; what is missing never puts it above 1.
    """
    known = [
        Sample(reading.value / bound, reading.at_s) for reading, bound in parts.values() if isinstance(reading, Sample)
    ]
    highest = max(known, key=lambda sample: sample.value, default=None)
    lacking = [f"{what}: {r.why}" for what, (r, _) in parts.items() if isinstance(r, Missing)]
    if highest is not None and (highest.value > 1 or not lacking):
        return highest
    return Missing("; ".join(lacking) or "nothing is measured of it")


def growth_held(strains: Mapping[str, Reading]) -> tuple[str, ...]:
    """Why more agents will not help, one line a dependency; empty where they may. Unknown strain is no reason."""
    return tuple(
        f"{name} is at {reading.value:.3g} times its bound"
        for name, reading in strains.items()
        if isinstance(reading, Sample) and reading.value > 1
    )


def capped(want: int, current: int) -> int:
    """`want` under strain: not above what runs; from 0, 1 is still allowed, for somebody has to find out.

    It only ever keeps from growing: what runs is not taken away because something else is slow.
    """
    return min(want, max(current, 1))
