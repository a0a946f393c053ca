"""Classic histograms: quantiles, shares and means of the observations of a window, with what they cannot say.

Source of the interpolation and of the repair: prometheus/prometheus v3 promql/quantile.go (`bucketQuantile`).
"""

from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from math import inf, isfinite, isnan

from scaler.signals.reading import Missing


@dataclass(frozen=True, slots=True)
class Buckets:
    """Observations by size. `bounds`: upper, ascending, the last infinite; `counts`: up to each, never falling."""

    bounds: tuple[float, ...]
    counts: tuple[float, ...]

    @property
    def count(self) -> float:
        return self.counts[-1]


@dataclass(frozen=True, slots=True)
class Estimate:
    """`value` of `count` observations. `saturated`: it fell into the open bucket, so the truth may be higher."""

    value: float
    count: float
    saturated: bool = False


@dataclass(frozen=True, slots=True)
class Share:
    """Between `at_least` and `at_most` of `count` observations; the two are equal where a bucket ends at the limit."""

    at_least: float
    at_most: float
    count: float


def buckets_of(counts: Iterable[tuple[float, float]]) -> Buckets | Missing:
    """Buckets from (upper bound, observations up to it), in any order.

    Counts that are scraped while they change may fall from one bound to the next; each is then at least the one before
    it. Two counts for one bound (`le="1"` and `le="1.0"`) are one, the higher. Missing without the open bucket: how
    many there are in all is then not known. Law: counts never fall; what never fell is kept as it is.
    """
    highest: dict[float, float] = {}
    for bound, count in counts:
        if not isnan(bound) and isfinite(count):
            highest[bound] = max(count, highest.get(bound, 0.0))
    if inf not in highest:
        return Missing("the histogram has no bucket +Inf")
    bounds = tuple(sorted(highest))
    risen, so_far = [], 0.0
    for bound in bounds:
        so_far = max(so_far, highest[bound])
        risen.append(so_far)
    return Buckets(bounds, tuple(risen))


def merged(parts: Sequence[Buckets]) -> Buckets:
    """All observations of one part or more together, on the bounds that all parts have.

    Engine versions differ in their buckets while a rollout runs; adding what counts up to different bounds would yield
    counts that mean nothing. The open bucket is common to all. Law: the count is the sum of the counts; a part's
    observations keep their order.
    """
    common = set(parts[0].bounds).intersection(*(part.bounds for part in parts[1:]))
    bounds = tuple(sorted(common))
    columns = [dict(zip(part.bounds, part.counts, strict=True)) for part in parts]
    return Buckets(bounds, tuple(sum(column[bound] for column in columns) for bound in bounds))


def quantile(p: float, buckets: Buckets, *, fewest: float = 1) -> Estimate | Missing:
    """The size that a share `p` of the observations does not exceed, 0 <= p <= 1, linear within a bucket.

    The first bucket begins at 0. In the open bucket the last finite bound, and `saturated`. Missing of fewer than
    `fewest` observations. Law: between the bucket's bounds; never falls with `p`.
    """
    if buckets.count <= 0 or buckets.count < fewest:
        return Missing(f"{buckets.count:g} observations in the window; a quantile wants {max(fewest, 1):g}")
    if len(buckets.bounds) == 1:
        return Missing("the histogram has no bucket but +Inf")
    rank = p * buckets.count
    n = bisect_left(buckets.counts, rank)
    if n >= len(buckets.bounds) - 1:
        return Estimate(buckets.bounds[-2], buckets.count, saturated=True)
    upper, below = buckets.bounds[n], buckets.counts[n - 1] if n else 0.0
    lower = buckets.bounds[n - 1] if n else min(0.0, upper)
    inside = buckets.counts[n] - below
    value = lower + (upper - lower) * ((rank - below) / inside if inside > 0 else 0.0)
    return Estimate(value, buckets.count)


def share_within(limit: float, buckets: Buckets, *, fewest: float = 1) -> Share | Missing:
    """Share of the observations that are at most `limit`: exact where a bucket ends there, else from both neighbours.

    `at_least` is the pessimistic one: what lies in the bucket that `limit` cuts counts as above it.
    """
    if buckets.count <= 0 or buckets.count < fewest:
        return Missing(f"{buckets.count:g} observations in the window; a share wants {max(fewest, 1):g}")
    below = bisect_right(buckets.bounds, limit) - 1
    at_least = buckets.counts[below] if below >= 0 else 0.0
    aligned = below >= 0 and buckets.bounds[below] == limit
    at_most = at_least if aligned else buckets.counts[below + 1]
    return Share(at_least / buckets.count, at_most / buckets.count, buckets.count)


def mean(total: float, count: float) -> Estimate | Missing:
    """`total` / `count`: of a histogram's sum and count, both as grown over one window."""
    if count <= 0:
        return Missing("no observations in the window")
    return Estimate(total / count, count)
