"""What a worse joined set of whole GPUs costs, so that nodes can be compared, in the unit of the scorer.

Several GPUs of one pod work on one model and exchange every layer's output twice. What they lose by a slower path is
that part of them: two GPUs that work at half speed are worth as much less as one GPU of that memory is.
"""

from typing import Final

import numpy as np
from numpy.typing import NDArray

from extender.placement.fleet import Fleet
from extender.placement.links import Tier
from extender.placement.room import most_joined

#: Part of their work that GPUs lose by their weakest join. 0.4 for PCIe: 8,192 tokens of a Llama 3 70B prompt (80
#: layers of 8,192 values in bf16, 2 x 70e9 operations a token) on four A100 or H100 at 60 % of their peak take 1.53 s
#: or 0.48 s, and their ring all-reduces of 32 GB a GPU 0.11 or 0.07 s over NVLink (300 and 450 GB/s a direction) and
#: 1.01 or 0.50 s over PCIe (32 and 64 GB/s): 0.35 to 0.44 of the work of a second is lost. Peaks and speeds are those
#: of sim/serving/specs/gpus.toml, computed and not measured. Farther is worse; by how much differs from board to board,
#: and the two steps of 0.05 say only which goes first.
LOSS: Final = {Tier.NVLINK: 0.0, Tier.PCIE: 0.4, Tier.NUMA: 0.45, Tier.FAR: 0.5}


def link_price(
    fleet: Fleet, fits: NDArray[np.bool_], count: int, *, in_gib: bool
) -> NDArray[np.float64]:  # (w, n) -> (n,)
    """What the best joined `count` of the GPUs that fit lose, beyond what they lose on the best node.

    0 where there are not so many. `in_gib`: of memory; else in GPUs, which most scorers count.
    """
    tiers = (most_joined(fleet, fits) >= count).sum(axis=0)  # of FAR to NVLINK: those that are reached
    reached = tiers > 0
    if not reached.any():
        return np.zeros(len(tiers))
    lost = np.array([0.0, *(LOSS[tier] for tier in Tier)])[tiers]
    each = float(fleet.total_mib[fits].mean()) / 1024 if in_gib else 1.0
    return np.where(reached, (lost - lost[reached].min()) * count * each, 0.0)
