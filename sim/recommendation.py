"""From a scenario to the ScaledObject that keeps its SLO for the fewest GPU hours, as YAML that can be applied."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import yaml

from scaler.trigger import TARGETS
from sim.changes import METADATA, Changes
from sim.scenario import document_of
from sim.search import Axis, Sweep, Variant

FACTORS: Final = (0.5, 0.7, 1.0, 1.4, 2.0)
WINDOWS: Final = ("1m", "3m", "5m", "10m")


def axes(path: Path) -> list[Axis]:
    """Around what the scenario's first trigger says: each target it has, and how long lulls are forgiven."""
    metadata = _scaled_object(path, ())["spec"]["triggers"][0]["metadata"]
    found = [
        Axis(METADATA + key, tuple(dict.fromkeys(_scaled(str(metadata[key]), f) for f in FACTORS)))
        for policy, key in TARGETS.items()
        if policy != "ahead" and key in metadata  # how long a start takes is a fact, and nobody's choice
    ]
    return [*found, Axis(METADATA + "stabilizationDown", WINDOWS)]


def _scaled(text: str, factor: float) -> str:
    """`16` and `30s` alike, to two digits."""
    digits = text.rstrip("abcdefghijklmnopqrstuvwxyz")
    value = float(f"{float(digits) * factor:.2g}")
    return f"{value:g}{text[len(digits) :]}" if value < 1e5 else f"{value:.0f}{text[len(digits) :]}"


def _scaled_object(path: Path, changes: Changes) -> Mapping[str, Any]:
    found: Mapping[str, Any] = document_of(path, changes)[0].value["scaledObject"]
    return found


def manifest(path: Path, sweep: Sweep, chosen: Variant, seeds: Sequence[int]) -> str:
    """The ScaledObject with the chosen values, and above it, as comments, what speaks for it."""
    lines = [
        f"# Recommended by `slicewise sim recommend {path.name}`: {chosen.name}",
        f"# {_told(chosen)}, over {len(seeds)} seeds; wanted {100 * sweep.target:g} % in the SLO",
        "# What else nobody beats in both:",
        *(f"#   {_told(v)}: {v.name}" for v in sweep.front if v is not chosen),
    ]
    if len(sweep.front) == 1:
        lines[-1] = "# Nothing else keeps the SLO better, or as well for less."
    text = yaml.safe_dump(dict(_scaled_object(path, chosen.changes)), sort_keys=False, allow_unicode=True)
    return "\n".join([*lines, text])


def _told(variant: Variant) -> str:
    attainment, hours, broken = (variant.means[m] for m in ("attainment", "gpu_hours", "sessions_broken"))
    share = "?" if attainment is None else f"{100 * attainment:.2f} %"
    return f"{share} in the SLO for {hours or 0:.2f} GPU hours, {broken or 0:.3g} sessions broken"
