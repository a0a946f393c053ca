"""Production settings on recorded rates: first how far model and reality are apart, only then what would have been."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from sim.measures import MEASURES
from sim.report.model import Report
from sim.workloads.prometheus import STALE_S, rates_of
from sim.workloads.trace import TraceError

SCHEMA: Final = "slicewise.dev/sim-backtest/1"
FAR: Final = 0.25  # a mean error above this part of the recorded mean: what would have been is not worth much
Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Fit:
    """A time line of the model against the recorded one, over the instants that both know."""

    instants: int
    recorded_mean: float
    model_mean: float
    mean_error: float  #: model - recorded
    mean_absolute_error: float
    correlation: float | None  #: None where one of them does not change

    @property
    def is_far(self) -> bool:
        return self.mean_absolute_error > FAR * max(abs(self.recorded_mean), 1e-9)


@dataclass(frozen=True, slots=True)
class Backtest:
    """`fits`: by what was recorded; `measures`: of the settings as they are, and as changed."""

    scenario: str
    fits: Mapping[str, Fit]
    as_it_is: Mapping[str, float | None]
    changed: Mapping[str, float | None] | None
    change: str

    def to_json(self) -> str:
        document = {"schema": SCHEMA} | asdict(self)
        document["far"] = [name for name, fit in self.fits.items() if fit.is_far]
        return json.dumps(document, indent=1) + "\n"


def recorded(path: Path, begin_s: float) -> tuple[Floats, Floats]:
    """Instants since `begin_s` (Unix seconds) and the sum of the series. Raises `TraceError`."""
    at_s, values = rates_of(path, None, counter=False)
    return at_s - begin_s, values


def begin_of(path: Path, metric: str | None) -> float:
    """Unix seconds of the first sample of recorded rates. Raises `TraceError`."""
    return float(rates_of(path, metric, counter=False)[0][0])


def fit(found: tuple[Floats, Floats], at_s: Sequence[float], model: Sequence[float | None], path: Path) -> Fit:
    """Raises `TraceError` where they have no instant in common."""
    times_s, values = found
    newest = np.searchsorted(times_s, at_s, side="right") - 1
    fresh = (newest >= 0) & (np.array(at_s) - times_s[np.maximum(newest, 0)] <= STALE_S)
    both = [(values[i], m) for i, ok, m in zip(newest, fresh, model, strict=True) if ok and m is not None]
    if not both:
        raise TraceError(f"{path}: has no sample within the time that is simulated; see --begin")
    real, made = np.array(both, np.float64).T
    moves = real.std() > 0 and made.std() > 0
    return Fit(
        instants=len(real),
        recorded_mean=_digits(real.mean()),
        model_mean=_digits(made.mean()),
        mean_error=_digits((made - real).mean()),
        mean_absolute_error=_digits(np.abs(made - real).mean()),
        correlation=_digits(np.corrcoef(real, made)[0, 1]) if moves else None,
    )


def backtest(
    report: Report, other: Report | None, change: str, *, replicas: Path | None, p95: Path | None, begin_s: float
) -> Backtest:
    """`replicas`, `p95`: recorded ranges of the replicas and of the P95 from end to end, s. Raises `TraceError`."""
    line, fits = report.time_line, dict[str, Fit]()
    wanted: Sequence[float | None] = [float(n) for n in line.wanted]
    for name, path, model in (("replicas", replicas, wanted), ("p95_end_to_end_s", p95, line.p95_end_to_end_s)):
        if path is not None:
            fits[name] = fit(recorded(path, begin_s), line.at_s, model, path)
    return Backtest(report.scenario, fits, _measures(report), None if other is None else _measures(other), change)


def _measures(report: Report) -> Mapping[str, float | None]:
    return {name: measure.of(report) for name, measure in MEASURES.items()}


def _digits(value: float) -> float:
    return round(float(value), 6)


def as_text(found: Backtest) -> str:
    lines = [f"{found.scenario}: the model against what was recorded", ""]
    if not found.fits:
        lines.append("nothing to hold it against: give --replicas, --p95 or both, or do not believe the rest")
    for name, f in found.fits.items():
        r = "" if f.correlation is None else f", correlation {f.correlation:.2f}"
        lines.append(
            f"{name:<18} recorded {f.recorded_mean:.3g}, model {f.model_mean:.3g} on average; mean error "
            f"{f.mean_error:+.3g}, absolute {f.mean_absolute_error:.3g}{r} ({f.instants} instants)"
        )
        if f.is_far:
            lines.append(f"  that is far apart: calibrate before you believe what follows (over {FAR:.0%} of the mean)")
    lines += ["", f"{'':<30}{'as it is':>14}" + (f"{'changed':>14}" if found.changed is not None else "")]
    for name, value in found.as_it_is.items():
        other = "" if found.changed is None else f"{_shown(found.changed[name]):>14}"
        lines.append(f"{MEASURES[name].about:<30}{_shown(value):>14}{other}")
    if found.changed is not None:
        lines += ["", f"changed: {found.change}; what would have been, if the model holds"]
    return "\n".join(lines)


def _shown(value: float | None) -> str:
    return "?" if value is None else f"{value:.5g}"
