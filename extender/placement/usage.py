"""What is left of one GPU when its holders have theirs."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from extender.placement.allocation import Grant, MigSlice, MpsShare, WholeGpu
from extender.placement.masks import tables
from extender.placement.model import NO_PART, Gpu, Mode
from extender.placement.profile import Placement

# Clients of one MPS server, Volta and later; 60 from CUDA 13.1 on with fewer connections each.
# Source: NVIDIA Multi-Process Service documentation, "Limitations".
MPS_CLIENTS: Final = 48


def mps_clients(gpu: Gpu) -> int:
    """Of one MPS server on a device. Of a MIG instance: as many less as it has less compute.

    Source: NVIDIA MIG User Guide, "CUDA Concurrency Mechanisms".
    """
    return max(1, MPS_CLIENTS * gpu.part.slices // gpu.part.all_slices)


@dataclass(frozen=True, slots=True)
class Held:
    """One grant in somebody's hands."""

    uid: str
    tenant: str
    grant: Grant


@dataclass(frozen=True, slots=True)
class Usage:
    """What a GPU can still give: MIG by its state, MPS by memory, compute and clients; and whether all is free."""

    state: int = 0  # in the tables of its model; MIG only
    free_mib: int = 0  # MPS only, as the next two
    free_pct: int = 0
    clients_left: int = 0
    tenants: frozenset[str] = frozenset()
    whole: bool = False


def usage(gpu: Gpu, held: Sequence[Held]) -> tuple[Usage, tuple[str, ...]]:
    """What is left, and every contradiction between holders. What is in doubt is taken: never given a second time."""
    if gpu.mode is Mode.MIG:
        return _mig(gpu, held)
    return _shared(gpu, held) if gpu.mode is Mode.MPS else _exclusive(gpu, held)


def _strangers(gpu: Gpu, held: Iterable[Held], known: tuple[type[Grant], ...]) -> list[str]:
    return [
        f"pod {h.uid} holds {gpu.uuid} as {h.grant.mode}, but the GPU is in mode {gpu.mode}"
        for h in held
        if not isinstance(h.grant, known)
    ]


def _mig(gpu: Gpu, held: Sequence[Held]) -> tuple[Usage, tuple[str, ...]]:
    grid = tables(gpu.model)
    conflicts = _strangers(gpu, held, (MigSlice,))
    slices = [(h.uid, h.grant.placement) for h in held if isinstance(h.grant, MigSlice)]
    foreign = [i.placement for i in gpu.instances if not i.managed]
    owners: dict[Placement, str] = {}
    state = grid.empty
    for uid, placement in slices:
        if placement in owners:
            conflicts.append(f"pods {owners[placement]} and {uid} both hold {placement} of {gpu.uuid}")
            continue
        owners[placement] = uid
        after = grid.after(state, placement)
        if after is None:
            conflicts.append(f"pod {uid} holds {placement} of {gpu.uuid}, which is no place beside its other holders")
        state = grid.covering(owners) if after is None else after
    for placement in foreign:
        if placement not in owners and grid.after(state, placement) is None:
            conflicts.append(f"instance {placement} of {gpu.uuid} is where a pod holds another")
    if foreign or conflicts:
        state = grid.covering([*owners, *foreign])
    if len(slices) < len(held):
        state = grid.full
    return Usage(state=state), tuple(conflicts)


def _shared(gpu: Gpu, held: Sequence[Held]) -> tuple[Usage, tuple[str, ...]]:
    conflicts = _strangers(gpu, held, (MpsShare, WholeGpu))
    shares = [h.grant for h in held if isinstance(h.grant, MpsShare)]
    tenants = frozenset(h.tenant for h in held)
    free_mib = gpu.memory_mib - sum(s.memory_mib for s in shares)
    free_pct = 100 - sum(s.compute_pct for s in shares)
    if free_mib < 0 or free_pct < 0:
        conflicts.append(f"shares of {gpu.uuid} are {-min(free_mib, 0)} MiB and {-min(free_pct, 0)} % more than it has")
    if len(tenants) > 1:
        conflicts.append(f"{gpu.uuid} is shared by tenants {', '.join(sorted(tenants))}")
    if len(shares) < len(held):
        if len(held) > 1:
            conflicts.append(f"{gpu.uuid} is held whole and by others: pods {', '.join(sorted({h.uid for h in held}))}")
        free_mib = free_pct = 0
    left = Usage(
        free_mib=max(free_mib, 0),
        free_pct=max(free_pct, 0),
        clients_left=max(mps_clients(gpu) - len(shares), 0) if len(shares) == len(held) else 0,
        tenants=tenants,
        whole=not held and gpu.part == NO_PART,
    )
    return left, tuple(conflicts)


def _exclusive(gpu: Gpu, held: Sequence[Held]) -> tuple[Usage, tuple[str, ...]]:
    conflicts = _strangers(gpu, held, (WholeGpu,))
    if len(held) > 1:
        conflicts.append(f"{gpu.uuid} is held whole by pods {', '.join(sorted({h.uid for h in held}))}")
    return Usage(whole=not held), tuple(conflicts)
