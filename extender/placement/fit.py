"""How a shape becomes a concrete part of a GPU: the smallest MIG profile, or the size of an MPS share."""

from functools import lru_cache

from extender.placement.demand import Shape
from extender.placement.model import NO_PART, GpuModel, Mode, Part


def offered(model_name: str, shape: Shape) -> bool:
    """Whether the shape allows this GPU model."""
    return not shape.models or model_name.lower() in shape.models


@lru_cache(maxsize=4096)
def profile_for(model: GpuModel, shape: Shape) -> int | None:
    """Index of the profile that a shape means on a GPU model; None if it has none that is enough.

    By name, or the smallest plain profile (memory slices, then compute slices) with the memory and compute asked for.
    Compute is a percentage of the GPU: a profile gives slices / all slices of the model.
    """
    if Mode.MIG not in shape.modes or not offered(model.name, shape):
        return None
    if shape.profile is not None:
        return next((k for k, p in enumerate(model.profiles) if p.name == shape.profile), None)
    enough = [
        (p.size, p.slices, p.memory_mib, k)
        for k, p in enumerate(model.profiles)
        if p.plain and p.memory_mib >= shape.memory_mib and 100 * p.slices >= shape.compute_pct * model.compute_slices
    ]
    return min(enough)[3] if enough else None


def share_mib(shape: Shape, memory_mib: int, part: Part = NO_PART) -> int:
    """Memory of a share on a device of `memory_mib`: what is asked for, else its part of the compute."""
    return shape.memory_mib or max(1, memory_mib * share_pct(shape, memory_mib, part) // 100)


def share_pct(shape: Shape, memory_mib: int, part: Part = NO_PART) -> int:
    """Compute of a share in percent of a device of `memory_mib`: what is asked for, else its part of the memory.

    Rounded up. A demand counts in percent of a whole GPU; 100 percent of a MIG instance are its slices of that.
    """
    if not shape.compute_pct:
        return -(-100 * shape.memory_mib // memory_mib)
    return -(-shape.compute_pct * part.all_slices // part.slices)
