"""What vLLM's server takes where nothing is asked for, by the hardware that it finds."""

from dataclasses import dataclass
from typing import Final

from sim.serving.known import Known
from sim.serving.times import BLOCK_TOKENS

LARGE_MIB: Final = 70 * 1024
CPU_BLOCK_TOKENS: Final = 128


@dataclass(frozen=True, slots=True)
class Defaults:
    max_num_seqs: int
    max_num_batched_tokens: int
    block_size: int


def defaults(known: Known) -> Defaults:
    """Source: vllm-project/vllm `vllm/engine/arg_utils.py` (get_batch_defaults), `vllm/platforms/cpu.py`."""
    if known.gpu_name == "cpu":
        return Defaults(128 * known.tensor_parallel, 2048 * known.tensor_parallel, CPU_BLOCK_TOKENS)
    if known.gpu["memory_mib"] >= LARGE_MIB and not known.gpu_name.startswith("a100"):
        return Defaults(1024, 8192, BLOCK_TOKENS)
    return Defaults(256, 2048, BLOCK_TOKENS)
