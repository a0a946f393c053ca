"""Pressure: how full what a pod cannot grow beyond is. 1 is full; above 1 it did not fit."""

from collections.abc import Mapping

from scaler.signals.reading import Missing, Reading, Sample


def kv_pressure(kv_usage: Reading, preemptions_per_s: Reading, *, ceiling: float) -> Reading:
    """Caches in use (sum over pods of shares) over what they may be filled to: `ceiling` each, above 0.

    A preemption says that a cache was full, whatever the instant of the scrape says: the pressure is then 1 at least.
    Unknown preemptions say nothing. Missing where the usage is not known, of no pods or of an unknown number of them.
    """
    if isinstance(kv_usage, Missing):
        return kv_usage
    if not kv_usage.pods:
        return Missing("no pod tells how full its KV cache is")
    share = kv_usage.value / (kv_usage.pods * ceiling)
    if isinstance(preemptions_per_s, Sample) and preemptions_per_s.value > 0:
        share = max(1.0, share)
    return Sample(share, kv_usage.at_s, kv_usage.pods)


def memory_pressure(used_mib: Mapping[str, float], limit_mib: Mapping[str, float], at_s: float) -> Reading:
    """The highest used / limit of all pods that tell both; the fullest pod is killed, not the mean one.

    Pods without a limit cannot be full. `used_mib`, `limit_mib`: by pod; limits above 0.
    """
    shares = [used / limit_mib[pod] for pod, used in used_mib.items() if pod in limit_mib]
    if not shares:
        return Missing("no pod tells both its memory and its limit")
    return Sample(max(shares), at_s, len(shares))
