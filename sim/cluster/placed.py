"""From what the extender granted to how the engine runs there."""

from dataclasses import dataclass
from fractions import Fraction

from extender.placement.allocation import MigSlice, MpsShare, WholeGpu
from extender.placement.model import Allocation, GpuModel
from sim.serving.pool import NO_LIMIT, Shape
from sim.serving.times import BLOCK_TOKENS, Engine

# Engines that share a GPU through MPS slow each other: time per token x (1 + 0.2 (k - 1)) for k of them (ParvaGPU data;
# Qwen3-4B on A100 with 2 shares of 60 %: + 19.5 %).
MPS_SLOWDOWN = Fraction(1, 5)


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


def shape_of(engine: Engine, limits: Limits, allocation: Allocation, gpu: GpuModel) -> Shape:
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
            others = Fraction(100, grant.compute_pct) - 1
            times = times.on_share(1 / (1 + MPS_SLOWDOWN * others), Fraction(grant.compute_pct, 100))
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
