"""What the ledger knows, for people: each GPU's slots and who holds them. Changes nothing."""

from collections.abc import Mapping
from typing import Any, Final

from extender.ledger import Holding, Ledger
from extender.placement.allocation import Grant, MigSlice, MpsShare
from extender.placement.model import Gpu, Inventory
from extender.placement.node import Node

#: GPUs are listed without being asked for up to so many nodes: writing them all out would keep filter waiting.
MOST_NODES: Final = 100


def state(ledger: Ledger, now_s: float, only: str | None = None) -> dict[str, Any]:
    """`only`: one node. Without it, in large clusters, nodes come without their GPUs."""
    names = [n for n in sorted(ledger.nodes()) if only is None or n == only]
    detailed = len(names) <= MOST_NODES
    return {
        "now_s": now_s,
        "nodes": {name: _node(ledger, name, now_s, detailed=detailed) for name in names},
        "detailed": detailed,
        "problems": [str(p) for p in ledger.problems()],
    }


def _node(ledger: Ledger, name: str, now_s: float, *, detailed: bool) -> dict[str, Any]:
    node = ledger.node(name)
    found: dict[str, Any] = {"unusable": ledger.unusable(name, now_s)}
    if node is None:
        return found
    found["pods"] = len(node.pods)
    found["free"] = {"cpu_milli": node.free.cpu_milli, "memory_mib": node.free.memory_mib}
    if detailed:
        found["gpus"] = [_gpu(node, gpu) for gpu in node.gpus]
        if not isinstance(node.inventory, Inventory):
            found["holders"] = [_holder(h, g) for h in node.pods.values() for g in h.allocation.grants()]
    return found


def _gpu(node: Node, gpu: Gpu) -> Mapping[str, Any]:
    holders = [_holder(h, g) for h in node.pods.values() for g in h.allocation.grants() if g.uuid == gpu.uuid]
    return {
        "uuid": gpu.uuid,
        "index": gpu.index,
        "model": gpu.model.name,
        "mode": gpu.mode.value,
        "usable": gpu.usable,
        "holders": sorted(holders, key=lambda h: (h.get("start", 0), h["pod"])),
    }


def _holder(holding: Holding, grant: Grant) -> dict[str, Any]:
    who: dict[str, Any] = {"pod": holding.key, "uid": holding.uid, "phase": holding.phase.value}
    match grant:
        case MigSlice(_, profile, start, size):
            return {**who, "profile": profile, "start": start, "size": size}
        case MpsShare(_, memory_mib, compute_pct, _):
            return {**who, "memory_mib": memory_mib, "compute_pct": compute_pct}
    return {**who, "whole": True}
