"""Replicas by KV cache: the memory of the sequences in flight, which runs out before compute where they are long."""

from dataclasses import dataclass
from typing import ClassVar

from scaler.policy.base import Recommendation, View, recommend, replicas_for, unknown
from scaler.signals.pressure import kv_pressure
from scaler.signals.reading import ReadingName, Sample


@dataclass(frozen=True, slots=True, kw_only=True)
class KvCache:
    """ceil(KV caches in use / `share`), where `share` of its cache is what one replica may fill.

    Where requests were put back for want of cache, no fewer than are seen: the instant of a scrape hides full caches.
    A stock, not a rate: it says how much is held, never how fast the engine works, so that it is a reason to have more
    replicas and alone says little about fewer (llm-d/llm-d-autoscaling issue 1500); combine it.
    """

    rule: ClassVar[str] = "kv"
    share: float

    @property
    def reads(self) -> frozenset[str]:
        return frozenset({ReadingName.KV_USAGE, ReadingName.PREEMPTIONS_PER_S})

    def recommend(self, view: View) -> Recommendation:
        used = view.total(ReadingName.KV_USAGE)
        if used.at_least is None:
            return unknown(self.rule, view, used.doubts)
        want = replicas_for(used.at_least, self.share)
        why = f"{used.at_least:.3g} KV caches in use, {self.share:g} of one a replica"
        usage, preemptions = view.readings[ReadingName.KV_USAGE], view.readings[ReadingName.PREEMPTIONS_PER_S]
        pressure = kv_pressure(usage, preemptions, ceiling=self.share)
        if isinstance(pressure, Sample) and pressure.pods is not None:
            full = replicas_for(pressure.value, 1 / pressure.pods)
            if full > want:
                want, why = full, f"{why}, and requests were put back for want of it on {pressure.pods} pods"
        return recommend(self.rule, view, used, want, why)
