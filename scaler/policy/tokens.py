"""Replicas by token work: prompt tokens really computed and tokens generated, against what one replica can do."""

from dataclasses import dataclass
from typing import ClassVar

from scaler.policy.base import NOISE, Recommendation, View, recommend, replicas_for, unknown
from scaler.policy.queue import IN_FLIGHT
from scaler.signals.reading import ReadingName
from scaler.signals.signal import Signal

TOKENS = (ReadingName.PROMPT_TOKENS_PER_S, ReadingName.GENERATION_TOKENS_PER_S)


@dataclass(frozen=True, slots=True, kw_only=True)
class Tokens:
    """ceil((prompt + generation tokens/s) / `per_s_per_replica`); at 0 tokens/s, 1 while any request is in flight."""

    rule: ClassVar[str] = "tokens"
    per_s_per_replica: float

    @property
    def reads(self) -> frozenset[str]:
        return frozenset({*TOKENS, *IN_FLIGHT})

    def recommend(self, view: View) -> Recommendation:
        tokens = view.total(*TOKENS)
        if tokens.at_least is None:
            return unknown(self.rule, view, tokens.doubts)
        want = replicas_for(tokens.at_least, self.per_s_per_replica)
        why = f"{tokens.at_least:g} tokens/s, {self.per_s_per_replica:g} a replica"
        if want > 0:
            return recommend(self.rule, view, tokens, want, why)
        in_flight = view.total(*IN_FLIGHT)
        if in_flight.at_least is not None and in_flight.at_least > NOISE:
            want, why = 1, f"{why}, but {in_flight.at_least:g} requests wait or run"
        return recommend(self.rule, view, Signal(tokens.at_least, tokens.doubts + in_flight.doubts), want, why)
