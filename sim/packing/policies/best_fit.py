"""BestFit: the node with the least left after the pod, CPU and GPU weighed equally.

`BestFitScore` of hkust-adsl/kubernetes-scheduler-simulator@8f3d641. Its rescaling to 0..100 by minimum and maximum is
left out: only the maximum maps to 100, so the choice is the same.
"""

from extender.placement.ranking.dot_prod import CPU_SCALE_MILLI, GPU_SCALE_MILLI
from sim.packing.jit import compiled


@compiled
def best_fit_score(cpu_left_milli: int, gpu_left_milli: int, cpu_milli: int, request_milli: int) -> int:
    """int(100 (1 - x)), x = (CPU left after / 128,000 + GPU left after / 8,000) / 2."""
    left = 0.5 * (cpu_left_milli - cpu_milli) / CPU_SCALE_MILLI
    left += 0.5 * (gpu_left_milli - request_milli) / GPU_SCALE_MILLI
    return int(100.0 * (1.0 - left))
