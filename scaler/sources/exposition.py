"""What a /metrics page says, in the words of recipes: text -> observations, by preset. No I/O.

The text is Prometheus's format 0.0.4 or OpenMetrics 1.0 (prometheus/docs: exposition_formats.md; OpenMetrics
specification). Only families that the preset names are looked at, and what stands before a value is understood once:
pages repeat themselves. Timestamps in a page are not believed: what matters is when we saw it.
"""

import re
from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from math import isfinite
from typing import Final

from scaler.signals.histogram import Buckets, buckets_of
from scaler.signals.observed import Cumulative, Labels, Observation, once
from scaler.signals.recipes import USED, Counter, Gauge, Histogram, Own
from scaler.sources.presets import HistogramName, Name, Preset

SERIES: Final = re.compile(r'[a-zA-Z_:][a-zA-Z0-9_:]*(?:\{(?:[^"{}]|"(?:[^"\\]|\\.)*")*\})?')
LABEL: Final = re.compile(r'([a-zA-Z_][a-zA-Z0-9_]*)\s*=\s*"((?:[^"\\]|\\.)*)"')
REMEMBERED: Final = 100_000
"""Heads of lines that are kept understood; a page with ever new labels must not eat the memory."""

ESCAPES: Final = {"\\n": "\n", '\\"': '"', "\\\\": "\\"}


@dataclass(frozen=True, slots=True)
class Slot:
    """Where a line's value belongs. `way`: which of the quantity's names; `whose`: the workload that a gateway names.

    `part` of a histogram: a bucket's bound, "sum" or "count". `negative`: it is taken off.
    """

    quantity: Gauge | Counter | Histogram | Own
    way: int
    labels: Labels
    scale: float
    whose: tuple[str, str]
    part: float | str | None = None
    negative: bool = False


Series = Mapping[Slot, float]


Whose = tuple[str, str]
"""Namespace and workload that a series names; "" where it names none."""

NOBODY: Final[Whose] = ("", "")


