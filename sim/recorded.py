"""What happened to nodes and pods, as the Kubernetes API and kube-scheduler's questions showed it: one line each.

Pods are whole API objects; whoever records leaves out what nobody reads (managedFields). `sim/recording.py` reads and
writes the lines, `sim/world.py` tells its own, `sim/placements.py` puts them through today's verbs.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Final

from extender.placement.holding import mapping
from sim.workloads.trace import number

NODE, POD, GONE = "recorded.node", "recorded.pod", "recorded.gone"
FILTER, BIND = "recorded.filter", "recorded.bind"


@dataclass(frozen=True, slots=True)
class NodeSeen:
    """`inventory`: the annotation as it is from now on; None where the node is gone or its agent has not reported.

    `images`: name and bytes of each that its status lists.
    """

    at_s: float
    node: str
    inventory: str | None
    images: tuple[tuple[str, int], ...] = ()


@dataclass(frozen=True, slots=True)
class PodSeen:
    """The object as it is from now on."""

    at_s: float
    pod: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class PodGone:
    at_s: float
    uid: str


@dataclass(frozen=True, slots=True)
class FilterAsked:
    """kube-scheduler asks which of these nodes have room for a pod."""

    at_s: float
    uid: str
    nodes: Sequence[str]


@dataclass(frozen=True, slots=True)
class BindAsked:
    """kube-scheduler has chosen a node."""

    at_s: float
    uid: str
    node: str


Happened = NodeSeen | PodSeen | PodGone | FilterAsked | BindAsked


def parse(event: Mapping[str, Any]) -> Happened | None:
    """None for another line. Raises ValueError with field and rule."""
    parser = _PARSERS.get(str(event.get("event")))
    return None if parser is None else parser(event)


def _node(event: Mapping[str, Any]) -> NodeSeen:
    inventory = event.get("inventory")
    if type(inventory) not in {str, type(None)}:
        raise ValueError("inventory: want the annotation's text, or null for a node without one")
    images = event.get("images", [])
    if not (isinstance(images, list) and all(map(_is_image, images))):
        raise ValueError("images: want a list of [name, bytes]")
    return NodeSeen(_at(event), _text(event, "node"), inventory, tuple((name, size) for name, size in images))


def _is_image(image: object) -> bool:
    return isinstance(image, list) and [type(part) for part in image] == [str, int]


def _pod(event: Mapping[str, Any]) -> PodSeen:
    pod = mapping(event.get("pod"))
    if type(mapping(pod.get("metadata")).get("uid")) is not str:
        raise ValueError("pod: want a Pod object, with a uid in its metadata")
    return PodSeen(_at(event), pod)


def _filter(event: Mapping[str, Any]) -> FilterAsked:
    nodes = event.get("nodes")
    if not (isinstance(nodes, list) and all(isinstance(n, str) for n in nodes)):
        raise ValueError("nodes: want a list of their names")
    return FilterAsked(_at(event), _text(event, "uid"), tuple(nodes))


_PARSERS: Final[Mapping[str, Callable[[Mapping[str, Any]], Happened]]] = MappingProxyType(
    {
        NODE: _node,
        POD: _pod,
        GONE: lambda event: PodGone(_at(event), _text(event, "uid")),
        FILTER: _filter,
        BIND: lambda event: BindAsked(_at(event), _text(event, "uid"), _text(event, "node")),
    }
)


def line(happened: Happened) -> dict[str, object]:
    """As `parse` reads it."""
    match happened:
        case NodeSeen(at_s, node, inventory, images):
            seen: dict[str, object] = {"event": NODE, "at_s": at_s, "node": node, "inventory": inventory}
            return seen | ({"images": [list(image) for image in images]} if images else {})
        case PodSeen(at_s, pod):
            return {"event": POD, "at_s": at_s, "pod": pod}
        case PodGone(at_s, uid):
            return {"event": GONE, "at_s": at_s, "uid": uid}
        case FilterAsked(at_s, uid, nodes):
            return {"event": FILTER, "at_s": at_s, "uid": uid, "nodes": list(nodes)}
        case BindAsked(at_s, uid, node):
            return {"event": BIND, "at_s": at_s, "uid": uid, "node": node}


def _at(event: Mapping[str, Any]) -> float:
    return number(event.get("at_s"), "at_s")


def _text(event: Mapping[str, Any], field: str) -> str:
    value = event.get(field)
    if not (isinstance(value, str) and value):
        raise ValueError(f"{field}: want a text (got {value!r})")
    return value
