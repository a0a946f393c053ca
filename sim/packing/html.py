"""Results of the packing lab as one HTML page: means over the seeds, with intervals where there are several."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib import resources
from importlib.metadata import version
from typing import Final

import msgspec
import numpy as np

from sim.interval import of_mean, quantile
from sim.packing.curve import ARRIVED_PCT, Curve
from sim.packing.lab import Result
from sim.packing.model import FloatArray
from sim.packing.report import LEVEL, gap_closed_pct, trace_name
from sim.report.html import assembled

DIGITS: Final = 4


@dataclass(frozen=True, slots=True)
class Spread:
    """Mean over the seeds; its interval at LEVEL, if there are several."""

    mean: float
    low: float | None
    high: float | None


@dataclass(frozen=True, slots=True)
class Band:
    """The same at each of ARRIVED_PCT."""

    mean: list[float]
    low: list[float] | None
    high: list[float] | None


@dataclass(frozen=True, slots=True)
class Told:
    """One scorer on one trace, in percent of the GPUs; gains are points more than the first scorer, seed by seed."""

    at_100: Spread
    at_130: Spread
    gain_100: Spread
    gain_130: Spread
    first_failure: Spread
    gap_closed_pct: float | None
    lost: dict[str, Spread]
    allocated: Band
    gain: Band
    fragmented: Band
    decision_ms_p50: float
    decision_ms_p99: float


@dataclass(frozen=True, slots=True)
class Trace:
    """One trace. `bound_100_pct`: mean over the seeds."""

    name: str
    bound_100_pct: float | None
    scorers: dict[str, Told]


@dataclass(frozen=True, slots=True)
class Page:
    """All that the page shows."""

    version: str
    level: float
    seeds: list[int]
    scorers: list[str]
    arrived_pct: list[int]
    traces: list[Trace]


def to_html(results: Sequence[Result]) -> str:
    """One page that needs no network. The results have curves."""
    page = Page(
        version("slicewise"),
        LEVEL,
        list(dict.fromkeys(r.seed for r in results)),
        list(dict.fromkeys(r.scorer for r in results)),
        ARRIVED_PCT.tolist(),
        [_trace([r for r in results if r.pods == pods]) for pods in dict.fromkeys(r.pods for r in results)],
    )
    parts = resources.files(__package__) / "page"
    body, script = ((parts / name).read_text("utf-8") for name in ("pack.html", "pack.js"))
    return assembled("Packing lab", body, script, msgspec.json.encode(page).decode())


def _trace(results: Sequence[Result]) -> Trace:
    of = {name: [r for r in results if r.scorer == name] for name in dict.fromkeys(r.scorer for r in results)}
    first = next(iter(of.values()))
    bounds = [r.bound_100_pct for r in first if r.bound_100_pct is not None]
    return Trace(
        trace_name(first[0].pods),
        float(np.mean(bounds)) if bounds else None,
        {name: _told(ours, first) for name, ours in of.items()},
    )


def _told(ours: Sequence[Result], first: Sequence[Result]) -> Told:
    def spread(quantity: Callable[[Result], float]) -> Spread:
        return _spread([quantity(r) for r in ours])

    def gain(quantity: Callable[[Result], float]) -> Spread:
        return _spread([quantity(a) - quantity(b) for a, b in zip(ours, first, strict=True)])

    curves, firsts = ([_curve(r) for r in results] for results in (ours, first))
    classes = first[0].outcome.lost_by_class_pct
    return Told(
        at_100=spread(lambda r: r.outcome.allocation_100_pct),
        at_130=spread(lambda r: r.outcome.allocation_130_pct),
        gain_100=gain(lambda r: r.outcome.allocation_100_pct),
        gain_130=gain(lambda r: r.outcome.allocation_130_pct),
        first_failure=spread(lambda r: r.outcome.first_failure_pct),
        gap_closed_pct=gap_closed_pct(ours, first),
        lost={name: _spread([r.outcome.lost_by_class_pct[name] for r in ours]) for name in classes},
        allocated=_band([c.allocated_pct for c in curves]),
        gain=_band([a.allocated_pct - b.allocated_pct for a, b in zip(curves, firsts, strict=True)]),
        fragmented=_band([c.fragmented_pct for c in curves]),
        decision_ms_p50=float(np.mean([r.decision_ms_p50 for r in ours])),
        decision_ms_p99=float(np.mean([r.decision_ms_p99 for r in ours])),
    )


def _curve(result: Result) -> Curve:
    if result.curve is None:
        raise ValueError("a page needs results with curves")
    return result.curve


def _spread(values: Sequence[float]) -> Spread:
    found = of_mean(values, LEVEL)
    mean = float(np.mean(values))
    return Spread(mean, None, None) if found is None else Spread(mean, found.low, found.high)


def _band(curves: Sequence[FloatArray]) -> Band:
    """(seed, ARRIVED_PCT)"""
    stacked = np.stack(curves)
    mean, seeds = stacked.mean(axis=0), len(curves)
    if seeds < 2:
        return Band(_short(mean), None, None)
    half = quantile(LEVEL, seeds - 1) * stacked.std(axis=0, ddof=1) / math.sqrt(seeds)
    return Band(_short(mean), _short(mean - half), _short(mean + half))


def _short(values: FloatArray) -> list[float]:
    return [round(v, DIGITS) for v in values.tolist()]
