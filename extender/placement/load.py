"""CPU and memory: what a pod asks for, and what a node has for pods."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache
from typing import Final, Self

from extender.placement.busiest import Part, busiest
from extender.placement.quantity import parse_quantity

Json = Mapping[str, object]

MOST: Final = (1 << 31) - 1  # milli-CPU or MiB; beyond any node, and compiled code has 32 bits for a pod
_STAYS_WITH_NODE: Final = frozenset({"DaemonSet", "Node"})


@dataclass(frozen=True, slots=True)
class Load:
    """What a pod asks for, rounded up; 0 where it asks for none, as kube-scheduler counts it."""

    cpu_milli: int = 0
    memory_mib: int = 0

    @classmethod
    def of(cls, pod: Json) -> Self:
        """What kube-scheduler reserves for a pod (its JSON): its containers at their busiest moment, and its overhead.

        What is asked for the pod as a whole goes before what its containers ask for.
        Source: Kubernetes, "Pod Overhead" and "Assign Pod-level CPU and memory resources".
        """
        spec = _mapping(pod.get("spec"))
        return cls(_asked(spec, "cpu", 1000, 1), _asked(spec, "memory", 1, 2**20))


NO_LOAD: Final = Load()


@dataclass(frozen=True, slots=True)
class Allocatable:
    """What a node has for pods, rounded down; None: it does not tell."""

    cpu_milli: int | None = None
    memory_mib: int | None = None

    @classmethod
    def of(cls, node: Json) -> Self:
        told = _mapping(_mapping(node.get("status")).get("allocatable"))
        return cls(_told(told.get("cpu"), 1000, 1), _told(told.get("memory"), 1, 2**20))


NOT_TOLD: Final = Allocatable()


def comes_with_its_node(pod: Json) -> bool:
    """Whether a pod is where it is because the node is there: nobody looks for a place for such a pod."""
    owners = _mapping(pod.get("metadata")).get("ownerReferences")
    listed = owners if isinstance(owners, list) else ()
    return any(_mapping(o).get("controller") and _mapping(o).get("kind") in _STAYS_WITH_NODE for o in listed)


# ---- inside ----------------------------------------------------------------------------------------------------


def _mapping(value: object) -> Json:
    return value if isinstance(value, Mapping) else {}


def _asked(spec: Json, name: str, times: int, per: int) -> int:
    whole = _requests(spec)
    of_all = whole.get(name)
    asked = busiest(_parts(spec, name, times, per)) if of_all is None else _amount(str(of_all), times, per)
    return min(MOST, asked + _amount(str(_mapping(spec.get("overhead")).get(name, 0)), times, per))


def _parts(spec: Json, name: str, times: int, per: int) -> Iterator[Part]:
    for field in ("initContainers", "containers"):
        listed = spec.get(field)
        for container in listed if isinstance(listed, list) else ():
            asked = _requests(_mapping(container)).get(name, 0)
            sidecar = field == "initContainers" and _mapping(container).get("restartPolicy") == "Always"
            yield Part(_amount(str(asked), times, per), init=field == "initContainers" and not sidecar, sidecar=sidecar)


def _requests(of: Json) -> Json:
    return _mapping(_mapping(of.get("resources")).get("requests"))


@lru_cache(maxsize=4096)
def _amount(text: str, times: int, per: int) -> int:
    """Rounded up; 0 for what is no quantity: the API server lets none in."""
    number = parse_quantity(text)
    return 0 if number is None else max(0, -int(-number * times // per))


def _told(value: object, times: int, per: int) -> int | None:
    number = parse_quantity(value)
    return None if number is None else max(0, min(MOST, int(number * times / Fraction(per))))
