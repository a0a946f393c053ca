"""A workload goes from no replica to many and back on nothing but what vLLM itself tells of a real load.

Real: the engines (vLLM on the CPU, random weights), the clients' load on them, their /metrics, Prometheus, Slicewise,
KEDA, the HPA, kube-scheduler. Fake: nodes and pods, by KWOK. Behind each ready pod of the Deployment stands a vLLM of
its own, started beforehand; it is scraped and gets requests only as long as the pod is ready. A request that it has
when the pod goes is still answered, as by a pod that is drained.

At no replica there is no pod to tell of a queue. Elsewhere a gateway tells (`agent_requests_waiting`,
test_whole_way.py); here one engine is reserved capacity out of the autoscaler's reach, as the pod `planner-0`, and
what wakes the Deployment is the load in it. No metric but vLLM's own is in Prometheus.
"""

import asyncio
import itertools
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from functools import partial
from typing import Final

import pytest

from tests.e2e.clients import asks, closed_loop
from tests.e2e.discovery import Discovery
from tests.e2e.fleet import Fleet
from tests.e2e.parts.client import Api
from tests.e2e.parts.controlplane import ControlPlane
from tests.e2e.parts.installation import Installation, installation, mig
from tests.e2e.parts.prometheus import Prometheus
from tests.e2e.parts.vllm import Vllm, environment_or_skip
from tests.e2e.parts.waiting import repeatedly, wait_for
from tests.e2e.parts.workloads import (
    NAMESPACE,
    ReplicaHistory,
    at_zero,
    deployment,
    remove,
    runs,
    scaled_object,
    watched,
)

pytestmark = pytest.mark.e2e
WORKLOAD: Final = "planner"
SLOTS: Final = 4  # as the ScaledObject's queuePerReplica
MOST: Final = 2  # replicas; with the reserved one, three engines on two cores
CLIENTS: Final = 4 * SLOTS
MOST_REQUESTS: Final = 5000  # the load is stopped long before


@pytest.fixture
def engines(plane: ControlPlane) -> Iterator[list[Vllm]]:
    environment = environment_or_skip()
    with ExitStack() as stack:
        started = []
        for _ in range(MOST + 1):
            engine = Vllm(environment, plane.folder, slots=SLOTS, threads=1)
            stack.callback(engine.stop)
            started.append(engine.start())
        yield [engine.serving() for engine in started]


@pytest.fixture
def discovery() -> Iterator[Discovery]:
    with Discovery(NAMESPACE).serving() as serving:
        yield serving


@pytest.fixture
def prometheus(plane: ControlPlane, discovery: Discovery) -> Iterator[Prometheus]:
    server = Prometheus(plane.tools, plane.folder, discovery_url=discovery.url)
    try:
        yield server.up()
    finally:
        server.stop()


@pytest.fixture
def slicewise(plane: ControlPlane, base: None, prometheus: Prometheus) -> Iterator[Installation]:
    with installation(plane, prometheus_url=prometheus.url, gpus={"mig-1": mig()}) as running:
        yield running


def test_vllm_under_load_scales_its_workload(
    plane: ControlPlane, engines: list[Vllm], discovery: Discovery, prometheus: Prometheus, slicewise: Installation
) -> None:
    api, before = plane.api, _events(plane.api)
    fleet, history, enough = Fleet(api, WORKLOAD, engines, discovery), ReplicaHistory(api, WORKLOAD), threading.Event()
    with ExitStack() as stack:
        stack.callback(remove, api, [WORKLOAD])
        api.apply(deployment(WORKLOAD))
        api.apply(scaled_object(WORKLOAD, scaler=slicewise.scaler_address, most=MOST))
        stack.enter_context(repeatedly(history.look, every_s=0.1))
        stack.enter_context(repeatedly(fleet.look, every_s=0.25))
        wait_for(f"KEDA has taken on {WORKLOAD}", partial(watched, api, WORKLOAD), within_s=60)
        assert at_zero(api, WORKLOAD)

        clients = stack.enter_context(ThreadPoolExecutor(1)).submit(_load, fleet, enough)
        stack.callback(enough.set)  # a failure below must not wait for the rest of the load
        wait_for(f"{WORKLOAD} runs at its most", partial(runs, api, WORKLOAD, MOST), within_s=180)
        wait_for("each engine has answered", lambda: all(_answered(engine) for engine in engines), within_s=120)
        enough.set()
        sent = clients.result(timeout=180)
        wait_for(f"{WORKLOAD} is at zero again", partial(at_zero, api, WORKLOAD), within_s=180)

    assert (history.seen[0], max(history.seen), history.seen[-1]) == (0, MOST, 0)
    assert fleet.most == MOST + 1
    assert sum(_answered(engine) for engine in engines) == sent
    steps = {reason for _, _, reason in _events(api) - before}
    assert steps >= {"KEDAScaleTargetActivated", "SuccessfulRescale", "KEDAScaleTargetDeactivated"}
    assert prometheus.value('count({__name__=~"agent_.+"})') is None, "vLLM's metrics alone decided"


def _load(fleet: Fleet, enough: threading.Event) -> int:
    """Clients that ask until it is enough; how many answers they got."""
    load = asks([0.0] * MOST_REQUESTS, prompt_tokens=(50, 300), output_tokens=(40, 120), seed=7)
    until = itertools.takewhile(lambda _: not enough.is_set(), load)
    return len(asyncio.run(closed_loop(fleet.door, until, clients=CLIENTS)))


def _answered(engine: Vllm) -> int:
    lines = [line for line in engine.metrics().splitlines() if line.startswith("vllm:request_success_total{")]
    return sum(int(float(line.rsplit(" ", 1)[1])) for line in lines)


def _events(api: Api) -> set[tuple[str, int, str]]:
    """Each event of the namespace: its name, how often, and what for."""
    events = api.items(f"/api/v1/namespaces/{NAMESPACE}/events")
    return {(event["metadata"]["name"], event.get("count") or 1, event["reason"]) for event in events}
