"""How readings are made of what engines export: one recipe a reading, the same for every engine and every source.

A recipe is data. The Prometheus source writes PromQL from it, the scrape source computes it from series
(`scaler/signals/compute.py`); a test holds the two to the same answers. Quantities are what a preset names; a recipe
knows no engine and no metric name, except for the metrics of Slicewise's own (docs/triggers.md).

Rules that every recipe keeps, whoever carries it out:

- Several ways to one reading stand in order. Those that name a quantity which the preset lacks are left out; of the
  others the first that yields a value counts, for each workload by itself.
- Rates before sums: a restart is a reset of one pod's counter. Within a pod, series that differ in labels other than
  the preset's `apart` are one series scraped twice, and count once (the highest).
- Nothing is known where nothing is seen: a part without any series is missing, and so is what is made of it, except
  where `Known` and `OrZero` say otherwise. NaN and infinity are missing, never 0.
- A result below 0 is 0: differences of noisy rates come out so.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields
from enum import StrEnum
from typing import Final


class Gauge(StrEnum):
    """What an engine tells of this instant."""

    WAITING = "waiting"
    """Requests that wait in the engine."""
    RUNNING = "running"
    """Requests in service."""
    SESSIONS = "sessions"
    """Sessions that the engine holds."""
    KV_USAGE = "kv_usage"
    """Share of the KV cache in use, 0..1."""
    OLDEST_WAIT_S = "oldest_wait_s"
    """How long the request that has waited longest has waited [s]."""


class Counter(StrEnum):
    """What an engine has counted since it started."""

    PROMPT_TOKENS = "prompt_tokens"
    """Prompt tokens taken in, those found in a prefix cache with them."""
    CACHED_TOKENS = "cached_tokens"
    """Prompt tokens found in a prefix cache."""
    GENERATION_TOKENS = "generation_tokens"
    ENDED = "ended"
    """Requests that ended, however they ended."""
    ARRIVED = "arrived"
    """Requests that arrived, also those that still wait."""
    PREEMPTIONS = "preemptions"
    """Requests put back into the queue for want of KV cache."""


class Histogram(StrEnum):
    """What an engine has observed since it started: buckets, sum and count."""

    E2E_S = "e2e_s"
    """From a request's arrival to its end [s]."""
    QUEUE_S = "queue_s"
    """Of that, the wait before service [s]."""
    TTFT_S = "ttft_s"
    """From arrival to the first token [s]."""
    ITL_S = "itl_s"
    """From one token to the next [s]."""
    PROMPT_LENGTH = "prompt_length"
    """Prompt tokens of a request."""
    GENERATION_LENGTH = "generation_length"
    """Generated tokens of a request."""


class Own(StrEnum):
    """Slicewise's own gauges, which any gateway or agent may export (docs/triggers.md)."""

    REQUESTS_WAITING = "agent_requests_waiting"
    SESSIONS_ACTIVE = "agent_sessions_active"


Quantity = Gauge | Counter | Histogram

FEWEST: Final = 20
"""Quantiles and shares of fewer observations within the window say nothing."""


@dataclass(frozen=True, slots=True)
class Sum:
    """Sum of a gauge over the workload's pods."""

    gauge: Gauge


@dataclass(frozen=True, slots=True)
class Highest:
    """Highest of a gauge over the workload's pods."""

    gauge: Gauge


@dataclass(frozen=True, slots=True)
class Growth:
    """Sum over pods of a gauge's slope by least squares over the window [1/s]: PromQL's `deriv`. May be negative."""

    gauge: Gauge


@dataclass(frozen=True, slots=True)
class Rate:
    """Sum over pods of a counter's increase a second over the window: PromQL's `rate`, extrapolated as it does."""

    counter: Counter


@dataclass(frozen=True, slots=True)
class SumRate:
    """As `Rate`, of a histogram's sum: seconds (or tokens) observed a second."""

    histogram: Histogram


@dataclass(frozen=True, slots=True)
class CountRate:
    """As `Rate`, of a histogram's count: observations a second."""

    histogram: Histogram


@dataclass(frozen=True, slots=True)
class Quantile:
    """Quantile `p` of the window's observations of all pods together; missing below `FEWEST` observations.

    Of buckets, interpolated linearly; in the open bucket its lower edge, and the sample says `saturated`.
    """

    p: float
    histogram: Histogram


@dataclass(frozen=True, slots=True)
class Within:
    """Share of the window's observations that are at most the subject's `slo_s`; missing below `FEWEST` observations.

    Pessimistic: where no bucket ends at `slo_s`, the share up to the next lower edge. Missing where no SLO is given.
    """

    histogram: Histogram


@dataclass(frozen=True, slots=True)
class Gateway:
    """Sum of one of our own gauges over gateways: series of the namespace with `workload` = its name.

    Series of the workload's own pods are not among them: what one pod says is no gateway's word on the whole workload.
    """

    metric: Own


@dataclass(frozen=True, slots=True)
class Pods:
    """Sum of one of our own gauges over the workload's pods."""

    metric: Own


@dataclass(frozen=True, slots=True)
class Known:
    """Sum of those parts that are known; missing where none is. For parts that different witnesses tell."""

    parts: tuple["Expression", ...]


@dataclass(frozen=True, slots=True)
class Total:
    """Sum of parts; missing where one is."""

    parts: tuple["Expression", ...]


@dataclass(frozen=True, slots=True)
class Less:
    """`whole` - `part`."""

    whole: "Expression"
    part: "Expression"


@dataclass(frozen=True, slots=True)
class OrZero:
    """`part`, 0 where it is missing or the preset lacks it. Only ever subtracted: not knowing reads as more load."""

    part: "Expression"


