"""What the demo promises, checked from the API's objects alone: nothing here knows the ledger or the engines.

The arithmetic is written a second time on purpose: a check that called the extender's code would share its mistakes.
"""

import json
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Final

Json = dict[str, Any]
ALLOCATION: Final = "slicewise.dev/allocation"
INVENTORY: Final = "slicewise.dev/inventory"
#: Written by the stand-in kubelet on a pod that is leaving: requests of sessions that it still has in flight.
IN_FLIGHT: Final = "demo.slicewise.dev/in-flight"

ONE_OWNER: Final = "no slice was allocated twice"
RIGHT_NODE: Final = "every slice is on the node of its pod"
NO_KILL: Final = "no session was killed"
PROMISES: Final = (ONE_OWNER, RIGHT_NODE, NO_KILL)


@dataclass(frozen=True, slots=True)
class Breach:
    promise: str
    what: str


@dataclass(frozen=True, slots=True)
class Part:
    """What one pod holds of one GPU, as its annotation says."""

    pod: str
    node: str
    uuid: str
    mode: str
    profile: str = ""
    start: int = 0
    size: int = 0
    memory_mib: int = 0
    compute_pct: float = 0.0


def parts(pods: Iterable[Json]) -> list[Part]:
    """All parts of GPUs that pods hold: bound, not at their end. A pod being deleted holds them until it is gone."""
    found = []
    for pod in pods:
        text = pod["metadata"].get("annotations", {}).get(ALLOCATION)
        if text is None or pod.get("status", {}).get("phase") in {"Succeeded", "Failed"}:
            continue
        name, node = pod["metadata"]["name"], pod["spec"].get("nodeName", "")
        for container in json.loads(text)["containers"]:
            for gpu in container["gpus"]:
                sizes = {
                    key: gpu[key] for key in ("profile", "start", "size", "memory_mib", "compute_pct") if key in gpu
                }
                found.append(Part(name, node, gpu["uuid"], gpu["mode"], **sizes))
    return found


def breaches(pods: Iterable[Json], nodes: Iterable[Json]) -> list[Breach]:
    """Broken promises in one state of the cluster."""
    gpus = {gpu["uuid"]: (node["metadata"]["name"], gpu) for node in nodes for gpu in _gpus(node)}
    by_gpu: dict[str, list[Part]] = defaultdict(list)
    found = []
    for part in parts(pods):
        by_gpu[part.uuid].append(part)
        home = gpus[part.uuid][0] if part.uuid in gpus else "no node"
        if home != part.node:
            found.append(Breach(RIGHT_NODE, f"{part.pod} is on {part.node}, its GPU {part.uuid} is on {home}"))
    for uuid, held in by_gpu.items():
        memory_mib = gpus[uuid][1]["memory_mib"] if uuid in gpus else 0
        found += [Breach(ONE_OWNER, f"GPU {uuid}: {what}") for what in _conflicts(held, memory_mib)]
    return found


def killed(pod: Json) -> list[Breach]:
    """Broken promises of a pod that has just gone."""
    left = int(pod["metadata"].get("annotations", {}).get(IN_FLIGHT, "0"))
    name = pod["metadata"]["name"]
    return [Breach(NO_KILL, f"{name} went with {left} requests of sessions in flight")] if left else []


def _gpus(node: Json) -> Sequence[Json]:
    text = node["metadata"].get("annotations", {}).get(INVENTORY)
    gpus: Sequence[Json] = json.loads(text)["gpus"] if text else []
    return gpus


def _conflicts(held: Sequence[Part], memory_mib: int) -> list[str]:
    """Why these parts can't be on one GPU together; empty if they can."""
    pods = ", ".join(sorted(part.pod for part in held))
    if len(modes := {part.mode for part in held}) > 1:
        return [f"{pods} hold it as {' and '.join(sorted(modes))}"]
    mode = held[0].mode
    if mode == "mig":
        return _overlaps(held)
    if mode == "mps":
        return _overcommitted(held, memory_mib, pods)
    return [f"{pods} hold the whole of it"] if len(held) > 1 else []


def _overlaps(held: Sequence[Part]) -> list[str]:
    placed = sorted(held, key=lambda part: part.start)
    return [
        f"{a.pod} at {a.start}+{a.size} and {b.pod} at {b.start}+{b.size} overlap"
        for a, b in pairwise(placed)
        if a.start + a.size > b.start
    ]


def _overcommitted(held: Sequence[Part], memory_mib: int, pods: str) -> list[str]:
    found = []
    if (memory := sum(part.memory_mib for part in held)) > memory_mib:
        found.append(f"{pods} share {memory} MiB of {memory_mib} MiB")
    if (compute := sum(part.compute_pct for part in held)) > 100:
        found.append(f"{pods} share {compute:g} % of its compute")
    return found
