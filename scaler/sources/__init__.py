"""Edges that read: one file a kind of backend."""

from collections.abc import Mapping
from dataclasses import dataclass
from importlib import import_module
from typing import Any, Final

from scaler.backends import Backend
from scaler.clock import Clock
from scaler.sources.base import PodDirectory, Source
from scaler.sources.presets import Preset

SOURCES: Final = {
    "kafka": "scaler.sources.kafka",
    "nats": "scaler.sources.nats",
    "prometheus": "scaler.sources.prometheus",
    "rabbitmq": "scaler.sources.rabbitmq",
    "redis": "scaler.sources.redis",
    "scrape": "scaler.sources.scrape",
}
"""Kind of a backend in the settings -> the module whose `connect(name, backend, wiring)` makes its source.

Imported only where the settings name one, so that a kind's client library is needed only there.
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Wiring:
    """What the process gives to its sources.

    `timeout_s`: for one question; `at_once`: questions under way, at most. `pods`: who is where; None where the
    Kubernetes API is not read.
    """

    presets: Mapping[str, Preset]
    clock: Clock
    timeout_s: float
    at_once: int
    pods: PodDirectory | None = None


class MissingExtraError(Exception):
    """A kind of backend needs a library that is not installed."""


def connect(name: str, backend: Backend, wiring: Wiring) -> Source:
    """The source of one backend of the settings. Raises MissingExtraError."""
    kind: str = getattr(backend, "kind")  # noqa: B009  # each kind declares its own literal
    try:
        module: Any = import_module(SOURCES[kind])
    except ModuleNotFoundError as e:
        raise MissingExtraError(
            f"backends.{name}: kind {kind!r} needs the Python module {e.name!r}; pip install 'slicewise[{kind}]'"
        ) from e
    source: Source = module.connect(name, backend, wiring)
    return source
