"""Edges that read: one file a source."""

from typing import Final

from scaler.sources.base import Source
from scaler.sources.cluster import ClusterSource
from scaler.sources.prometheus import PrometheusSource

SOURCES: Final[dict[str, type[Source]]] = {
    "cluster": ClusterSource,
    "prometheus": PrometheusSource,
}
"""Name in the settings -> the class. The first that provides a reading gives it."""
