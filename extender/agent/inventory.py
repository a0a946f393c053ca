"""Pure: from readings to the annotation that the extender reads. See extender.placement.model for the other side."""

import json
import re
import tomllib
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib import resources
from types import MappingProxyType
from typing import Any, Final, Self

from extender.agent.reading import GpuReading, InstanceReading, NvmlError
from extender.placement import catalog
from extender.placement.links import NO_LINKS
from extender.placement.model import VERSION
from extender.placement.profile import Mode, Profile, profile_name

OTHER: Final = "other"
ALL: Final = frozenset({"all"})


@dataclass(frozen=True, slots=True)
class Chosen:
    """GPUs by index or UUID; `everything` stands for all of them."""

    names: frozenset[str] = frozenset()
    everything: bool = False

    @classmethod
    def parse(cls, text: str, option: str) -> Self:
        """`all`, or indexes and UUIDs: `0,2,GPU-5f…`. Raises NvmlError naming the option."""
        names = _named(text)
        if names == ALL:
            return cls(everything=True)
        _refuse_others(text, option, names, lambda n: n.isdigit() or n.startswith("GPU-"), "an index, a GPU-… UUID")
        return cls(names)

    def __contains__(self, gpu: GpuReading) -> bool:
        return self.everything or gpu.uuid in self.names or str(gpu.index) in self.names


NO_GPUS: Final = Chosen()


@dataclass(frozen=True, slots=True)
class ChosenInstances:
    """MIG instances by UUID or profile; `everything` stands for all of them."""

    names: frozenset[str] = frozenset()
    everything: bool = False

    @classmethod
    def parse(cls, text: str, option: str) -> Self:
        """`all`, or MIG UUIDs and profiles: `3g.40gb,MIG-5f…`. Raises NvmlError naming the option."""
        names = _named(text)
        if names == ALL:
            return cls(everything=True)
        _refuse_others(
            text,
            option,
            names,
            lambda n: n.startswith("MIG-") or profile_name(n) is not None,
            "a MIG-… UUID, a profile",
        )
        return cls(frozenset(profile_name(n) or n for n in names))

    def __contains__(self, instance: InstanceReading) -> bool:
        """Never one without a compute instance: there is nothing to share."""
        named = self.everything or instance.uuid in self.names or instance.placement.profile in self.names
        return bool(instance.uuid) and named


NO_INSTANCES: Final = ChosenInstances()


def _named(text: str) -> frozenset[str]:
    return frozenset(part.strip() for part in text.split(",") if part.strip())


def _refuse_others(text: str, option: str, names: frozenset[str], fits: Callable[[str], bool], kinds: str) -> None:
    wrong = sorted(name for name in names if not fits(name))
    if wrong:
        raise NvmlError(f"{option} {text!r}: {wrong[0]!r} is neither {kinds} nor the word all")


def mode(gpu: GpuReading, shared: Chosen) -> Mode:
    """MIG mode is the GPU's own state; between the other two the operator chooses."""
    if gpu.mig:
        return Mode.MIG
    return Mode.MPS if gpu in shared else Mode.EXCLUSIVE


def document(
    gpus: Iterable[GpuReading],
    *,
    shared: Chosen = NO_GPUS,
    foreign: Chosen = NO_GPUS,
    instances: ChosenInstances = NO_INSTANCES,
    made: Collection[str] = (),
) -> dict[str, Any]:
    """The inventory. `shared`: GPUs under MPS; `foreign`: another manager's; `made`: MIG devices that we created.

    `instances`: under MPS too, but for those that we made.
    """
    found = [_gpu(g, shared, foreign) | _cut(g, instances, made) for g in gpus]
    return {"version": VERSION, "gpus": found}


def encoded(inventory: Mapping[str, Any]) -> str:
    """Its text: the same inventory gives the same text, so that only changes are written."""
    return json.dumps(inventory, separators=(",", ":"), sort_keys=True)


def _gpu(gpu: GpuReading, shared: Chosen, foreign: Chosen) -> dict[str, Any]:
    found: dict[str, Any] = {
        "uuid": gpu.uuid,
        "index": gpu.index,
        "model": model_name(gpu),
        "memory_mib": gpu.memory_mib,
        "mode": mode(gpu, shared).value,
        "healthy": gpu.fault is None,
    }
    if gpu.fault is not None:
        found["why"] = gpu.fault
    if gpu.numa is not None:
        found["numa"] = gpu.numa
    if gpu.links != NO_LINKS:
        found["links"] = gpu.links.wire()
    if gpu in foreign:
        found["owner"] = OTHER
    return found


def _cut(gpu: GpuReading, shared: ChosenInstances, made: Collection[str]) -> dict[str, Any]:
    """What a GPU in MIG mode can be cut into, and is."""
    if not gpu.mig:
        return {}
    instances = [
        {
            "profile": i.placement.profile,
            "start": i.placement.start,
            "size": i.placement.size,
            "uuid": i.uuid,
            **({"managed": True} if i.uuid in made else {"mps": True} if i in shared else {}),
        }
        for i in sorted(gpu.instances, key=lambda i: (i.placement.start, i.placement.profile))
    ]
    return ({"profiles": [_profile(p) for p in gpu.profiles]} if gpu.profiles else {}) | {"instances": instances}


def _profile(profile: Profile) -> dict[str, Any]:
    return {
        "name": profile.name,
        "size": profile.size,
        "slices": profile.slices,
        "memory_mib": profile.memory_mib,
        "starts": list(profile.starts),
        "max_count": profile.max_count,
    }


def model_name(gpu: GpuReading) -> str:
    """The catalog's name of its PCI device or product, else the product's own name made into one word.

    >>> model_name(GpuReading("GPU-1", 0, "NVIDIA H200 NVL", "ffff", 143771, mig=False))
    'h200-nvl'
    """
    if gpu.product in catalog.load():
        return gpu.product
    known = _by_device().get(gpu.device_id)
    return known or re.sub(r"[^a-z0-9]+", "-", gpu.product.lower().removeprefix("nvidia ")).strip("-") or "unknown"


@cache
def _by_device() -> Mapping[str, str]:
    """Catalog names by PCI device, which the catalog's files list beside what the models are made of."""
    files = (f for f in resources.files(catalog).iterdir() if f.name.endswith(".toml"))
    documents = [tomllib.loads(f.read_text("utf-8")) for f in files]
    pairs: Sequence[tuple[str, str]] = [(i.lower(), d["name"]) for d in documents for i in d.get("pci_devices", ())]
    return MappingProxyType(dict(pairs))
