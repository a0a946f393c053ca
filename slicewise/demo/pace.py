"""Accelerated time: one place says how the cluster's clock follows the wall's."""

from collections.abc import Callable
from dataclasses import dataclass

Clock = Callable[[], float]  #: seconds since the epoch


@dataclass(frozen=True, slots=True)
class Pace:
    """The cluster's clock shows `origin_s` when the wall's does, and runs `speed` times as fast from there on.

    >>> Pace(wall=lambda: 1010.0, origin_s=1000.0, speed=30.0)()
    1300.0
    """

    wall: Clock
    origin_s: float
    speed: float

    def __call__(self) -> float:
        """Seconds since the epoch, in cluster time."""
        return self.origin_s + (self.wall() - self.origin_s) * self.speed

    def wall_s(self, cluster_s: float) -> float:
        """How long a wait of the cluster's is on the wall's clock."""
        return cluster_s / self.speed
