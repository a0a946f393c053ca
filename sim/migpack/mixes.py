"""Mixes of demands over the plain profiles of a GPU model, smallest first, and their arrivals and lifetimes."""

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from extender.placement import catalog
from extender.placement.profile import GpuModel, Profile
from sim.streams import stream

#: Shares of 1g, 1g with double memory, 2g, 3g, 4g and 7g on GPUs of eight memory slices.
SKEWED: Final = {
    "skew-small": (0.30, 0.25, 0.20, 0.12, 0.08, 0.05),
    "skew-big": (0.05, 0.08, 0.12, 0.20, 0.25, 0.30),
    "bimodal": (0.30, 0.15, 0.05, 0.05, 0.15, 0.30),
}
MIXES: Final = ("uniform", *SKEWED)


class MixError(ValueError):
    """A GPU model that cannot be cut, or a mix that it has too few profiles for."""


@dataclass(frozen=True, slots=True)
class Workload:
    """What is asked for, in memory slices. `profiles` are the plain ones of the model."""

    model: GpuModel
    name: str
    shares: tuple[float, ...]

    @classmethod
    def of(cls, model: str, mix: str) -> "Workload":
        """Raises MixError."""
        known = catalog.load()
        if model not in known or not known[model].profiles:
            able = ", ".join(name for name, m in known.items() if m.profiles)
            raise MixError(f"--model: want one of {able}, got {model!r}")
        count = len(plain(known[model]))
        shares = SKEWED.get(mix, (1 / count,) * count)
        if len(shares) != count:
            raise MixError(f"--mix {mix}: is made for {len(shares)} profiles, {model} has {count}; want uniform")
        return cls(known[model], mix, shares)

    @property
    def profiles(self) -> tuple[Profile, ...]:
        return plain(self.model)

    @property
    def sizes(self) -> NDArray[np.int64]:
        return np.array([p.size for p in self.profiles])

    @property
    def slices_per_gpu(self) -> int:
        return int(self.sizes.max())

    def draw(self, seed: int, count: int) -> NDArray[np.int64]:
        """So many demands, as indices of `profiles`."""
        return stream(seed, "migpack.demands").choice(len(self.shares), size=count, p=self.shares)

    def arrivals(self, seed: int, gpus: int, load: float, end: float) -> "Arrivals":
        """Poisson arrivals and exponential lifetimes; time is in mean lifetimes. `load`: slices asked for, of all."""
        rate = load * self.slices_per_gpu * gpus / float(np.dot(self.shares, self.sizes))
        at = stream(seed, "migpack.arrivals")
        count = int(at.poisson(rate * end))
        return Arrivals(
            np.sort(at.random(count)) * end,
            self.draw(seed, count),
            stream(seed, "migpack.lifetimes").exponential(size=count),
        )


@dataclass(frozen=True, slots=True, eq=False)
class Arrivals:
    """(n,) each, by time."""

    at: NDArray[np.float64]
    profile: NDArray[np.int64]
    lifetime: NDArray[np.float64]


def plain(model: GpuModel) -> tuple[Profile, ...]:
    return tuple(sorted((p for p in model.profiles if p.plain), key=lambda p: (p.size, p.slices)))