class Page:
    """Reads pages of one preset's engine.

    `of_gateway`: the page tells of workloads that it names, by the preset's label or (our own gauges) by `workload`
    and `namespace`; else it tells of the pod that serves it.
    """

    def __init__(self, preset: Preset, *, of_gateway: bool) -> None:
        self._preset = preset
        self._of_gateway = of_gateway
        self._families = defaultdict[str, list[tuple[Gauge | Counter | Histogram, int, Name | HistogramName]]](list)
        for quantity, names in preset.named():
            for way, name in enumerate(names if quantity in USED else ()):
                for family in name.families:
                    self._families[family].append((quantity, way, name))
        self._slots: dict[str, tuple[Slot, ...]] = {}
        self._bounds: dict[tuple[float, ...], tuple[float, ...]] = {}

    def observations(self, text: str, at_s: float) -> Mapping[Whose, Observation]:
        """What the page says of each workload that it names; under NOBODY what it says of itself.

        A line that is not of the format is passed over: what it would have said is then not known.
        """
        values: dict[Whose, dict[Slot, float]] = defaultdict(dict)
        for head, value in self._lines(text):
            slots = self._slots.get(head)
            if slots is None:
                if len(self._slots) >= REMEMBERED:
                    self._slots.clear()
                slots = self._slots[head] = tuple(self._slots_of(head))
            for slot in slots:
                told = values[slot.whose]
                told[slot] = max(value * slot.scale, told.get(slot, 0.0))
        return {whose: self._observation(series, at_s) for whose, series in values.items()}

    def _lines(self, text: str) -> Iterator[tuple[str, float]]:
        """Series and value of each line of a family that is wanted."""
        families = self._families
        for line in text.splitlines():
            brace = line.find("{")
            name = line[:brace] if brace > 0 else line.partition(" ")[0]
            if name not in families and name not in OWN:
                continue
            head, _, text = line.rpartition(" ")
            if head not in self._slots:  # new, or more than a value stands behind it
                found = SERIES.match(line)
                if found is None:
                    continue
                head, text = found.group(), line[found.end() :]
            try:
                value = float(text.split(None, 1)[0])
            except (ValueError, IndexError):
                continue
            if isfinite(value) and value >= 0:
                yield head, value

    def _slots_of(self, head: str) -> Iterator[Slot]:
        family, _, inside = head.partition("{")
        labels = {name: _unescaped(value) for name, value in LABEL.findall(inside)}
        if family in OWN and (not self._of_gateway or "workload" in labels):
            whose = (labels.get("namespace", ""), labels["workload"]) if self._of_gateway else NOBODY
            yield Slot(Own(family), 0, (), 1.0, whose)
        whose = NOBODY
        if self._preset.workload_label is not None:
            whose = ("", labels.get(self._preset.workload_label, ""))
        for quantity, way, name in self._families.get(family, ()):
            if any(labels.get(label, "") != value for label, value in name.match.items()):
                continue
            apart = tuple(labels.get(label, "") for label in self._preset.apart)
            if isinstance(name, Name):
                # Families that are added up must not be taken for one series that was scraped twice.
                own = (*apart, family) if name.plus or name.minus else apart
                yield Slot(quantity, way, own, name.scale, whose, negative=family in name.minus)
            elif (part := _part(name, family, labels)) is not None:
                yield Slot(quantity, way, apart, 1.0 if part != "sum" else name.scale, whose, part)

    def _observation(self, series: Series, at_s: float) -> Observation:
        """Each quantity under the first of its names that is there."""
        by_quantity: dict[Gauge | Counter | Histogram | Own, dict[int, dict[Slot, float]]] = defaultdict(dict)
        for slot, value in series.items():
            by_quantity[slot.quantity].setdefault(slot.way, {})[slot] = value
        gauges: dict[Gauge | Own, Mapping[Labels, float]] = {}
        counters: dict[Counter, Mapping[Labels, float]] = {}
        histograms: dict[Histogram, Mapping[Labels, Cumulative]] = {}
        for quantity, ways in by_quantity.items():
            told = ways[min(ways)]
            if isinstance(quantity, Histogram):
                if cumulative := dict(self._cumulative(told)):
                    histograms[quantity] = cumulative
            elif isinstance(quantity, Counter):
                counters[quantity] = once((slot.labels, value) for slot, value in told.items())
            else:
                gauges[quantity] = {
                    **once((slot.labels, value) for slot, value in told.items() if not slot.negative),
                    **{slot.labels: -value for slot, value in told.items() if slot.negative},
                }
        return Observation(at_s=at_s, gauges=gauges, counters=counters, histograms=histograms)

    def _cumulative(self, told: Series) -> Iterator[tuple[Labels, Cumulative]]:
        """Histograms of which sum and count are known; without a usable bucket they have none."""
        by_labels: dict[Labels, dict[float | str | None, float]] = defaultdict(dict)
        for slot, value in told.items():
            by_labels[slot.labels][slot.part] = value
        for labels, parts in by_labels.items():
            if "sum" in parts and "count" in parts:
                found = buckets_of((bound, n) for bound, n in parts.items() if isinstance(bound, float))
                buckets = None
                if isinstance(found, Buckets):  # pods of one engine have the same bounds, so they are kept once
                    buckets = Buckets(self._bounds.setdefault(found.bounds, found.bounds), found.counts)
                yield labels, Cumulative(buckets, parts["sum"], parts["count"])


OWN: Final = frozenset(Own)


def _unescaped(value: str) -> str:
    return re.sub(r"\\.", lambda found: ESCAPES.get(found.group(), found.group()), value) if "\\" in value else value


def _part(name: HistogramName, family: str, labels: Mapping[str, str]) -> float | str | None:
    if family == name.count_family:
        return "count"
    if family == name.sum_family:
        return "sum"
    try:
        return float(labels.get("le", "")) * name.scale
    except ValueError:
        return None
