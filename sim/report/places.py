"""Nodes and pods as the report has them: who held which part of which GPU, from when to when."""

from collections.abc import Sequence

from extender.placement.allocation import MigSlice, MpsShare
from extender.placement.model import GpuModel, Grant
from sim.cluster.deployment import Pod
from sim.report.model import Held, Node, PodLife
from sim.world import World


def nodes(world: World) -> list[Node]:
    """All that ever were there, in the order in which they came."""
    kinds = world.fleet.kinds
    return [
        Node(
            name=name,
            gpu=kinds[life.kind].gpu,
            gpus=kinds[life.kind].gpus_per_node,
            mode=kinds[life.kind].mode,
            from_s=round(float(life.from_s), 6),
            to_s=_rounded(life.to_s),
        )
        for name, life in world.fleet.lives.items()
    ]


def pods(world: World) -> list[PodLife]:
    """Of replicas; pods of others hold slices too, but are nobody's replicas."""
    return [_life(pod, world) for pod in world.pods]


def neighbours(world: World) -> list[PodLife]:
    """Of pods of others."""
    return [_life(pod, world) for pod in world.others]


def _life(pod: Pod, world: World) -> PodLife:
    grants: Sequence[Grant] = () if pod.allocation is None else pod.allocation.grants()
    return PodLife(
        name=pod.name,
        node=pod.node,
        holds=[_held(grant, pod.node, world.fleet.gpu_model(pod.node)) for grant in grants if pod.node is not None],
        created_s=round(float(pod.created_s), 6),
        bound_s=_rounded(pod.bound_s),
        ready_s=_rounded(pod.ready_s),
        deleted_s=_rounded(pod.deleted_s),
        gone_s=_rounded(pod.gone_s),
        waits_for="" if pod.node is not None else pod.waits_for,
    )


def _rounded(instant_s: float | None) -> float | None:
    return None if instant_s is None else round(float(instant_s), 6)


def _held(grant: Grant, node: str, gpu: GpuModel) -> Held:
    index = int(grant.uuid.removeprefix(f"GPU-{node}-"))
    match grant:
        case MigSlice():
            units = max(p.size for p in gpu.profiles)
            return Held(gpu=index, start=grant.start / units, part=grant.size / units, profile=grant.profile)
        case MpsShare():
            part = max(grant.memory_mib / gpu.memory_mib, grant.compute_pct / 100)
            return Held(gpu=index, start=None, part=round(part, 6), profile=None)
        case _:
            return Held(gpu=index, start=0.0, part=1.0, profile=None)
