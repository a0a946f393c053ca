"""Replicas for the demand at the time when they will be ready: learnt headroom over the highest demand of a hold."""

from dataclasses import dataclass
from typing import ClassVar, Final

from scaler.forecast.headroom import Learnt, Observed, learn
from scaler.policy.base import Recommendation, Step, replicas_for

FULL: Final = 0.95
"""Replicas are planned to be busy to this share: queues form before the last few per cent."""

ROUNDING: Final = 0.25
"""Replicas that rounding up adds on average come on top of the headroom: half of that is taken back."""

BACKLOG_S: Final = 60.0
"""What waits is to be worked off within this time."""

BUSY: Final = 0.9
"""Not lowered while the replicas that would be left had more than this share of their slots taken."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Pressure:
    """`queued`, `running`: requests now; `backlog_s`: replica-seconds of work that wait; `current`: replicas."""

    queued: float
    running: float
    backlog_s: float
    current: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Ahead:
    """ceil((headroom x highest demand of the hold - 0.25) / 0.95), at least what arrives now and what waits.

    `cold_start_s`: from decision to ready. `slots`: requests that one replica serves at once. `late_share`: of the
    requests, may be late.
    """

    rule: ClassVar[str] = "ahead"
    cold_start_s: float
    slots: float
    late_share: float = 0.01

    def recommend(self, seen: Observed, now: Pressure, learnt: Learnt) -> tuple[Recommendation, Learnt]:
        """What to have, and what to remember for the next time."""
        learnt = learn(learnt, seen, cold_start_s=self.cold_start_s, late_share=self.late_share)
        hold_s, times = learnt.headroom.hold_s, learnt.headroom.times
        highest = learnt.highest(seen.at_s - hold_s, seen.at_s) or 0.0
        want = max(1, replicas_for(times * highest - ROUNDING, FULL))
        why = f"{times:.3g} x {highest:.4g} replicas' demand, the highest of {hold_s:g} s, {FULL:.0%} busy"
        steps = [Step(self.rule, now.current, want, why)]

        needs = replicas_for(seen.fast + now.backlog_s * FULL / BACKLOG_S, FULL)
        if needs > want:
            why = f"{seen.fast:.4g} replicas' demand arrives, {now.backlog_s:.4g} s of work wait"
            steps.append(Step("backlog", want, needs, why))
        least = max(want, needs)
        if now.current > least and (now.queued > 0.5 or now.running > BUSY * self.slots * max(1, now.current - 1)):
            why = f"{now.queued:.4g} requests wait, {now.running:.4g} run: the rest could not carry them"
            steps.append(Step("busy", least, now.current, why))
            least = now.current
        if now.current > least and learnt.known_s < hold_s:
            why = f"demand known for {learnt.known_s:g} s, lowered only after {hold_s:g} s"
            steps.append(Step("warm-up", least, now.current, why))
            least = now.current
        return Recommendation(replicas=least, steps=tuple(steps)), learnt
