"""The workload mix: that of the extender's rollout."""

from extender.placement.spr.mix import Mix, mix_of_counts

__all__ = ["Mix", "mix_of_counts"]
