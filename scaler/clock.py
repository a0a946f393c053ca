"""Time at the edges."""

from collections.abc import Awaitable, Callable

Clock = Callable[[], float]  #: seconds since the epoch, as the samples' times are
Sleep = Callable[[float], Awaitable[None]]  #: waits for so many of the clock's seconds
