"""From what the extender granted to how the engine runs there."""

from dataclasses import dataclass
from fractions import Fraction
from types import MappingProxyType
from typing import Final, Literal

from extender.placement.allocation import MigSlice, MpsShare, WholeGpu
from extender.placement.model import Allocation, GpuModel
from sim.serving.pool import NO_LIMIT, Shape
from sim.serving.times import BLOCK_TOKENS, Engine, Times

# How much slower each of k engines reads memory when they share a GPU through MPS: 1 + this x (k - 1). `table`: time
# per token of small batches (ParvaGPU's profiles on A100, SC 2024: 1.06 for 2 of batch 1, 1.24 of batch 8; two Qwen3 4B
# on an A100: + 19.5 %). `pessimistic`: all of them read all the time, so that each has its part of the bandwidth.
MPS_SLOWDOWN: Final = MappingProxyType({"none": Fraction(0), "table": Fraction(1, 5), "pessimistic": Fraction(1)})
SWITCHES_LOSE: Final = Fraction(1, 20)  # to switch from one to the next; an estimate, no measurement
Interference = Literal["none", "table", "pessimistic"]


@dataclass(frozen=True, slots=True)
class Sharing:
    """What engines that share a GPU without slices do to one another.

    `mps`: they run beside each other; `time-slicing`: by turns, each alone. All shares of a GPU are taken to be in use.
    """

    by: Literal["mps", "time-slicing"] = "mps"
    interference: Interference = "table"

    def slowed(self, times: Times, compute: Fraction) -> Times:
        """On this part of the compute, the other parts being used as well."""
        if self.by == "time-slicing":
            turns = 1 / compute
            lost = 0 if self.interference == "none" else SWITCHES_LOSE
            return times.on_share(1 / (turns * (1 + lost)), 1 / (turns * (1 + lost)))
        others = 1 / compute - 1
        return times.on_share(1 / (1 + MPS_SLOWDOWN[self.interference] * others), compute)


ALONE_OR_MPS: Final = Sharing()


class EngineFitError(ValueError):
    """The engine's weights have no room in what its pod was given."""


@dataclass(frozen=True, slots=True)
class Limits:
    """The engine's own options."""

    max_num_seqs: int
    max_num_batched_tokens: int
    max_model_len: int
    gpu_memory_utilization: float
    max_requests: int = NO_LIMIT


def share_of(allocation: Allocation, gpu: GpuModel) -> Fraction:
    """GPUs that the pod takes from others: of a slice the larger of its parts of memory and of compute."""
    total = Fraction(0)
    for grant in allocation.grants():
        match grant:
            case MigSlice():
                memory, compute = _mig_parts(grant, gpu)
                total += max(memory, compute)
            case MpsShare():
                total += max(Fraction(grant.memory_mib, gpu.memory_mib), Fraction(grant.compute_pct, 100))
            case WholeGpu():
                total += 1
    return total


def shape_of(
    engine: Engine, limits: Limits, allocation: Allocation, gpu: GpuModel, sharing: Sharing = ALONE_OR_MPS
) -> Shape:
    """Raises `EngineFitError`."""
    grant = allocation.grants()[0]
    times, memory_mib = engine.times, gpu.memory_mib
    match grant:
        case MigSlice():
            profile = gpu.profile(grant.profile)
            if profile is None:
                raise EngineFitError(f"{gpu.name} has no profile {grant.profile}")
            times, memory_mib = times.on_share(*_mig_parts(grant, gpu)), profile.memory_mib
        case MpsShare():
            times = sharing.slowed(times, Fraction(grant.compute_pct, 100))
            memory_mib = grant.memory_mib
        case WholeGpu():
            pass
    blocks = engine.kv_blocks(memory_mib, limits.gpu_memory_utilization)
    if blocks < 1:
        raise EngineFitError(
            f"{engine.name} needs {engine.weights_mib + engine.overhead_mib} MiB for weights and runtime and more for "
            f"its KV cache; {memory_mib} MiB x {limits.gpu_memory_utilization:g} have no room for it"
        )
    context = min(limits.max_model_len, blocks * BLOCK_TOKENS)
    return Shape(times, blocks, limits.max_num_seqs, limits.max_num_batched_tokens, context, limits.max_requests)


def _mig_parts(grant: MigSlice, gpu: GpuModel) -> tuple[Fraction, Fraction]:
    """Memory (and its bandwidth) and compute, as parts of the whole GPU's."""
    profile = gpu.profile(grant.profile)
    units = max((p.size for p in gpu.profiles), default=0)
    if profile is None or not units or not gpu.compute_slices:
        raise EngineFitError(f"{gpu.name} has no profile {grant.profile}")
    return Fraction(profile.size, units), Fraction(profile.slices, gpu.compute_slices)
