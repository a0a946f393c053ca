"""Variants of a scenario, run and ranked: a grid, random points, or successive halving."""

import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from math import ceil, exp, log
from pathlib import Path
from statistics import fmean
from typing import Final, Literal

from sim.changes import Changes, short, whole
from sim.jobs import Job, reports
from sim.measures import MEASURES
from sim.report.model import Report
from sim.scenario import load
from sim.streams import stream
from sim.strict import ConfigError

SCHEMA: Final = "slicewise.dev/sim-sweep/1"
KEPT: Final = (
    3  # successive halving keeps one of so many, and gives them so many times the seeds (Jamieson, Talwalkar 2016)
)
_RANGE: Final = re.compile(r"(\d+(?:\.\d+)?)([a-z]*)\.\.(\d+(?:\.\d+)?)([a-z]*)$")
Method = Literal["grid", "random", "halving"]


class SpaceError(ValueError):
    """A field to vary that cannot be understood."""


@dataclass(frozen=True, slots=True)
class Axis:
    """One field: its values, or a range of which points are drawn, evenly on a logarithmic scale."""

    field: str
    values: tuple[str, ...] = ()
    low: float = 0.0
    high: float = 0.0
    unit: str = ""

    def at(self, part: float) -> str:
        """The value at `part` of the way, 0 to 1."""
        if self.values:
            return self.values[min(int(part * len(self.values)), len(self.values) - 1)]
        value = exp(log(self.low) + part * (log(self.high) - log(self.low)))
        return f"{float(f'{value:.3g}'):g}{self.unit}"


def axis(text: str) -> Axis:
    """`queuePerReplica=4,8,16`, or `queuePerReplica=2..32`, `stabilizationDown=1m..10m`. Raises `SpaceError`."""
    field, _, listed = text.partition("=")
    values = tuple(v.strip() for v in listed.split(",") if v.strip())
    if not field.strip() or not values:
        raise SpaceError(f"--vary: want FIELD=A,B,C or FIELD=LOW..HIGH, such as queuePerReplica=4,8,16 (got {text!r})")
    field = whole(field.strip())
    found = _RANGE.match(values[0]) if len(values) == 1 else None
    if found is None:
        return Axis(field, values)
    low, high, units = float(found[1]), float(found[3]), {found[2] or found[4], found[4]}
    if not 0 < low < high or len(units) > 1:
        raise SpaceError(f"--vary: {short(field)}: a range ascends from above 0, in one unit (got {values[0]!r})")
    return Axis(field, (), low, high, found[4])


def points(axes: Sequence[Axis], method: Method, samples: int, seed: int) -> list[Changes]:
    """What to try, each once. Raises `SpaceError` for a grid over a range."""
    if method == "grid" or (method == "halving" and all(a.values for a in axes)):
        if ranges := [short(a.field) for a in axes if not a.values]:
            raise SpaceError(f"--vary: a grid needs values, and {', '.join(ranges)} has a range: use random or halving")
        return list(dict.fromkeys(tuple((a.field, v) for a, v in zip(axes, row, strict=True)) for row in _rows(axes)))
    drawn = stream(seed, "sweep").uniform(size=(samples, len(axes))).tolist()
    found = [tuple((a.field, a.at(part)) for a, part in zip(axes, row, strict=True)) for row in drawn]
    return list(dict.fromkeys(found))


def _rows(axes: Sequence[Axis]) -> Iterator[tuple[str, ...]]:
    return product(*(a.values for a in axes))


@dataclass(frozen=True, slots=True)
class Variant:
    """`means`: by measure, over the seeds that it was run with; None where none of them knows it."""

    changes: Changes
    seeds: int
    means: Mapping[str, float | None]

    def score(self, target: float) -> tuple[float, float]:
        """Smaller is better: by how much it misses the target, then what it costs."""
        attainment, hours = self.means["attainment"], self.means["gpu_hours"]
        return max(0.0, target - (attainment or 0.0)), float("inf") if hours is None else hours

    @property
    def name(self) -> str:
        return " ".join(f"{short(field)}={text}" for field, text in self.changes) or "as it is"


