"""How much a pod needs at its busiest moment: one rule for slices, CPU and memory."""

from collections.abc import Iterable
from typing import NamedTuple


class Part(NamedTuple):
    """One container's. Init containers without `restartPolicy: Always` end before the others start."""

    amount: int
    init: bool
    sidecar: bool


def busiest(parts: Iterable[Part]) -> int:
    """Most held at one time: max(all that run together, each init container with the sidecars before it).

    In the order in which they start. Source: Kubernetes, "Sidecar Containers", resource sharing within containers.
    """
    sidecars, most, rest = 0, 0, 0
    for amount, init, sidecar in parts:
        if init:
            most = max(most, sidecars + amount)
        elif sidecar:
            sidecars += amount
            most = max(most, sidecars)
        else:
            rest += amount
    return max(most, sidecars + rest)
