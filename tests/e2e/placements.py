"""Are all pods on legal, distinct slices? Judged from API objects alone, without a line of the code that placed them.

What a GPU can do stands here a second time, written down from NVIDIA's tables by hand: a checker that asked the
extender's catalog would believe its errors.
"""

import itertools
import json
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from tests.e2e.parts.client import Api, Json

INVENTORY: Final = "slicewise.dev/inventory"
ALLOCATION: Final = "slicewise.dev/allocation"
MPS_CLIENTS: Final = 48  # a GPU before Hopper; docs.nvidia.com/deploy/mps, "Volta MPS client limits"


@dataclass(frozen=True, slots=True)
class Rule:
    """One MIG profile: its size and legal starts in memory slices, its compute slices, how many a GPU holds."""

    size: int
    starts: frozenset[int]
    compute: int
    most: int


def _rule(size: int, starts: Iterable[int], compute: int, most: int) -> Rule:
    return Rule(size, frozenset(starts), compute, most)


#: Legal placements of an A100 80 GB. docs.nvidia.com/datacenter/tesla/mig-user-guide, "Supported MIG Profiles"
A100_80GB: Final = {
    "1g.10gb": _rule(1, range(7), 1, 7),
    "1g.10gb+me": _rule(1, range(7), 1, 1),
    "1g.20gb": _rule(2, (0, 2, 4, 6), 1, 4),
    "2g.20gb": _rule(2, (0, 2, 4), 2, 3),
    "3g.40gb": _rule(4, (0, 4), 3, 2),
    "4g.40gb": _rule(4, (0,), 4, 1),
    "7g.80gb": _rule(8, (0,), 7, 1),
}
COMPUTE_SLICES: Final = 7


@dataclass(frozen=True, slots=True)
class Held:
    """One GPU, slice or share that one pod holds."""

    pod: str
    node: str
    demand: Mapping[str, str]  # the pod's own annotations
    what: Json  # its entry in the allocation record


def held_by(pods: Sequence[Json]) -> list[Held]:
    """Every entry of every record of the pods that are bound and have not ended."""
    found = []
    for pod in pods:
        annotations = pod["metadata"].get("annotations", {})
        ended = pod["status"].get("phase") in {"Succeeded", "Failed"}
        if ended or ALLOCATION not in annotations or "nodeName" not in pod["spec"]:
            continue
        for container in json.loads(annotations[ALLOCATION])["containers"]:
            found += [
                Held(pod["metadata"]["name"], pod["spec"]["nodeName"], annotations, gpu) for gpu in container["gpus"]
            ]
    return found


def faults(nodes: Sequence[Json], pods: Sequence[Json]) -> list[str]:
    """What is illegal, in words; an empty list is a legal cluster."""
    gpus: dict[tuple[str, str], Json] = {}
    for node in nodes:
        inventory = node["metadata"].get("annotations", {}).get(INVENTORY)
        for gpu in json.loads(inventory)["gpus"] if inventory else []:
            gpus[node["metadata"]["name"], gpu["uuid"]] = gpu
    by_gpu: defaultdict[tuple[str, str], list[Held]] = defaultdict(list)
    for held in held_by(pods):
        by_gpu[held.node, held.what["uuid"]].append(held)
    found = [f"{pod} is bound without an allocation record" for pod in _unrecorded(pods)]
    for place, holders in by_gpu.items():
        if place not in gpus:
            found.append(f"{[h.pod for h in holders]} hold GPU {place[1]}, which node {place[0]} does not have")
            continue
        where = f"{place[0]}/{gpus[place]['index']}"
        found += [f"{where}: {fault}" for fault in _gpu_faults(gpus[place], holders)]
    return found


def _unrecorded(pods: Sequence[Json]) -> Iterator[str]:
    for pod in pods:
        wants = any(
            "slicewise.dev/gpu-slice" in container.get("resources", {}).get("limits", {})
            for container in pod["spec"]["containers"]
        )
        if wants and "nodeName" in pod["spec"] and ALLOCATION not in pod["metadata"].get("annotations", {}):
            yield pod["metadata"]["name"]


def _gpu_faults(gpu: Json, holders: Sequence[Held]) -> Iterator[str]:
    modes = {held.what["mode"] for held in holders}
    if len(modes) > 1:
        yield f"held in several modes at once: {sorted(modes)}"
    elif modes == {"exclusive"} and len(holders) > 1:
        yield f"held whole by {[held.pod for held in holders]}"
    elif modes == {"mig"}:
        yield from _mig_faults(gpu, holders)
    elif modes == {"mps"}:
        yield from _mps_faults(gpu, holders)


def _mig_faults(gpu: Json, holders: Sequence[Held]) -> Iterator[str]:
    if gpu["mode"] != "mig":
        yield f"a MIG slice on a GPU in mode {gpu['mode']}"
    profiles = [held.what["profile"] for held in holders]
    for held in holders:
        rule, start = A100_80GB[held.what["profile"]], held.what["start"]
        if start not in rule.starts or held.what["size"] != rule.size:
            yield f"{held.pod}: {held.what['profile']} cannot lie at {start} with size {held.what['size']}"
        wanted = held.demand.get("slicewise.dev/profile")
        if wanted is not None and wanted != held.what["profile"]:
            yield f"{held.pod} asked for {wanted} and got {held.what['profile']}"
    for one, other in itertools.combinations(holders, 2):
        shared = _slices(one) & _slices(other)
        if shared:
            yield f"{one.pod} and {other.pod} both hold memory slices {sorted(shared)}"
    for profile in set(profiles):
        if profiles.count(profile) > A100_80GB[profile].most:
            yield f"{profiles.count(profile)} x {profile}, at most {A100_80GB[profile].most}"
    compute = sum(A100_80GB[profile].compute for profile in profiles)
    if compute > COMPUTE_SLICES:
        yield f"{compute} compute slices of {COMPUTE_SLICES}"


def _slices(held: Held) -> set[int]:
    return set(range(held.what["start"], held.what["start"] + held.what["size"]))


def _mps_faults(gpu: Json, holders: Sequence[Held]) -> Iterator[str]:
    if gpu["mode"] != "mps":
        yield f"an MPS share on a GPU in mode {gpu['mode']}"
    memory_mib = sum(held.what["memory_mib"] for held in holders)
    compute_pct = sum(held.what["compute_pct"] for held in holders)
    if memory_mib > gpu["memory_mib"]:
        yield f"{memory_mib} MiB shared out of {gpu['memory_mib']}"
    if compute_pct > 100:
        yield f"{compute_pct} % of the compute shared out"
    if len(holders) > MPS_CLIENTS:
        yield f"{len(holders)} MPS clients, at most {MPS_CLIENTS}"


class Watchman:
    """Looks at the cluster again and again and remembers every fault, also one that was gone a second later."""

    def __init__(self, api: Api) -> None:
        self._api = api
        self.looks = 0
        self.faults: dict[str, None] = {}  # a set that keeps its order
        self.held: dict[tuple[str, str, int | None], set[str]] = defaultdict(set)  # (node, GPU, start) -> pods, ever

    def look(self) -> None:
        pods = self._api.items("/api/v1/pods")
        for fault in faults(self._api.items("/api/v1/nodes"), pods):
            self.faults[fault] = None
        for held in held_by(pods):
            self.held[held.node, held.what["uuid"], held.what.get("start")].add(held.pod)
        self.looks += 1
