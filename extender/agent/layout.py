"""Pure: what to do so that a node has the MIG instances that its pods hold. Steps, in order; nothing is done here."""

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from extender.placement.masks import tables
from extender.placement.profile import GpuModel, Placement


@dataclass(frozen=True, slots=True)
class Present:
    """An instance that exists. `made`: by this agent. `busy`: processes run on it."""

    gpu: str
    placement: Placement
    uuid: str
    made: bool
    busy: bool


@dataclass(frozen=True, slots=True)
class Destroy:
    gpu: str
    placement: Placement
    uuid: str


@dataclass(frozen=True, slots=True)
class Create:
    gpu: str
    placement: Placement


@dataclass(frozen=True, slots=True)
class Blocked:
    """A wanted instance that cannot be made now."""

    gpu: str
    placement: Placement
    why: str


Step = Destroy | Create


@dataclass(frozen=True, slots=True)
class Steps:
    """To be taken in order. GPUs do not depend on one another; on each, what leaves leaves first."""

    steps: tuple[Step, ...]
    blocked: tuple[Blocked, ...]


def steps(
    wanted: Mapping[str, Iterable[Placement]], present: Iterable[Present], owned: Mapping[str, GpuModel]
) -> Steps:
    """The difference. `wanted`, `owned`: by GPU; what is not `owned` is never touched.

    Laws: busy instances and those that others made stay; what is created fits beside what stays; creation goes from
    large to small, each at its explicit place (the driver's own choice of places depends on the order).
    """
    there: dict[str, list[Present]] = defaultdict(list)
    for instance in present:
        there[instance.gpu].append(instance)
    found: list[Step] = []
    blocked: list[Blocked] = []
    for gpu in sorted({*wanted, *there}):
        places = sorted(set(wanted.get(gpu, ())), key=_largest_first)
        if gpu not in owned:
            blocked += [Blocked(gpu, p, "the GPU is not this agent's") for p in places]
            continue
        leaving, creating, refused = _on_gpu(gpu, places, there[gpu], owned[gpu])
        found += [*leaving, *creating]
        blocked += refused
    return Steps(tuple(found), tuple(blocked))


def _on_gpu(
    gpu: str, places: list[Placement], there: list[Present], model: GpuModel
) -> tuple[list[Destroy], list[Create], list[Blocked]]:
    leaving = [i for i in there if i.made and not i.busy and i.placement not in places]
    staying = [i for i in there if i not in leaving]
    grid = tables(model)
    state = grid.covering(i.placement for i in staying)
    creating: list[Create] = []
    refused: list[Blocked] = []
    for place in places:
        holder = next((i for i in staying if i.placement == place), None)
        if holder is not None:
            if not holder.made:
                refused.append(Blocked(gpu, place, f"{holder.uuid} is there, made by another manager"))
            continue
        after = grid.after(state, place)
        if after is None:
            refused.append(Blocked(gpu, place, _why(place, staying, creating, model)))
            continue
        state = after
        creating.append(Create(gpu, place))
    destroyed = [Destroy(gpu, i.placement, i.uuid) for i in sorted(leaving, key=lambda i: _largest_first(i.placement))]
    return destroyed, creating, refused


def _why(place: Placement, staying: list[Present], creating: list[Create], model: GpuModel) -> str:
    profile = model.profile(place.profile)
    if profile is None or place.start not in profile.starts or place.size != profile.size:
        return f"{place} of size {place.size} is no placement of {model.name}"
    for instance in staying:
        if _overlap(instance.placement, place):
            reason = "processes run on it" if instance.busy else "it was made by another manager"
            return f"{instance.uuid} ({instance.placement}) is in its way, and {reason}"
    for other in creating:
        if _overlap(other.placement, place):
            return f"{other.placement} is wanted in the same place"
    return f"no more instances of {place.profile} fit on a {model.name} beside the others"


def _overlap(a: Placement, b: Placement) -> bool:
    return a.start < b.start + b.size and b.start < a.start + a.size


def _largest_first(place: Placement) -> tuple[int, int, str]:
    return -place.size, place.start, place.profile
