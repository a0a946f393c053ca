"""Replicas by live agent sessions: a session keeps its place even while it waits for a tool or for its user."""

from dataclasses import dataclass
from typing import ClassVar

from scaler.policy.base import Recommendation, View, recommend, replicas_for, unknown
from scaler.signals.reading import ReadingName


@dataclass(frozen=True, slots=True, kw_only=True)
class Sessions:
    rule: ClassVar[str] = "sessions"
    per_replica: float

    @property
    def reads(self) -> frozenset[str]:
        return frozenset({ReadingName.SESSIONS})

    def recommend(self, view: View) -> Recommendation:
        sessions = view.total(ReadingName.SESSIONS)
        if sessions.at_least is None:
            return unknown(self.rule, view, sessions.doubts)
        want = replicas_for(sessions.at_least, self.per_replica)
        why = f"{sessions.at_least:g} sessions, {self.per_replica:g} a replica"
        return recommend(self.rule, view, sessions, want, why)
