"""A against B on the same seeds: the same arrivals, the same cold starts, and an interval on the difference."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Final, Literal

from sim.interval import Interval, of_mean
from sim.measures import MEASURES
from sim.report.model import Report

SCHEMA: Final = "slicewise.dev/sim-comparison/1"
Verdict = Literal["better", "worse", "no difference", "not known"]


class LoadsDifferError(ValueError):
    """A and B were not given the same load, so that a difference says nothing of the policy."""


@dataclass(frozen=True, slots=True)
class Row:
    """One measure. `difference`: B - A, None where fewer than two pairs are known."""

    measure: str
    mean_a: float | None
    mean_b: float | None
    difference: Interval | None
    pairs: int
    wins: int  #: seeds in which B is better
    losses: int
    verdict: Verdict


@dataclass(frozen=True, slots=True)
class Comparison:
    a: str
    b: str
    level: float
    seeds: Sequence[int]
    rows: Sequence[Row]
    judged: Sequence[str]

    @property
    def regressions(self) -> list[str]:
        return [row.measure for row in self.rows if row.measure in self.judged and row.verdict == "worse"]

    def to_json(self) -> str:
        document = {"schema": SCHEMA} | asdict(self) | {"regressions": self.regressions}
        return json.dumps(document, indent=1) + "\n"


def compare(
    names: tuple[str, str],
    pairs: Sequence[tuple[Report, Report]],
    level: float,
    judged: Sequence[str],
    margin: float,
) -> Comparison:
    """`pairs`: A and B of each seed. `margin`: how much worse, as a part of A's mean, is let pass.

    Raises `LoadsDifferError`.
    """
    for a, b in pairs:
        if a.inputs["load_sha256"] != b.inputs["load_sha256"]:
            raise LoadsDifferError(
                f"seed {a.seed}: A and B have different loads; compare scenarios that differ in their policy alone"
            )
    rows = [_row(name, pairs, level, margin) for name in MEASURES]
    return Comparison(*names, level, [a.seed for a, _ in pairs], rows, judged)


def _row(name: str, pairs: Sequence[tuple[Report, Report]], level: float, margin: float) -> Row:
    measure = MEASURES[name]
    both = [(measure.of(a), measure.of(b)) for a, b in pairs]
    known = [(a, b) for a, b in both if a is not None and b is not None]
    sign = 1 if measure.more_is_better else -1
    gains = [sign * (b - a) for a, b in known]
    if not known:
        return Row(name, None, None, None, 0, 0, 0, "not known")
    mean_a, mean_b = (sum(column) / len(known) for column in zip(*known, strict=True))
    difference = of_mean([b - a for a, b in known], level)
    wins, losses = sum(g > 0 for g in gains), sum(g < 0 for g in gains)
    verdict = _verdict(difference, sign, margin * abs(mean_a))
    return Row(name, mean_a, mean_b, difference, len(known), wins, losses, verdict)


def _verdict(difference: Interval | None, sign: int, let_pass: float) -> Verdict:
    """What the whole interval says."""
    if difference is None:
        return "not known"
    worst, best = sorted((sign * difference.low, sign * difference.high))
    if best < 0 and -best > let_pass:
        return "worse"
    return "better" if worst > 0 else "no difference"


def as_text(comparison: Comparison, about: Mapping[str, str]) -> str:
    """A table for people; `about`: a measure in words."""
    n, level = len(comparison.seeds), f"{100 * comparison.level:g} %"
    lines = [f"A  {comparison.a}", f"B  {comparison.b}", f"{n} seeds in pairs; intervals at {level}", ""]
    lines.append(f"{'':<30}{'A':>12}{'B':>12}{'B - A':>12}  {'interval':^25} {'B wins':>7}  verdict")
    for row in comparison.rows:
        mark = "*" if row.measure in comparison.judged else " "
        head = f"{mark} {about[row.measure]:<28}"
        if row.mean_a is None or row.mean_b is None:
            lines.append(f"{head}{'?':>12}{'?':>12}{'?':>12}  {'':^25} {'':>7}  {row.verdict}")
            continue
        d = row.difference
        span = f"[{d.low:+.4g}, {d.high:+.4g}]" if d is not None else "?"
        score = f"{row.wins}:{row.losses}"
        lines.append(
            f"{head}{row.mean_a:>12.5g}{row.mean_b:>12.5g}{row.mean_b - row.mean_a:>+12.4g}  {span:^25} {score:>7}  "
            f"{row.verdict}"
        )
    lines += ["", "* judged: worse there is a regression"]
    if comparison.regressions:
        lines.append(f"regression: {', '.join(comparison.regressions)}")
    return "\n".join(lines)
