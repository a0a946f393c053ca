"""The production decision in the fluid pool: what `policy: ahead` makes of its readings, from demand to answer."""

from dataclasses import dataclass, replace
from typing import Final

from scaler.forecast.headroom import Observed
from scaler.policy.ahead import Ahead, Pressure
from scaler.policy.stabilization import NO_PAST, Past, Windows, damp
from scaler.policy.tokens_ahead import recommend_and_learn
from sim.fluid.runs import Case, Outcome, run_stepwise
from sim.fluid.seen import Seen
from sim.oracle.bounds import TARGET

WINDOWS: Final = Windows(up_s=0.0, down_s=300.0, gap_s=60.0)
"""A trigger's defaults."""


@dataclass(slots=True)
class Scaler:
    """Carries the past from tick to tick. `arrived`, `late`: requests since an instant was last learnt from."""

    policy: Ahead
    past: Past = NO_PAST
    arrived: float = 0.0
    late: float = 0.0

    def wanted(self, seen: Seen) -> float:
        self.arrived += seen.arrived_15s
        self.late += seen.late_15s
        observed = Observed(seen.now_s, seen.work_60s, seen.work_60s, self.arrived, self.late)
        now = Pressure(
            queued=seen.queued,
            running=seen.running,
            backlog_s=seen.queued_work_s,
            current=int(seen.ready + seen.pending),
        )
        wish, is_kept = recommend_and_learn(self.policy, observed, now, self.past.learnt)
        if is_kept and wish.learnt is not None:
            self.past = replace(self.past, learnt=wish.learnt)
            self.arrived = self.late = 0.0
        answer, _, self.past = damp(wish, WINDOWS, now_s=seen.now_s, past=self.past, current=now.current)
        return float(answer or 1)


def outcome_of_production(case: Case, cold_start_s: float) -> Outcome:
    """`cold_start_s` is known to the policy as a median, as it would be from the pods' own start times."""
    policy = Ahead(cold_start_s=cold_start_s, slots=case.service.slots, late_share=1.0 - TARGET)
    return run_stepwise(case, Scaler(policy).wanted)
