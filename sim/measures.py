"""What runs are compared by: each a number of a report, and which way is better."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final

from sim.report.model import Report


@dataclass(frozen=True, slots=True)
class Measure:
    """`of`: None where the report does not know it."""

    of: Callable[[Report], float | None]
    more_is_better: bool
    about: str


MEASURES: Final[Mapping[str, Measure]] = MappingProxyType(
    {
        "attainment": Measure(lambda r: r.attainment.share, more_is_better=True, about="share of requests in the SLO"),
        "gpu_hours": Measure(lambda r: r.gpus.total_h, more_is_better=False, about="GPU hours held"),
        "first_token_p99_s": Measure(
            lambda r: r.latency.first_token_s.p99, more_is_better=False, about="time to first token, P99, s"
        ),
        "to_ready_mean_s": Measure(
            lambda r: r.starts.to_ready_s.mean, more_is_better=False, about="pod created to ready, mean, s"
        ),
        "to_ready_p99_s": Measure(
            lambda r: r.starts.to_ready_s.p99, more_is_better=False, about="pod created to ready, P99, s"
        ),
        "end_to_end_p99_s": Measure(
            lambda r: r.latency.end_to_end_s.p99, more_is_better=False, about="end to end, P99, s"
        ),
        "requests_lost": Measure(
            lambda r: float(r.requests.dropped + r.requests.refused), more_is_better=False, about="requests lost"
        ),
        "sessions_broken": Measure(
            lambda r: float(r.sessions.broken), more_is_better=False, about="sessions that lost a turn"
        ),
        "prefix_computed_again": Measure(
            lambda r: float(r.tokens.prefix_computed_again), more_is_better=False, about="prefix tokens computed again"
        ),
        "reversals": Measure(lambda r: float(r.replicas.reversals), more_is_better=False, about="changes of direction"),
        "replicas": Measure(lambda r: r.replicas.mean, more_is_better=False, about="replicas, mean"),
    }
)