@dataclass(frozen=True, slots=True)
class Per:
    """`over` / `under`; missing where `under` is 0."""

    over: "Expression"
    under: "Expression"


@dataclass(frozen=True, slots=True)
class Wait:
    """`line` / `pace`, 0 where `line` is 0: how long what stands in line needs at this pace [s]."""

    line: "Expression"
    pace: "Expression"


Expression = (
    Sum
    | Highest
    | Growth
    | Rate
    | SumRate
    | CountRate
    | Quantile
    | Within
    | Gateway
    | Pods
    | Known
    | Total
    | Less
    | OrZero
    | Per
    | Wait
)

_IN_FLIGHT_GROWTH = (Growth(Gauge.RUNNING), Growth(Gauge.WAITING))

RECIPES: Final[Mapping[str, tuple[Expression, ...]]] = {
    # Waiting in an engine, or in a gateway for want of a pod.
    "queue": (Known((Sum(Gauge.WAITING), Gateway(Own.REQUESTS_WAITING))), Gateway(Own.REQUESTS_WAITING)),
    "running": (Sum(Gauge.RUNNING),),
    # A gateway that knows the sessions of the whole workload is the whole truth, also while no pod runs.
    "sessions": (Gateway(Own.SESSIONS_ACTIVE), Pods(Own.SESSIONS_ACTIVE), Sum(Gauge.SESSIONS)),
    # Prompt tokens really computed.
    "prompt_tokens_per_s": (Less(Rate(Counter.PROMPT_TOKENS), OrZero(Rate(Counter.CACHED_TOKENS))),),
    "cached_tokens_per_s": (Rate(Counter.CACHED_TOKENS),),
    "generation_tokens_per_s": (Rate(Counter.GENERATION_TOKENS),),
    # Most engines count what ends, not what arrives: arrivals = ends + growth of what is in flight.
    "arrivals_per_s": (Rate(Counter.ARRIVED), Total((Rate(Counter.ENDED), *_IN_FLIGHT_GROWTH))),
    "ended_per_s": (Rate(Counter.ENDED),),
    # Mean time from arrival to end less the mean wait; with the wait where the engine does not tell it.
    "service_s": (
        Per(Less(SumRate(Histogram.E2E_S), SumRate(Histogram.QUEUE_S)), CountRate(Histogram.E2E_S)),
        Per(SumRate(Histogram.E2E_S), CountRate(Histogram.E2E_S)),
    ),
    "p50_s": (Quantile(0.5, Histogram.E2E_S),),
    "p95_s": (Quantile(0.95, Histogram.E2E_S),),
    "ttft_p95_s": (Quantile(0.95, Histogram.TTFT_S),),
    "itl_p95_s": (Quantile(0.95, Histogram.ITL_S),),
    "attainment": (Within(Histogram.E2E_S),),
    "ttft_attainment": (Within(Histogram.TTFT_S),),
    # "Caches in use": the sum over pods, so that two half-full caches are one.
    "kv_usage": (Sum(Gauge.KV_USAGE),),
    "preemptions_per_s": (Rate(Counter.PREEMPTIONS),),
    # Not exported: no longer than all that waits needs to get into service, while the queue grows or stands; or, where
    # nobody counts ends, since when as many as wait have arrived.
    "oldest_wait_s": (
        Highest(Gauge.OLDEST_WAIT_S),
        Wait(Sum(Gauge.WAITING), Rate(Counter.ENDED)),
        Wait(Sum(Gauge.WAITING), Rate(Counter.ARRIVED)),
    ),
}
"""Reading name -> the ways to it, the best first."""


def parts_of(expression: Expression) -> Iterator[Expression]:
    """`expression` and all that it is made of, itself first."""
    yield expression
    for field in fields(expression):
        value = getattr(expression, field.name)
        for part in value if isinstance(value, tuple) else (value,):
            if isinstance(part, Expression):
                yield from parts_of(part)


def quantities_of(expression: Expression) -> frozenset[Quantity]:
    """Quantities that a preset has to have for it; those under `OrZero` need not be there."""
    if isinstance(expression, OrZero):
        return frozenset()
    own = (getattr(expression, field.name) for field in fields(expression))
    quantities = {value for value in own if isinstance(value, Gauge | Counter | Histogram)}
    for field in fields(expression):
        value = getattr(expression, field.name)
        for part in value if isinstance(value, tuple) else (value,):
            if isinstance(part, Expression):
                quantities |= quantities_of(part)
    return frozenset(quantities)


def used_by(expression: Expression) -> frozenset[Quantity]:
    """Quantities that it looks at, those under `OrZero` with them."""
    own = (getattr(part, field.name) for part in parts_of(expression) for field in fields(part))
    return frozenset(value for value in own if isinstance(value, Gauge | Counter | Histogram))


def sized_of(expression: Expression) -> frozenset[Histogram]:
    """Histograms of which it needs the buckets; of the others sum and count are enough."""
    return frozenset(part.histogram for part in parts_of(expression) if isinstance(part, Quantile | Within))


def is_of_pods(expression: Expression) -> bool:
    """Whether pods of the workload stand behind the value, so that it has a coverage; a gateway's word has none."""
    return any(
        not isinstance(part, Gateway | Known | Total | Less | OrZero | Per | Wait) for part in parts_of(expression)
    )


def ways(reading: str, quantities: frozenset[Quantity]) -> tuple[Expression, ...]:
    """The ways to `reading` that a preset with `quantities` has, the best first; empty where it has none."""
    return tuple(way for way in RECIPES.get(reading, ()) if quantities_of(way) <= quantities)


USED: Final = frozenset(quantity for found in RECIPES.values() for way in found for quantity in used_by(way))
"""Quantities that any recipe looks at; the others a preset names for people and for what is to come."""
