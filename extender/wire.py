"""The scheduler's JSON, exactly: kubernetes/kube-scheduler extender/v1/types.go. Decoding, encoding, nothing else.

Those Go types carry no JSON tags: field names are Go's, and a Go program takes either letter case. So do we; what we
send has Go's names in Go's order, every field, and null where Go has a nil.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, TypeVar

import msgspec

from extender.verbs import Eviction, Filtered


class WireError(ValueError):
    """The request cannot be understood; the message names the field and the rule."""


NO_METADATA: Final = msgspec.Raw(b"{}")

# ---- as it stands on the wire ----------------------------------------------------------------------------------


class _NodeList(msgspec.Struct, frozen=True):
    metadata: msgspec.Raw = NO_METADATA
    items: list[msgspec.Raw] | None = None


class _Args(msgspec.Struct, frozen=True, rename={"pod": "Pod", "nodes": "Nodes", "names": "NodeNames"}):
    pod: dict[str, Any] | msgspec.UnsetType | None = msgspec.UNSET
    nodes: _NodeList | msgspec.UnsetType | None = msgspec.UNSET
    names: list[str] | msgspec.UnsetType | None = msgspec.UNSET


class _FilterResult(
    msgspec.Struct,
    frozen=True,
    rename={
        "nodes": "Nodes",
        "names": "NodeNames",
        "failed": "FailedNodes",
        "unresolvable": "FailedAndUnresolvableNodes",
        "error": "Error",
    },
):
    nodes: _NodeList | None = None
    names: list[str] | None = None
    failed: dict[str, str] | None = None
    unresolvable: dict[str, str] | None = None
    error: str = ""


class _HostPriority(msgspec.Struct, frozen=True, gc=False, rename={"host": "Host", "score": "Score"}):
    host: str
    score: int


class _BindingArgs(
    msgspec.Struct,
    frozen=True,
    rename={"pod_name": "PodName", "pod_namespace": "PodNamespace", "pod_uid": "PodUID", "node": "Node"},
):
    pod_name: str | msgspec.UnsetType = msgspec.UNSET
    pod_namespace: str | msgspec.UnsetType = msgspec.UNSET
    pod_uid: str | msgspec.UnsetType = msgspec.UNSET
    node: str | msgspec.UnsetType = msgspec.UNSET


class _BindingResult(msgspec.Struct, frozen=True, rename={"error": "Error"}):
    error: str = ""


class _MetaPod(msgspec.Struct, frozen=True, rename={"uid": "UID"}):
    uid: str


class _MetaVictims(msgspec.Struct, frozen=True, rename={"pods": "Pods", "violations": "NumPDBViolations"}):
    pods: list[_MetaPod] | None = None
    violations: int = 0


class _Meta(msgspec.Struct, frozen=True):
    name: str = ""
    uid: str = ""
    annotations: dict[str, str] | None = None


class _Object(msgspec.Struct, frozen=True):
    """As much of a Pod or a Node as is needed to know which it is."""

    metadata: _Meta = _Meta()


class _Victims(msgspec.Struct, frozen=True, rename={"pods": "Pods", "violations": "NumPDBViolations"}):
    pods: list[_Object] | None = None
    violations: int = 0


class _PreemptionArgs(
    msgspec.Struct,
    frozen=True,
    rename={"pod": "Pod", "victims": "NodeNameToVictims", "meta_victims": "NodeNameToMetaVictims"},
):
    pod: dict[str, Any] | msgspec.UnsetType | None = msgspec.UNSET
    victims: dict[str, _Victims | None] | msgspec.UnsetType | None = msgspec.UNSET
    meta_victims: dict[str, _MetaVictims | None] | msgspec.UnsetType | None = msgspec.UNSET


class _PreemptionResult(msgspec.Struct, frozen=True, rename={"meta_victims": "NodeNameToMetaVictims"}):
    meta_victims: dict[str, _MetaVictims]


# ---- as the rest of the program sees it ------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class ExtenderArgs:
    """A filter or prioritize request. `objects`: the Node objects by name where the scheduler sends them whole."""

    pod: Mapping[str, object]
    names: list[str]
    objects: Mapping[str, Mapping[str, object]] | None = None
    raw: Mapping[str, msgspec.Raw] | None = None  # the same, as they came
    metadata: msgspec.Raw = field(default_factory=lambda: NO_METADATA)  # of the list


@dataclass(frozen=True, slots=True)
class BindingArgs:
    """A bind request. The pod itself is not sent."""

    pod_name: str
    pod_namespace: str
    pod_uid: str
    node: str

    @property
    def pod_key(self) -> str:
        return f"{self.pod_namespace}/{self.pod_name}"


@dataclass(frozen=True, slots=True)
class PreemptionArgs:
    """A preempt request: nodes, each with the pods that the scheduler would evict (maybe none)."""

    pod: Mapping[str, object]
    candidates: dict[str, Eviction]


def decode_args(body: bytes) -> ExtenderArgs:
    """Filter and prioritize. Raises WireError."""
    args = _decode(body, _args, _Args)
    pod = _pod(args.pod)
    if args.names:
        return ExtenderArgs(pod, args.names)
    if isinstance(args.nodes, _NodeList):
        objects: dict[str, Mapping[str, object]] = {}
        raw: dict[str, msgspec.Raw] = {}
        for i, item in enumerate(args.nodes.items or ()):
            meta = _decode(bytes(item), _object, _Object).metadata
            if not meta.name:
                raise WireError(f"Nodes.items[{i}].metadata.name is empty; want the node's name")
            raw[meta.name] = item
            objects[meta.name] = {"metadata": {"name": meta.name, "annotations": meta.annotations or {}}}
        return ExtenderArgs(pod, list(raw), objects, raw, args.nodes.metadata)
    if isinstance(args.names, list):
        return ExtenderArgs(pod, [])
    raise WireError("NodeNames and Nodes are both null; want one of them")


def encode_filter(filtered: Filtered, args: ExtenderArgs) -> bytes:
    """In the form of the request: names for names, whole nodes for whole nodes."""
    nodes = None
    if args.raw is not None:
        nodes = _NodeList(args.metadata, [args.raw[name] for name in filtered.fit])
    return _encode(
        _FilterResult(
            nodes=nodes,
            names=filtered.fit if nodes is None else None,
            failed=filtered.failed,
            unresolvable=filtered.unresolvable,
        )
    )


def encode_filter_error(why: str) -> bytes:
    """Our own failure, or a pod that cannot be understood: no node fits, and the scheduler reports why."""
    return _encode(_FilterResult(error=why))


def encode_scores(scores: Iterable[tuple[str, int]]) -> bytes:
    """HostPriorityList."""
    return _encode([_HostPriority(host, score) for host, score in scores])


def decode_binding(body: bytes) -> BindingArgs:
    """Raises WireError."""
    args = _decode(body, _binding_args, _BindingArgs)
    empty = [wire for field, wire in _names(_BindingArgs).items() if not getattr(args, field)]
    if empty:
        raise WireError(f"{', '.join(empty)}: want a value that is not empty")
    return BindingArgs(
        pod_name=str(args.pod_name),
        pod_namespace=str(args.pod_namespace),
        pod_uid=str(args.pod_uid),
        node=str(args.node),
    )


def encode_binding(error: str = "") -> bytes:
    """ExtenderBindingResult; an empty error means that the pod is bound."""
    return _encode(_BindingResult(error))


def decode_preemption(body: bytes) -> PreemptionArgs:
    """Either form of victims; of one node in both forms the pods are joined. Raises WireError."""
    args = _decode(body, _preemption_args, _PreemptionArgs)
    pod = _pod(args.pod)
    candidates: dict[str, Eviction] = {}
    for name, meta in (args.meta_victims or {}).items():
        pods = meta.pods or () if meta else ()
        candidates[name] = Eviction(tuple(p.uid for p in pods), meta.violations if meta else 0)
    for name, victims in (args.victims or {}).items():
        uids = [p.metadata.uid for p in (victims.pods or () if victims else ())]
        if not all(uids):
            raise WireError(f"NodeNameToVictims[{name!r}]: a pod has no metadata.uid")
        known = candidates.get(name, Eviction())
        both = tuple(dict.fromkeys([*known.uids, *uids]))
        candidates[name] = Eviction(both, max(known.pdb_violations, victims.violations if victims else 0))
    return PreemptionArgs(pod, candidates)


def encode_preemption(found: Mapping[str, Eviction]) -> bytes:
    """ExtenderPreemptionResult: the meta form, whichever form was sent."""
    return _encode(
        _PreemptionResult(
            {n: _MetaVictims([_MetaPod(uid) for uid in e.uids], e.pdb_violations) for n, e in found.items()}
        )
    )


# ---- inside ----------------------------------------------------------------------------------------------------

_Wire = TypeVar("_Wire", bound=msgspec.Struct)

_args: Final = msgspec.json.Decoder(_Args)
_binding_args: Final = msgspec.json.Decoder(_BindingArgs)
_preemption_args: Final = msgspec.json.Decoder(_PreemptionArgs)
_object: Final = msgspec.json.Decoder(_Object)
_encode: Final = msgspec.json.Encoder().encode


def _names(kind: type[msgspec.Struct]) -> dict[str, str]:
    return {f.name: f.encode_name for f in msgspec.structs.fields(kind)}


def _decode(body: bytes, decoder: "msgspec.json.Decoder[_Wire]", kind: type[_Wire]) -> _Wire:
    """Go sends every field; where one is missing, its name may stand in another letter case: a second, slower look."""
    try:
        decoded = decoder.decode(body)
        if any(getattr(decoded, field) is msgspec.UNSET for field in kind.__struct_fields__):
            decoded = decoder.decode(_encode(_go_case(msgspec.json.decode(body), kind)))
    except msgspec.MsgspecError as e:
        raise WireError(f"the request is not what extender/v1 sends: {e}") from e
    return decoded


_VICTIMS: Final[Mapping[str, type[msgspec.Struct]]] = {
    "NodeNameToVictims": _Victims,
    "NodeNameToMetaVictims": _MetaVictims,
}


def _go_case(document: dict[str, Any], kind: type[msgspec.Struct]) -> dict[str, Any]:
    """The same object with the field names that Go would write."""
    go = {name.casefold(): name for name in _names(kind).values()}
    named = {go.get(key.casefold(), key): value for key, value in document.items()}
    for nested, inner in _VICTIMS.items():
        if isinstance(named.get(nested), dict):
            named[nested] = {
                node: _go_case(v, inner) if isinstance(v, dict) else v for node, v in named[nested].items()
            }
    if kind is _MetaVictims and isinstance(named.get("Pods"), list):
        named["Pods"] = [_go_case(p, _MetaPod) if isinstance(p, dict) else p for p in named["Pods"]]
    return named


def _pod(value: object) -> Mapping[str, object]:
    if isinstance(value, dict):
        return value
    raise WireError("Pod is missing or null; want the pod to be scheduled")
