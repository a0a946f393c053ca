"""Engine presets: under which names an engine exports the quantities of `scaler/signals/recipes.py`.

One TOML file an engine, under `scaler/presets`; `docs/presets.md` explains the format. No queries: PromQL and the
computation on scraped series are both made from a preset and a recipe.
"""

import tomllib
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from importlib.resources import files
from typing import Annotated, Literal, Self, TypeVar

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, model_validator
from pydantic_core import ErrorDetails

from scaler.signals.recipes import RECIPES, Counter, Expression, Gauge, Histogram, Quantity, sized_of, ways

MetricName = Annotated[str, Field(pattern=r"^[a-zA-Z_:][a-zA-Z0-9_:]*$")]
LabelName = Annotated[str, Field(pattern=r"^[a-zA-Z_][a-zA-Z0-9_]*$")]
Prose = Annotated[str, Field(min_length=1)]


Names = TypeVar("Names", bound=tuple[object, ...])


class PresetError(ValueError):
    """A preset breaks the format; one line a fault: file, field, rule, value."""


class _Table(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


def _selected(match: Mapping[str, str]) -> str:
    return "{" + ",".join(f'{label}="{value}"' for label, value in match.items()) + "}" if match else ""


def _scaled(scale: float) -> str:
    return "" if scale == 1 else f" x {scale:g}"


class Name(_Table):
    """A family as some versions of the engine export it.

    `name`: as it stands in the exposition, a counter's `_total` included. `plus`: families that are added to it,
    `minus` (of gauges): taken from it; one of them that is not there changes nothing. `match`: labels that a series
    must have; "" matches a label that is not there. `scale`: what a value is multiplied with to have the quantity's
    unit. `source`: file or page of the project.
    """

    name: MetricName
    versions: Prose
    source: Prose
    plus: tuple[MetricName, ...] = ()
    minus: tuple[MetricName, ...] = ()
    match: Mapping[LabelName, str] = {}
    scale: float = Field(default=1.0, gt=0)

    @property
    def families(self) -> tuple[str, ...]:
        return (self.name, *self.plus, *self.minus)

    @property
    def spelling(self) -> str:
        """For a person: the sum, the labels that select, the scale."""
        signed = "".join((*(f" + {family}" for family in self.plus), *(f" - {family}" for family in self.minus)))
        return f"{self.name}{_selected(self.match)}{signed}{_scaled(self.scale)}"


class HistogramName(_Table):
    """A histogram: `name` without _bucket, _sum and _count.

    `buckets` = false: only sum and count are known (a summary, or two counters). `sum_name`, `count_name`: where they
    are not called NAME_sum and NAME_count.
    """

    name: MetricName
    versions: Prose
    source: Prose
    match: Mapping[LabelName, str] = {}
    scale: float = Field(default=1.0, gt=0)
    buckets: bool = True
    sum_name: MetricName | None = None
    count_name: MetricName | None = None

    @property
    def spelling(self) -> str:
        """For a person: its name, or the two counters that stand for it."""
        own = self.name if self.buckets else f"{self.sum_family} / {self.count_family}"
        return f"{own}{_selected(self.match)}{_scaled(self.scale)}"

    @property
    def bucket_family(self) -> str:
        return f"{self.name}_bucket"

    @property
    def sum_family(self) -> str:
        return self.sum_name or f"{self.name}_sum"

    @property
    def count_family(self) -> str:
        return self.count_name or f"{self.name}_count"

    @property
    def families(self) -> tuple[str, ...]:
        return (*((self.bucket_family,) if self.buckets else ()), self.sum_family, self.count_family)


def _not_empty(names: Names) -> Names:
    if not names:
        raise ValueError("want one name at least")
    return names


class Exported(_Table):
    """A gauge or counter. `names`: tried in order for each pod, the first that it exports counts.

    `lazy`: the family appears with the first request; a pod that serves (exports `up`) without it has counted nothing.
    """

    names: Annotated[tuple[Name, ...], AfterValidator(_not_empty)]
    lazy: bool = False


class ExportedHistogram(_Table):
    """As `Exported`, of a histogram."""

    names: Annotated[tuple[HistogramName, ...], AfterValidator(_not_empty)]
    lazy: bool = False


class Preset(_Table):
    """What one engine exports.

    `scope`: "pod": each pod of the workload tells of itself. "gateway": something in front of the pods tells of the
    whole workload; its series carry the label `workload_label`, whose value is the workload's name. `port`, `path`:
    where a direct scrape finds the metrics. `apart`: labels that tell series of one pod apart; all others only mark a
    series that is scraped twice. `up`: the gauge that every serving pod always exports: from it coverage and age are
    counted; only a gateway may have none. `note`: what a user must know.
    """

    engine: Prose
    versions: Prose
    scope: Literal["pod", "gateway"] = "pod"
    workload_label: LabelName | None = None
    port: int = Field(ge=1, le=65535)
    path: str = Field(default="/metrics", pattern=r"^/[!-~]*$")
    apart: tuple[LabelName, ...] = ()
    up: Gauge | None = None
    note: Prose | None = None
    gauges: Mapping[Gauge, Exported] = {}
    counters: Mapping[Counter, Exported] = {}
    histograms: Mapping[Histogram, ExportedHistogram] = {}

    @model_validator(mode="after")
    def _hangs_together(self) -> Self:
        faults = []
        if (self.scope == "gateway") != (self.workload_label is not None):
            faults.append('workload_label: stands with scope = "gateway", and only there')
        if self.quantities and self.up is None and self.scope == "pod":
            faults.append("up: name the gauge that every serving pod always exports")
        for counter, exported in self.counters.items():
            if any(name.minus for name in exported.names):
                faults.append(f"counters.{counter}: minus: a difference of counters is no counter")
        if self.up is not None and self.up not in self.gauges:
            faults.append(f"up: there is no [gauges.{self.up}]")
        elif self.up is not None and self.gauges[self.up].lazy:
            faults.append(f"up: [gauges.{self.up}] is lazy, so its absence says nothing")
        if faults:
            raise ValueError("; ".join(faults))
        return self

    @property
    def quantities(self) -> frozenset[Quantity]:
        return frozenset((*self.gauges, *self.counters, *self.histograms))

    def named(self) -> Iterator[tuple[Quantity, Sequence[Name | HistogramName]]]:
        """Each quantity with the names that are tried for it, in order."""
        for gauge, exported in self.gauges.items():
            yield gauge, exported.names
        for counter, exported in self.counters.items():
            yield counter, exported.names
        for histogram, observed in self.histograms.items():
            yield histogram, observed.names

    @property
    def lazy(self) -> frozenset[Quantity]:
        """Quantities that appear with the first request."""
        lazy: set[Quantity] = {gauge for gauge, exported in self.gauges.items() if exported.lazy}
        lazy |= {counter for counter, exported in self.counters.items() if exported.lazy}
        lazy |= {histogram for histogram, observed in self.histograms.items() if observed.lazy}
        return frozenset(lazy)

    def ways(self, reading: str) -> tuple[Expression, ...]:
        """The ways to `reading`, the best first; empty where this engine has none."""
        sized = {h for h, exported in self.histograms.items() if any(name.buckets for name in exported.names)}
        return tuple(way for way in ways(reading, self.quantities) if sized_of(way) <= sized)


def listed(name: str, preset: Preset) -> Iterator[str]:
    """`preset` for a person, a line each: what it gives, and each family with its versions and its source."""
    yield f"{name}: {preset.engine}, {preset.versions}"
    if preset.note is not None:
        yield f"  note: {preset.note}"
    of = "" if preset.workload_label is None else f"; a gateway, its label {preset.workload_label} names the workload"
    yield f"  page: :{preset.port}{preset.path}{of}"
    yield f"  readings: {', '.join(reading for reading in RECIPES if preset.ways(reading)) or 'none'}"
    for quantity, names in preset.named():
        for spelt in names:
            yield f"  {quantity}: {spelt.spelling} ({spelt.versions}; {spelt.source})"


@cache
def load() -> Mapping[str, Preset]:
    """Every preset by its name. Raises PresetError with all faults of all files."""
    presets: dict[str, Preset] = {}
    faults: list[str] = []
    for entry in sorted((files("scaler") / "presets").iterdir(), key=lambda entry: entry.name):
        if entry.name.endswith(".toml"):
            try:
                presets[entry.name.removesuffix(".toml")] = parse(entry.name, entry.read_text("utf-8"))
            except PresetError as e:
                faults.append(str(e))
    if faults:
        raise PresetError("\n".join(faults))
    return presets


def parse(file: str, text: str) -> Preset:
    """The preset that `text` is. `file`: what faults are told of. Raises PresetError."""
    try:
        return Preset.model_validate(tomllib.loads(text))
    except tomllib.TOMLDecodeError as e:
        raise PresetError(f"{file}: not TOML: {e}") from e
    except ValidationError as e:
        raise PresetError("\n".join(_told(file, error) for error in e.errors())) from e


def _told(file: str, error: ErrorDetails) -> str:
    message = error["msg"].removeprefix("Value error, ")
    where = ".".join(str(step) for step in error["loc"] if step != "[key]")
    if not where:
        return f"{file}: {message}"
    got = "" if error["type"] == "missing" else f" (got {str(error['input'])[:80]!r})"
    return f"{file}: {where}: {message}{got}"
