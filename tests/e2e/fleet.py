"""Real engines behind the fake pods of a workload, and the door through which requests come to them."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

from tests.e2e.discovery import Discovery
from tests.e2e.parts.client import Api
from tests.e2e.parts.vllm import Vllm
from tests.e2e.parts.workloads import running


class Fleet:
    """Each ready pod of the Deployment gets an engine that no other pod has, and gives it back when it goes.

    The first engine is reserved capacity: it serves always, beside the Deployment, as the pod `{workload}-0` (the name
    that a StatefulSet of the same name would give it). The discovery tells Prometheus which engine is whose.
    """

    def __init__(self, api: Api, workload: str, engines: Sequence[Vllm], discovery: Discovery) -> None:
        self._api, self._workload, self._discovery = api, workload, discovery
        self._reserved = {f"{workload}-0": engines[0]}
        self._idle = list(engines[1:])
        self._behind: Mapping[str, Vllm] = {}
        self._in_flight = Counter[str]()
        self.most = 0  # engines that served at one time
        self._publish({})

    def look(self) -> None:
        """Follows the pods; to be called again and again."""
        pods = sorted(pod["metadata"]["name"] for pod in running(self._api, self._workload))
        behind = {pod: engine for pod, engine in self._behind.items() if pod in pods}
        self._idle += [engine for pod, engine in self._behind.items() if pod not in pods]
        for pod in pods:
            if pod not in behind and self._idle:
                behind[pod] = self._idle.pop(0)
        self._publish(behind)

    @contextmanager
    def door(self) -> Iterator[str]:
        """The address of the engine with the fewest requests of those that serve now."""
        urls = [engine.url for engine in (self._reserved | dict(self._behind)).values()]
        url = min(urls, key=lambda candidate: self._in_flight[candidate])
        self._in_flight[url] += 1
        try:
            yield url
        finally:
            self._in_flight[url] -= 1

    def _publish(self, behind: Mapping[str, Vllm]) -> None:
        self._behind = behind
        serving = self._reserved | dict(behind)
        self.most = max(self.most, len(serving))
        self._discovery.pods = {pod: engine.url for pod, engine in serving.items()}
