"""From what the extender granted to how the engine runs there."""

from dataclasses import dataclass
from fractions import Fraction
from math import floor, isqrt
from typing import Final, Literal

from extender.placement.allocation import MigSlice, MpsShare, WholeGpu
from extender.placement.model import Allocation, GpuModel
from sim.serving.pool import NO_LIMIT, Shape
from sim.serving.times import BLOCK_TOKENS, Engine, Times

# What one neighbour that never pauses costs, in parts of the time alone; bench/gpu on an H100, docs/sharing.md.
MPS_COSTS: Final = Fraction(13, 20)  # decoding under MPS with the compute shared out; 0.52 to 0.75
SWITCHES_LOSE: Final = Fraction(7, 100)  # of time-slicing, on top of the neighbours' turns; 0.00 to 0.11
FINE: Final = 1 << 32  # roots are taken in whole numbers of 1/FINE: the same on every machine
Interference = Literal["none", "table", "pessimistic"]


@dataclass(frozen=True, slots=True)
class Sharing:
    """What engines that share a GPU without slices do to one another.

    `mps`: they run beside each other; `time-slicing`: by turns, each alone. All shares of a GPU are taken to be in use
    by engines like this one. `interference`: `table`, as measured, as far as the neighbours keep the GPU busy;
    `pessimistic`, as if they never paused and each had but its part of the bandwidth; `none`, not at all.
    """

    by: Literal["mps", "time-slicing"] = "mps"
    interference: Interference = "table"

    def slowed(self, times: Times, compute: Fraction) -> Times:
        """On this part of the compute, the other parts being used as well."""
        others = 1 / compute - 1
        if self.by == "mps":
            return times.on_share(1 / self._memory(times, others), compute)
        turns = self._turns(times, others)
        return times.on_share(1 / turns, 1 / turns)

    def _memory(self, times: Times, others: Fraction) -> Fraction:
        match self.interference:
            case "none":
                return Fraction(1)
            case "table":
                return slowdown(times, MPS_COSTS * others)
            case "pessimistic":
                return 1 + others

    def _turns(self, times: Times, others: Fraction) -> Fraction:
        lost = SWITCHES_LOSE * (1 + others) if others else Fraction(0)
        match self.interference:
            case "none":
                return 1 + others
            case "table":
                return slowdown(times, others + lost)
            case "pessimistic":
                return 1 + others + lost


def slowdown(times: Times, cost: Fraction) -> Fraction:
    """What iterations take, in parts of the time alone, beside neighbours of the same kind.

    `cost`: what they would add if they never left the GPU alone. They do, while their hosts work: with m on the GPU and
    h on the host, s = 1 + cost x s m / (s m + h), which is a quadratic equation.
    """
    m, h = times.iteration_ps(1, 0) - times.fixed, times.fixed
    b = (1 + cost) * m - h
    root = Fraction(isqrt(floor((b * b + 4 * m * h) * FINE * FINE)), FINE)
    return (b + root) / (2 * m)


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
            bandwidth, slices = _mig_parts(grant, gpu)
            sms = Fraction(profile.sms, gpu.sms) if profile.sms and gpu.sms else slices
            times, memory_mib = times.on_share(bandwidth, sms), profile.memory_mib
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
