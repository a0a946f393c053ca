"""The production decision in the fluid pool."""

from sim.fluid.runs import Case, Outcome, run_stepwise


def outcome_of_production(case: Case, cold_start_s: float) -> Outcome:
    del cold_start_s
    return run_stepwise(case, lambda seen: seen.work_60s * 1.4 + 1)
