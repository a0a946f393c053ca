"""GPU models, one TOML file each. Used only where a node's own report has no profiles, and by simulations.

Adding a model is adding a file: the folder is read at the first use.
"""

import tomllib
from collections.abc import Mapping
from functools import cache
from importlib import resources
from types import MappingProxyType

from extender.placement.profile import GpuModel, Profile


def parse(text: str) -> GpuModel:
    """One catalog file. Keys that only tell where a number is from (`source`, `inferred`) are for people."""
    document = tomllib.loads(text)
    return GpuModel(
        name=document["name"],
        memory_mib=document["memory_mib"],
        profiles=tuple(
            Profile(
                name=p["name"],
                slices=p["slices"],
                size=p["size"],
                memory_mib=p["memory_mib"],
                starts=tuple(p["starts"]),
                max_count=p["max_count"],
                id=p["id"],
                sms=p.get("sms"),
            )
            for p in document.get("profile", ())
        ),
        sms=document.get("sms"),
        nvswitch=document.get("nvswitch", 0),
    )


@cache
def load() -> Mapping[str, GpuModel]:
    """Every model by name, in the order of their names."""
    files = sorted(
        (f for f in resources.files(__package__).iterdir() if f.name.endswith(".toml")), key=lambda f: f.name
    )
    models = (parse(f.read_text("utf-8")) for f in files)
    return MappingProxyType({m.name: m for m in models})
