"""What a pod asks for: how many slices, of which shape. Read from its resources and annotations, all faults at once."""

from collections.abc import Iterable, Mapping
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from typing import Final, Self

from extender.placement import busiest as rule
from extender.placement.links import Link
from extender.placement.load import NO_LOAD, Load
from extender.placement.profile import Mode, profile_name
from extender.placement.quantity import parse_count, parse_mib
from extender.placement.reuse import NOTHING, Reuse

PREFIX: Final = "slicewise.dev/"
SLICE: Final = f"{PREFIX}gpu-slice"
STATIC_MIG: Final = "nvidia.com/mig-"
MAX_SLICES: Final = 1024  # far above any node; keeps absurd numbers out of arithmetic


class DemandError(ValueError):
    """The pod's demand cannot be understood; the message lists every fault with its field, value and rule."""


@dataclass(frozen=True, slots=True)
class Shape:
    """What each slice of a pod must be. `memory_mib` 0 and `compute_pct` 0 mean: not asked for."""

    modes: frozenset[Mode]
    profile: str | None = None
    memory_mib: int = 0
    compute_pct: int = 0
    models: frozenset[str] = frozenset()  # empty: any GPU model
    link: Link = Link.PREFER  # between several whole GPUs

    def __str__(self) -> str:
        want = [self.profile or ""]
        want += [f"{self.memory_mib} MiB"] if self.memory_mib else []
        want += [f"{self.compute_pct} % compute"] if self.compute_pct else []
        want += ["whole GPU"] if self.modes == {Mode.EXCLUSIVE} else []
        want += ["joined by NVLink"] if self.link is Link.REQUIRE else []
        want += [f"on {' or '.join(sorted(self.models))}"] if self.models else []
        return " ".join(w for w in want if w)


@dataclass(frozen=True, slots=True)
class ContainerDemand:
    """One container's part. Init containers without `restartPolicy: Always` end before the others start."""

    name: str
    count: int
    init: bool = False
    sidecar: bool = False


@dataclass(frozen=True, slots=True)
class Demand:
    """What a pod asks for. Exactly one of `shape` and `static` is set."""

    uid: str
    key: str  # namespace/name
    tenant: str
    priority: int = 0
    shape: Shape | None = None
    containers: tuple[ContainerDemand, ...] = ()  # in the order in which they start
    static: tuple[tuple[str, int], ...] = ()  # existing MIG instances by profile, chosen by NVIDIA's plugin
    load: Load = NO_LOAD
    reuse: Reuse = NOTHING

    @property
    def count(self) -> int:
        """How many slices the pod needs at its busiest moment."""
        return busiest(self.containers)

    @property
    def apart(self) -> bool:
        """Whether MPS shares must be on different GPUs: so it is where one container wants several."""
        return any(c.count > 1 for c in self.containers)

    @classmethod
    def of(cls, pod: Mapping[str, object]) -> Self | None:
        """The demand of a Pod (its JSON), None if it asks for nothing that is ours to place. Raises DemandError."""
        faults: list[str] = []
        containers, static = _counts(pod, faults)
        if not containers and not static and not faults:
            return None
        meta = _mapping(pod.get("metadata"))
        annotations = {str(k): str(v) for k, v in _mapping(meta.get("annotations")).items()}
        uid, name = _text(meta, "uid", faults), _text(meta, "name", faults)
        namespace = str(meta.get("namespace") or "default")
        if containers and static:
            faults.append(f"resources {SLICE} and {STATIC_MIG}…: want one of them, they have different owners")
        shape = _shape(annotations, faults) if containers else None
        priority = _mapping(pod.get("spec")).get("priority")
        reuse = Reuse.of(pod, faults)
        if faults:
            raise DemandError(f"pod {namespace}/{name or '?'}: " + "; ".join(faults))
        return cls(
            uid=uid,
            key=f"{namespace}/{name}",
            tenant=annotations.get(f"{PREFIX}tenant") or namespace,
            priority=priority if isinstance(priority, int) else 0,
            shape=shape,
            containers=containers,
            static=static,
            load=Load.of(pod),
            reuse=reuse,
        )


def busiest(containers: Iterable[ContainerDemand]) -> int:
    """Most slices held at one time."""
    return rule.busiest(rule.Part(c.count, c.init, c.sidecar) for c in containers)


def _mapping(value: object) -> Mapping[str, object]:
    return value if isinstance(value, Mapping) else {}


def _text(meta: Mapping[str, object], field: str, faults: list[str]) -> str:
    value = meta.get(field)
    if isinstance(value, str) and value:
        return value
    faults.append(f"metadata.{field} is missing; want what the API server gave the pod")
    return ""


def _resources(container: Mapping[str, object]) -> dict[str, object]:
    """Limits over requests: for extended resources Kubernetes demands that they are equal where both stand."""
    resources = _mapping(container.get("resources"))
    return {**_mapping(resources.get("requests")), **_mapping(resources.get("limits"))}


