"""Replicas by KV cache: the memory of the sequences in flight, which runs out before compute where they are long."""

from dataclasses import dataclass
from typing import ClassVar

from scaler.policy.base import Recommendation, View, recommend, replicas_for, unknown
from scaler.signals.reading import ReadingName


@dataclass(frozen=True, slots=True, kw_only=True)
class KvCache:
    """ceil(KV caches in use / `share`), where `share` of its cache is what one replica may fill.

    A stock, not a rate: it says how much is held, never how fast the engine works, so that it is a reason to have more
    replicas and alone says little about fewer (llm-d/llm-d-autoscaling issue 1500); combine it.
    """

    rule: ClassVar[str] = "kv"
    share: float

    @property
    def reads(self) -> frozenset[str]:
        return frozenset({ReadingName.KV_USAGE})

    def recommend(self, view: View) -> Recommendation:
        used = view.total(ReadingName.KV_USAGE)
        if used.at_least is None:
            return unknown(self.rule, view, used.doubts)
        want = replicas_for(used.at_least, self.share)
        why = f"{used.at_least:.3g} KV caches in use, {self.share:g} of one a replica"
        return recommend(self.rule, view, used, want, why)
