"""The production decision in the fluid pool: `scaler.policy.ahead` sees what a scaler would, and decides."""

from dataclasses import dataclass, field

from scaler.forecast.headroom import NOTHING_LEARNT, Learnt, Observed
from scaler.policy.ahead import Ahead, Pressure
from sim.fluid.runs import Case, Outcome, run_stepwise
from sim.fluid.seen import Seen
from sim.oracle.bounds import TARGET


@dataclass(slots=True)
class Scaler:
    """Carries what the policy has learnt from tick to tick."""

    policy: Ahead
    learnt: Learnt = field(default=NOTHING_LEARNT)

    def wanted(self, seen: Seen) -> float:
        observed = Observed(seen.now_s, seen.work_60s, seen.work_30s, seen.arrived_15s, seen.late_15s)
        now = Pressure(
            queued=seen.queued,
            running=seen.running,
            backlog_s=seen.queued_work_s,
            current=int(seen.ready + seen.pending),
        )
        wish, self.learnt = self.policy.recommend(observed, now, self.learnt)
        return float(wish.replicas or 1)


def outcome_of_production(case: Case, cold_start_s: float) -> Outcome:
    """`cold_start_s` is known to the policy as a median, as it would be from the pods' own start times."""
    policy = Ahead(cold_start_s=cold_start_s, slots=case.service.slots, late_share=1.0 - TARGET)
    return run_stepwise(case, Scaler(policy).wanted)
