"""DotProd: the node whose free resources point least in the direction of the pod's request.

`DotProductScore` with `-dimext merge -norm max` of hkust-adsl/kubernetes-scheduler-simulator@8f3d641.
"""

from sim.packing.jit import compiled
from sim.packing.policies.best_fit import CPU_SCALE_MILLI, GPU_SCALE_MILLI


@compiled
def dot_prod_score(cpu_left_milli: int, gpu_left_milli: int, cpu_milli: int, request_milli: int) -> int:
    """int(100 (1 - d)), d = (CPU left x CPU asked / 128,000^2 + GPU left x GPU asked / 8,000^2) / 2."""
    product = cpu_left_milli / CPU_SCALE_MILLI * cpu_milli / CPU_SCALE_MILLI
    product += gpu_left_milli / GPU_SCALE_MILLI * request_milli / GPU_SCALE_MILLI
    return int(100.0 * (1.0 - product / 2.0))
