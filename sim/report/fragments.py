"""GPU time that nobody held and that no further replica could have used: what is left of a GPU is too small for one."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from extender.placement.allocation import MigSlice
from extender.placement.model import GpuModel
from sim.report.model import Held, PodLife
from sim.world import World


@dataclass(frozen=True, slots=True)
class Span:
    """A hold of one GPU, from its binding until it is gone."""

    from_s: float
    to_s: float
    held: Held


def fragmented_h(world: World, pods: Sequence[PodLife]) -> float:
    """Hours of whole GPUs over the run. All replicas of a run ask for the same; without one nothing is lost."""
    end_s, spans = world.scenario.yaml.duration, dict[tuple[str, int], list[Span]]()
    for pod in pods:
        for held in pod.holds if pod.node is not None and pod.bound_s is not None else ():
            to_s = end_s if pod.gone_s is None else pod.gone_s
            spans.setdefault((pod.node or "", held.gpu), []).append(Span(pod.bound_s or 0.0, to_s, held))
    used = next((p for p in world.pods if p.allocation is not None), None)
    if used is None or used.node is None or used.allocation is None:
        return 0.0
    grant, model = used.allocation.grants()[0], world.fleet.gpu_model(used.node)
    profile = grant.profile if isinstance(grant, MigSlice) else None
    part = next(held.part for pod in pods if pod.name == used.name for held in pod.holds)
    lost_s = 0.0
    for name, life in world.fleet.lives.items():
        there = (life.from_s, end_s if life.to_s is None else life.to_s)
        for gpu in range(world.fleet.kinds[life.kind].gpus_per_node):
            lost_s += _lost_s(spans.get((name, gpu), ()), there, model, profile, part)
    return lost_s / 3600


def _lost_s(
    spans: Sequence[Span], there: tuple[float, float], model: GpuModel, profile: str | None, part: float
) -> float:
    """Of one GPU, while its node was `there`: from change to change."""
    begins = sorted(range(len(spans)), key=lambda i: spans[i].from_s)
    ends = sorted(range(len(spans)), key=lambda i: spans[i].to_s)
    instants = sorted({*there, *(s.from_s for s in spans), *(s.to_s for s in spans)})
    active, begun, ended, lost_s = dict[int, Held](), 0, 0, 0.0
    for from_s, to_s in pairwise(instants):
        while begun < len(begins) and spans[begins[begun]].from_s <= from_s:
            active[begins[begun]] = spans[begins[begun]].held
            begun += 1
        while ended < len(ends) and spans[ends[ended]].to_s <= from_s:
            active.pop(ends[ended], None)
            ended += 1
        lost_s += (to_s - from_s) * unusable(list(active.values()), model, profile, part)
    return lost_s


def unusable(holds: Sequence[Held], model: GpuModel, profile: str | None, part: float) -> float:
    """The part of a GPU, with these holds, that is free and cannot be given to a further replica."""
    free = 1 - sum(h.part for h in holds)
    more = _more_slices(holds, model, profile) if profile is not None else int(free / part + 1e-9)
    return max(0.0, free - more * part)


def _more_slices(holds: Sequence[Held], model: GpuModel, name: str) -> int:
    """Further instances of one profile: of equal size, so that taking the lowest place that is free is best."""
    profile = model.profile(name)
    if profile is None:
        return 0
    units = max(p.size for p in model.profiles)
    taken = {
        cell for h in holds for cell in range(round((h.start or 0) * units), round(((h.start or 0) + h.part) * units))
    }
    count, room = 0, profile.max_count - sum(h.profile == name for h in holds)
    for start in sorted(profile.starts):
        cells = set(range(start, start + profile.size))
        if count < room and cells.isdisjoint(taken):
            taken |= cells
            count += 1
    return count
