"""Strain of what agents depend on, by the queries that the server's settings have for it; each is asked once a tick."""

import asyncio
from collections.abc import Mapping

from scaler.backends import Dependency
from scaler.signals.dependency import name_of, strain
from scaler.signals.reading import Missing, Reading, reading_of
from scaler.sources.base import Asks, Found, SourceError, Subject
from scaler.sources.prometheus_api import NotAnsweredError, PrometheusApi


class DependencySource:
    """`dependencies`: those whose queries `api` answers, by name."""

    def __init__(self, api: PrometheusApi, dependencies: Mapping[str, Dependency]) -> None:
        self._api = api
        self._dependencies = {name_of(name): dependency for name, dependency in dependencies.items()}

    def provides(self, subject: Subject) -> frozenset[str]:
        return frozenset(map(name_of, subject.depends_on)) & self._dependencies.keys()

    async def read(self, asks: Asks, at_s: float) -> Mapping[Subject, Found]:
        wanted = sorted({name for names in asks.values() for name in names})
        found = dict(zip(wanted, await asyncio.gather(*(self._strain(name, at_s) for name in wanted)), strict=True))
        asked = {name: self._dependencies[name].latency_query for name in wanted}
        return {
            subject: Found(readings={name: found[name] for name in names}, asked={name: asked[name] for name in names})
            for subject, names in asks.items()
        }

    async def close(self) -> None:
        await self._api.close()

    async def _strain(self, name: str, at_s: float) -> Reading:
        dependency = self._dependencies[name]
        latency, errors = await asyncio.gather(
            self._value(dependency.latency_query, at_s), self._value(dependency.error_query, at_s)
        )
        return strain({"latency": (latency, dependency.latency_s), "errors": (errors, dependency.error_share)})

    async def _value(self, query: str, at_s: float) -> Reading:
        """Raises SourceError where the far side is not reached."""
        try:
            answer = await self._api.instant(query, at_s)
        except NotAnsweredError as e:
            if not e.reached:
                raise SourceError(str(e)) from e
            return Missing(str(e))
        numbers = [series.value for series in answer.series if series.value is not None]
        if len(numbers) != 1 or len(answer.series) != 1:
            return Missing(f"{len(answer.series)} series; want one number")
        return reading_of(float(numbers[0].value), at_s)
