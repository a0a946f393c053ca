"""What a GPU model can be cut into: profiles, their legal placements and the rules that exclude one another."""

import re
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final


class Mode(StrEnum):
    """How a GPU is shared: cut into MIG instances, shared through MPS, or given whole."""

    MIG = "mig"
    MPS = "mps"
    EXCLUSIVE = "exclusive"


class Media(StrEnum):
    """What a MIG profile takes of the media engines; the profile's name says it.

    Source: NVIDIA MIG User Guide, "Supported MIG Profiles": `+me`, `+me.all` name extensions, `-me` their absence.
    """

    SHARE = "share"  # plain and +gfx profiles: the engines that come with the slice
    EXTENDED = "me"  # +me: the extensions; one instance on a GPU
    ALL = "me.all"  # +me.all: every engine; only -me instances may stand beside it
    NONE = "no-me"  # -me


@dataclass(frozen=True, slots=True, order=True)
class Placement:
    """One place on one GPU: `profile` over memory slices `start` … `start + size - 1`."""

    profile: str
    start: int
    size: int

    def __str__(self) -> str:
        return f"{self.profile}@{self.start}"


@dataclass(frozen=True, slots=True)
class Profile:
    """A kind of MIG instance: what it gives and where it may start, in memory slices, as NVML reports it."""

    name: str
    slices: int  # compute slices
    size: int  # memory slices
    memory_mib: int
    starts: tuple[int, ...]
    max_count: int  # most of them on one GPU
    id: int | None = field(default=None, compare=False)  # NVML's profile id, where the catalog tells it
    sms: int | None = field(default=None, compare=False)  # streaming multiprocessors: not as many per slice everywhere

    @property
    def media(self) -> Media:
        if self.name.endswith("+me.all"):
            return Media.ALL
        if self.name.endswith("+me"):
            return Media.EXTENDED
        return Media.NONE if self.name.endswith("-me") else Media.SHARE

    @property
    def plain(self) -> bool:
        """Whether the name has no attribute: only these are chosen for a demand in memory and compute."""
        return "+" not in self.name and "-" not in self.name

    @property
    def short(self) -> str:
        """Its name up to the memory: `3g` of `3g.40gb`, for people."""
        return self.name.split(".", 1)[0]


@dataclass(frozen=True, slots=True)
class GpuModel:
    """A GPU model, or one GPU's own report where that differs from the catalog. Without profiles: not MIG-capable."""

    name: str
    memory_mib: int
    profiles: tuple[Profile, ...] = ()
    sms: int | None = field(default=None, compare=False)  # of the whole GPU without MIG, where the catalog tells it
    nvswitch: int = field(default=0, compare=False)  # NVLinks to switches where the maker's boards have them: for fakes
    _hash: int = field(init=False, repr=False, compare=False)  # counted once: every look-up of tables asks for it

    def __post_init__(self) -> None:
        object.__setattr__(self, "_hash", hash((self.name, self.memory_mib, self.profiles)))

    def __hash__(self) -> int:
        return self._hash

    def profile(self, name: str) -> Profile | None:
        return next((p for p in self.profiles if p.name == name), None)

    @property
    def compute_slices(self) -> int:
        """Compute slices of the whole GPU: those of its largest profile; 0 without MIG."""
        return max((p.slices for p in self.profiles), default=0)


_NAME: Final = re.compile(r"(\d+g\.\d+gb)(?:([+.-])(me\.all|me|gfx))?")


def profile_name(text: str) -> str | None:
    """The name as NVML writes it, of any form that is in use; None if it is no profile name.

    In resource names a `+` is written `.`, and `-me` stays. Source: NVIDIA/k8s-device-plugin internal/rm/rm.go.

    >>> profile_name("1g.5gb.me"), profile_name("1g.24gb-me"), profile_name("2g.48gb+me.all"), profile_name("half")
    ('1g.5gb+me', '1g.24gb-me', '2g.48gb+me.all', None)
    """
    m = _NAME.fullmatch(text.strip().lower().removeprefix("mig "))
    if m is None or (m[2] == "-" and m[3] != "me"):
        return None
    if m[2] is None:
        return m[1]
    return f"{m[1]}{'-' if m[2] == '-' else '+'}{m[3]}"