def _counts(
    pod: Mapping[str, object], faults: list[str]
) -> tuple[tuple[ContainerDemand, ...], tuple[tuple[str, int], ...]]:
    """Containers that want slices of ours, and existing MIG instances by profile."""
    spec = _mapping(pod.get("spec"))
    ours: list[ContainerDemand] = []
    static: dict[str, list[ContainerDemand]] = {}
    for field in ("initContainers", "containers"):
        listed = spec.get(field)
        for i, item in enumerate(listed if isinstance(listed, list) else ()):
            container = _mapping(item)
            sidecar = field == "initContainers" and container.get("restartPolicy") == "Always"
            init = field == "initContainers" and not sidecar
            name = str(container.get("name") or f"{field}[{i}]")
            for resource, quantity in _resources(container).items():
                if resource != SLICE and not resource.startswith(STATIC_MIG):
                    continue
                count = parse_count(quantity)
                if count is None or count > MAX_SLICES:
                    faults.append(
                        f"{field}[{i}] ({name}) resource {resource}: want a whole number "
                        f"from 0 to {MAX_SLICES}, got {quantity!r}"
                    )
                elif count and resource == SLICE:
                    ours.append(ContainerDemand(name, count, init=init, sidecar=sidecar))
                elif count:
                    profile = profile_name(resource.removeprefix(STATIC_MIG)) or resource.removeprefix(STATIC_MIG)
                    static.setdefault(profile, []).append(ContainerDemand(name, count, init=init, sidecar=sidecar))
    return tuple(ours), tuple(sorted((profile, busiest(c)) for profile, c in static.items()))


_MODES: Final = {
    "any": frozenset({Mode.MIG, Mode.MPS}),
    "mig": frozenset({Mode.MIG}),
    "mps": frozenset({Mode.MPS}),
    "exclusive": frozenset({Mode.EXCLUSIVE}),
}


_LINKS: Final = {link.value: link for link in Link}


def _shape(annotations: Mapping[str, str], faults: list[str]) -> Shape:
    given = {k.removeprefix(PREFIX): v for k, v in annotations.items() if k.startswith(PREFIX)}
    mode = given.get("mode", "any")
    if mode not in _MODES:
        faults.append(f"annotation {PREFIX}mode: want one of {', '.join(_MODES)}, got {mode!r}")
    profile = None
    if "profile" in given:
        profile = profile_name(given["profile"])
        if profile is None:
            faults.append(f"annotation {PREFIX}profile: want a MIG profile such as 1g.10gb, got {given['profile']!r}")
    memory_mib = parse_mib(given["memory"]) if "memory" in given else 0
    if memory_mib is None:
        faults.append(f"annotation {PREFIX}memory: want a positive quantity such as 20Gi, got {given['memory']!r}")
    compute_pct = parse_count(given["compute"]) if "compute" in given else 0
    if compute_pct is None or ("compute" in given and not 1 <= compute_pct <= 100):
        faults.append(
            f"annotation {PREFIX}compute: want a whole percentage of one GPU from 1 to 100, got {given['compute']!r}"
        )
    models = frozenset(m.strip().lower() for m in given.get("gpu-model", "").split(",") if m.strip())
    if "gpu-model" in given and not models:
        faults.append(f"annotation {PREFIX}gpu-model: want a GPU model such as a100-80, got {given['gpu-model']!r}")
    link = given.get("link", Link.PREFER.value)
    if link not in _LINKS:
        faults.append(f"annotation {PREFIX}link: want one of {', '.join(_LINKS)}, got {link!r}")
    faults += _contradictions(mode, given.keys())
    modes = _MODES.get(mode, frozenset[Mode]())
    return Shape(
        modes=modes & {Mode.MIG} if profile else modes,
        profile=profile,
        memory_mib=memory_mib or 0,
        compute_pct=compute_pct or 0,
        models=models,
        link=_LINKS.get(link, Link.PREFER),
    )


def _contradictions(mode: str, given: AbstractSet[str]) -> list[str]:
    faults = []
    if "profile" in given and ("memory" in given or "compute" in given):
        faults.append(
            f"annotations {PREFIX}profile and {PREFIX}memory or {PREFIX}compute: want one way to say the size"
        )
    if "profile" in given and mode in {"mps", "exclusive"}:
        faults.append(f"annotation {PREFIX}profile: only MIG has profiles; want {PREFIX}mode mig or any, got {mode!r}")
    if mode == "exclusive" and "compute" in given:
        faults.append(f"annotation {PREFIX}compute: a whole GPU has all of its compute; leave it out")
    if mode != "exclusive" and "link" in given:
        faults.append(f"annotation {PREFIX}link: only whole GPUs are joined; want {PREFIX}mode exclusive, got {mode!r}")
    if mode in {"any", "mig", "mps"} and not given & {"profile", "memory", "compute"}:
        faults.append(
            f"no size: want annotation {PREFIX}profile, or {PREFIX}memory and/or {PREFIX}compute, "
            f"or {PREFIX}mode: exclusive for whole GPUs"
        )
    return faults