@dataclass(frozen=True, slots=True)
class Sweep:
    """`refused`: variants that are no scenarios, and why."""

    variants: Sequence[Variant]
    refused: Sequence[tuple[Changes, str]]
    target: float

    @property
    def front(self) -> list[Variant]:
        """Those that no other one of as many seeds beats in both attainment and cost, cheapest first."""
        most = max((v.seeds for v in self.variants), default=0)
        whole_ = sorted((v for v in self.variants if v.seeds == most), key=lambda v: (v.score(2.0)[1], v.score(2.0)[0]))
        front: list[Variant] = []
        for variant in whole_:
            if not front or variant.score(2.0)[0] < front[-1].score(2.0)[0]:
                front.append(variant)
        return front

    @property
    def best(self) -> Variant | None:
        """The cheapest that keeps the target; where none does, the one that misses it least."""
        return min(self.front, key=lambda v: v.score(self.target), default=None)

    def to_json(self) -> str:
        front = set(map(id, self.front))
        rows = [
            {"changes": {short(f): t for f, t in v.changes}, "seeds": v.seeds, "pareto": id(v) in front} | dict(v.means)
            for v in self.variants
        ]
        refused = [{"changes": {short(f): t for f, t in c}, "why": why} for c, why in self.refused]
        document = {"schema": SCHEMA, "target": self.target, "variants": rows, "refused": refused}
        return json.dumps(document, indent=1) + "\n"


@dataclass(frozen=True, slots=True)
class Lab:
    """Where variants are run. `talk`: told before each round, for people who wait."""

    scenario: Path
    trace: Path | None
    seeds: Sequence[int]
    processes: int
    ray: str | None
    talk: Callable[[str], None]

    def sweep(self, wanted: Sequence[Changes], method: Method, target: float) -> Sweep:
        """Every point on every seed; with halving, all on a few and the best on all."""
        good, refused = self._checked(wanted)
        results: dict[Changes, list[Report]] = {point: [] for point in good}
        left = list(good)
        for count in self._rounds(len(good), method):
            jobs = [
                Job(self.scenario, point, seed, self.trace)
                for point in left
                for seed in self.seeds[len(results[point]) : count]
            ]
            self.talk(f"{len(left)} variants on {count} of {len(self.seeds)} seeds: {len(jobs)} runs")
            for job, report in zip(jobs, reports(jobs, self.processes, self.ray), strict=True):
                results[job.changes].append(report)
            ranked = sorted(left, key=lambda point: _variant(point, results[point]).score(target))
            left = ranked[: ceil(len(ranked) / KEPT)]
        return Sweep([_variant(p, found) for p, found in results.items()], refused, target)

    def _checked(self, wanted: Sequence[Changes]) -> tuple[list[Changes], list[tuple[Changes, str]]]:
        good, refused = list[Changes](), list[tuple[Changes, str]]()
        for point in wanted:
            try:
                load(self.scenario, point)
            except ConfigError as e:
                refused.append((point, str(e)))
            else:
                good.append(point)
        return good, refused

    def _rounds(self, variants: int, method: Method) -> list[int]:
        """With how many seeds; the last round has all of them."""
        rounds = [len(self.seeds)]
        while method == "halving" and rounds[0] > 1 and variants > KEPT ** len(rounds):
            rounds.insert(0, ceil(rounds[0] / KEPT))
        return rounds


def _variant(changes: Changes, found: Sequence[Report]) -> Variant:
    means: dict[str, float | None] = {}
    for name, measure in MEASURES.items():
        known = [value for report in found if (value := measure.of(report)) is not None]
        means[name] = fmean(known) if known else None
    return Variant(changes, len(found), means)


def as_text(sweep: Sweep, rows: int) -> str:
    """The Pareto front and the best of the rest."""
    front = sweep.front
    rest = [v for v in sweep.variants if v not in front]
    shown = front + sorted(rest, key=lambda v: (-v.seeds, v.score(sweep.target)))[: max(0, rows - len(front))]
    columns = ("attainment", "gpu_hours", "first_token_p99_s", "sessions_broken", "reversals")
    wide = max((len(v.name) for v in shown), default=0)
    lines = [f"{'':<2}{'':<{wide}}{'seeds':>7}" + "".join(f"{c:>19}" for c in columns)]
    for variant in shown:
        values = "".join(f"{'?' if (m := variant.means[c]) is None else f'{m:.5g}':>19}" for c in columns)
        lines.append(f"{'*' if variant in front else '':<2}{variant.name:<{wide}}{variant.seeds:>7}{values}")
    left = len(sweep.variants) - len(shown)
    lines.append("* no other variant keeps the SLO better for less" + (f"; {left} more in --json" if left else ""))
    lines += [f"refused: {' '.join(f'{short(f)}={t}' for f, t in c)}: {why}" for c, why in sweep.refused]
    return "\n".join(lines)
