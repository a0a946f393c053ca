"""How long requests wait, and what latencies of ended requests do not tell: those that have not ended.

Histograms of latency hold only requests that ended (or had a first token). Under overload the late ones are still in
line, and the quantiles look well until they come out. What waits now bounds the truth from below.
"""

from dataclasses import dataclass, replace

from scaler.signals.histogram import Buckets, Estimate, quantile, share_within
from scaler.signals.reading import Missing, Reading, Sample


@dataclass(frozen=True, slots=True)
class Ages:
    """Requests that have not ended. `number` of them are in line, the oldest for `oldest_s`, the others in between.

    First come, first served at a steady pace spreads their ages evenly from 0 to the oldest. `running`: in service, of
    unknown age.
    """

    number: float
    oldest_s: float
    running: float = 0.0

    def older_than(self, age_s: float) -> float:
        """How many are older than `age_s`, 0 or more. Law: never rises with `age_s`."""
        if age_s >= self.oldest_s:
            return 0.0
        return self.number * (1 - age_s / self.oldest_s)


def oldest_wait(exported: Reading, waiting: Reading, ended_per_s: Reading) -> Reading:
    """Age [s] of the request that has waited longest: as exported, else waiting / pace.

    The latter is what the line needs at this pace, and no less than the oldest's age while the line grows or stands.
    0 where nothing waits; missing where requests wait and none ends: then nobody knows.
    """
    if isinstance(exported, Sample):
        return exported
    if isinstance(waiting, Missing):
        return waiting
    if waiting.value == 0:
        return waiting
    if isinstance(ended_per_s, Missing):
        return ended_per_s
    if ended_per_s.value == 0:
        return Missing(f"{waiting.value:g} requests wait and none has ended within the window")
    at_s = min(waiting.at_s, ended_per_s.at_s)
    return Sample(waiting.value / ended_per_s.value, at_s, _fewest(waiting.pods, ended_per_s.pods))


def _fewest(*pods: int | None) -> int | None:
    return min((known for known in pods if known is not None), default=None)


def corrected_quantile(p: float, ended: Buckets, ages: Ages, *, fewest: float = 1) -> Estimate | Missing:
    """A lower bound of quantile `p` of the latency of all requests, ended or not.

    At most a share 1 - p is later than the quantile, so it is at least every t with
    (ended later than t + still in line for longer than t) / (all, those in service too) >= 1 - p.
    In-service requests count as early, which they may not be: hence a bound. Saturated as the quantile of those that
    ended, or where it is the open bucket that holds it up.
    Law: never below the quantile of those that ended; equal to it while nothing waits; never falls as more wait longer.
    """
    plain = quantile(p, ended, fewest=fewest)
    if ages.number <= 0:
        return plain
    everyone = ended.count + ages.number + ages.running
    if everyone < fewest:
        return plain
    low, high = 0.0, max(ages.oldest_s, ended.bounds[-2] if len(ended.bounds) > 1 else 0.0)
    for _ in range(60):
        middle = (low + high) / 2
        late = _later_than(middle, ended) + ages.older_than(middle)
        low, high = (middle, high) if late >= (1 - p) * everyone else (low, middle)
    if isinstance(plain, Missing):
        return Estimate(low, everyone)
    return replace(plain, value=max(plain.value, low), count=everyone)


def _later_than(t: float, ended: Buckets) -> float:
    share = share_within(t, ended)
    return 0.0 if isinstance(share, Missing) else (1 - share.at_most) * ended.count


def corrected_attainment(limit_s: float, ended: Buckets, ages: Ages, *, fewest: float = 1) -> Estimate | Missing:
    """Share of requests within `limit_s`, those that are late already counted as late. Law: never above the plain one.

    Requests that are not late yet are left out: what becomes of them is not known.
    """
    late = ages.older_than(limit_s)
    everyone = ended.count + late
    if everyone <= 0 or everyone < fewest:
        return Missing(f"{everyone:g} requests ended or are late; a share wants {max(fewest, 1):g}")
    share = share_within(limit_s, ended)
    within = 0.0 if isinstance(share, Missing) else share.at_least * ended.count
    return Estimate(within / everyone, everyone)
