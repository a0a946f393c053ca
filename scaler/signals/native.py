"""Native histograms: exponential buckets, as Prometheus 3 keeps and returns them.

Buckets of schema s are (b^(i-1), b^i] with b = 2^(2^-s), s from -4 to 8; around 0 one zero bucket [-threshold,
threshold]; schema -53 has bounds of its own. Sources: prometheus/prometheus v3 model/histogram/generic.go
(`getBound`), promql/quantile.go (`HistogramQuantile`, `HistogramFraction`), docs/querying/api.md (native histograms).
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from math import exp, inf, isclose, isfinite, log, log2

from scaler.signals.histogram import Estimate
from scaler.signals.reading import Missing

CUSTOM_BOUNDS = -53


@dataclass(frozen=True, slots=True)
class Span:
    """`length` buckets in a row, `offset` after the end of the span before (of the first: its index)."""

    offset: int
    length: int


@dataclass(frozen=True, slots=True)
class Bucket:
    """`count` observations between `lower` and `upper`. `even`: spread evenly, not by the powers of the schema."""

    lower: float
    upper: float
    count: float
    even: bool = False


@dataclass(frozen=True, slots=True)
class Native:
    """`buckets`: ascending, without those that are empty; `total`: the sum of all observations."""

    buckets: tuple[Bucket, ...]
    total: float

    @property
    def count(self) -> float:
        return sum(bucket.count for bucket in self.buckets)


def decoded(rows: Iterable[Sequence[object]], total: float) -> Native | Missing:
    """From the HTTP API's `buckets`: [boundary rule, lower, upper, count], the numbers as text.

    Missing where a row is not of that form. Rule 3 (closed at both ends) is the zero bucket, which is even, and so are
    buckets whose bounds no schema has: those of a classic histogram that Prometheus has converted (schema -53).
    """
    buckets = []
    for row in rows:
        try:
            rule, lower, upper, count = (float(str(field)) for field in row)
        except ValueError:
            return Missing(f"not a bucket of a native histogram: {str(row)[:80]}")
        buckets.append(Bucket(lower, upper, count, even=rule == 3 or not _is_of_a_schema(lower, upper)))
    return _native(buckets, total)


def _is_of_a_schema(lower: float, upper: float) -> bool:
    """Whether the bounds are b^(i-1) and b^i, b = 2^(2^-s), for whole i and a whole s from -4 to 8; or so below 0."""
    lower, upper = (-upper, -lower) if upper < 0 else (lower, upper)
    if not 0 < lower < upper < inf:
        return False
    schema = round(-log2(log2(upper / lower)))
    width = 2.0**-schema
    return -4 <= schema <= 8 and all(
        isclose(log2(bound) / width, round(log2(bound) / width), abs_tol=1e-6) for bound in (lower, upper)
    )


def from_spans(
    schema: int,
    spans: Sequence[Span],
    deltas: Sequence[float],
    *,
    zero_threshold: float,
    zero_count: float,
    total: float,
) -> Native | Missing:
    """From the wire: positive spans and the difference of each bucket's count to the one before it."""
    if not -4 <= schema <= 8:
        return Missing(f"native histogram of schema {schema}; known are -4 to 8")
    if sum(span.length for span in spans) != len(deltas):
        return Missing(f"native histogram with {len(deltas)} counts for {sum(span.length for span in spans)} buckets")
    per_doubling = 2.0**schema
    buckets = [Bucket(-zero_threshold, zero_threshold, zero_count, even=True)]
    count = 0.0
    for index, delta in zip(_indices(spans), deltas, strict=True):
        count += delta
        buckets.append(Bucket(2.0 ** ((index - 1) / per_doubling), 2.0 ** (index / per_doubling), count))
    return _native(buckets, total)


def _indices(spans: Sequence[Span]) -> Iterator[int]:
    index = 0
    for span in spans:
        index += span.offset
        yield from range(index, index + span.length)
        index += span.length


def _native(buckets: Iterable[Bucket], total: float) -> Native | Missing:
    kept = tuple(sorted((b for b in buckets if b.count > 0), key=lambda bucket: bucket.upper))
    if not all(isfinite(bucket.count) and bucket.lower <= bucket.upper for bucket in kept):
        return Missing("native histogram with a bucket that counts no number, or ends before it begins")
    return Native(kept, total)


def quantile(p: float, native: Native, *, fewest: float = 1) -> Estimate | Missing:
    """The size that a share `p` of the observations does not exceed; by powers within a bucket, evenly in the zero one.

    The zero bucket counts from 0 where nothing is negative: sizes and times are not. `saturated` in a bucket without an
    upper bound. Missing of fewer than `fewest` observations. Law: between the bucket's bounds; never falls with `p`.
    """
    count = native.count
    if count <= 0 or count < fewest:
        return Missing(f"{count:g} observations in the window; a quantile wants {max(fewest, 1):g}")
    rank, below = p * count, 0.0
    for bucket in native.buckets[:-1]:
        if below + bucket.count >= rank:
            break
        below += bucket.count
    else:
        bucket = native.buckets[-1]
    if bucket.upper == inf:
        return Estimate(max(bucket.lower, 0.0), count, saturated=True)
    part = min(1.0, max(0.0, (rank - below) / bucket.count))
    return Estimate(_at(bucket, part, native), count)


def share_within(limit: float, native: Native, *, fewest: float = 1) -> Estimate | Missing:
    """Share of the observations that are at most `limit`, interpolated as `quantile` does."""
    count = native.count
    if count <= 0 or count < fewest:
        return Missing(f"{count:g} observations in the window; a share wants {max(fewest, 1):g}")
    within = sum(bucket.count * _part_within(limit, bucket, native) for bucket in native.buckets)
    return Estimate(min(1.0, within / count), count)


def _lower(bucket: Bucket, native: Native) -> float:
    return max(0.0, bucket.lower) if native.buckets[0] is bucket and bucket.even else bucket.lower


def _at(bucket: Bucket, part: float, native: Native) -> float:
    lower = _lower(bucket, native)
    if bucket.even or lower <= 0:
        return lower + (bucket.upper - lower) * part
    return lower * exp(part * log(bucket.upper / lower))


def _part_within(limit: float, bucket: Bucket, native: Native) -> float:
    lower = _lower(bucket, native)
    if limit >= bucket.upper:
        return 1.0
    if limit <= lower or bucket.upper == inf:
        return 0.0
    if bucket.even or lower <= 0:
        return (limit - lower) / (bucket.upper - lower)
    return log(limit / lower) / log(bucket.upper / lower)
