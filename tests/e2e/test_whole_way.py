"""The main job on the real control plane: recorded load, replicas by KEDA and HPA, each pod on a slice of its own."""

import os
from collections.abc import Iterator
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Final

import pytest

from tests.e2e.engines import Load, Request, azure_trace, speed_for, synthetic_trace, window
from tests.e2e.exporter import Exporter
from tests.e2e.parts.client import Api
from tests.e2e.parts.controlplane import ControlPlane
from tests.e2e.parts.installation import Installation, installation, mig, mps, whole
from tests.e2e.parts.prometheus import Prometheus
from tests.e2e.parts.waiting import repeatedly, wait_for
from tests.e2e.parts.workloads import (
    ReplicaHistory,
    at_zero,
    deployment,
    remove,
    runs,
    scaled_object,
    watched,
)
from tests.e2e.placements import Watchman

pytestmark = pytest.mark.e2e

TRACE: Final = Path(
    os.environ.get("SLICEWISE_TRACE", Path(__file__).parents[3] / "shared" / "data" / "llm" / "azure_2023_code.csv.gz")
)
SLOTS: Final = 4  # requests in service at a time in one engine; the ScaledObjects' queuePerReplica
WAVE_S: Final = 60.0
MOST: Final = 5  # replicas of each workload: what fits on one A100 by MPS, and less than fits by MIG
WORKLOADS: Final = ("planner", "coder")


# Who took which step, as they say themselves: KEDA from 0 to 1 and to 0 again, the HPA all others.
ACTIVATED: Final = ("keda-operator", "KEDAScaleTargetActivated")
RESCALED: Final = ("horizontal-pod-autoscaler", "SuccessfulRescale")
DEACTIVATED: Final = ("keda-operator", "KEDAScaleTargetDeactivated")


def events(api: Api) -> set[tuple[str, str]]:
    """Who says what in the agents' namespace."""
    found = api.items("/api/v1/namespaces/agents/events")
    return {(event["reportingComponent"] or event["source"]["component"], event["reason"]) for event in found}


def wave() -> list[Request]:
    """Two and a half minutes with a rush in the middle, replayed in one: recorded by Azure if the trace is there."""
    if TRACE.is_file():
        return window(azure_trace(TRACE), from_s=540, lasts_s=150, replayed_in_s=WAVE_S)
    return window(synthetic_trace(lasts_s=150), from_s=0, lasts_s=150, replayed_in_s=WAVE_S)


@pytest.fixture
def exporter(plane: ControlPlane) -> Iterator[Exporter]:
    with Exporter(plane.api).serving() as serving:
        yield serving


@pytest.fixture
def slicewise(plane: ControlPlane, base: None, exporter: Exporter) -> Iterator[Installation]:
    gpus = {"mig-1": mig(), "mps-1": mps(), "whole-1": whole()}
    with ExitStack() as stack:
        prometheus = Prometheus(plane.tools, plane.folder, discovery_url=f"http://{exporter.address}/targets")
        stack.callback(prometheus.stop)
        prometheus.up()
        yield stack.enter_context(installation(plane, prometheus_url=prometheus.url, gpus=gpus))


def test_load_rises_and_falls_and_the_pods_follow(
    plane: ControlPlane, exporter: Exporter, slicewise: Installation
) -> None:
    api, watchman = plane.api, Watchman(plane.api)
    histories = {name: ReplicaHistory(api, name) for name in WORKLOADS}
    with ExitStack() as stack:
        stack.callback(remove, api, WORKLOADS)
        requests = wave()
        for name in WORKLOADS:
            exporter.add("agents", name, Load(requests, slots=SLOTS, speed=speed_for(requests, concurrency=10)))
            api.apply(deployment(name))
            api.apply(scaled_object(name, scaler=slicewise.scaler_address, most=MOST))
            stack.enter_context(repeatedly(histories[name].look, every_s=0.1))
        stack.enter_context(repeatedly(watchman.look, every_s=0.5))

        _at_rest(api)
        exporter.begin(*WORKLOADS)
        for name in WORKLOADS:
            wait_for(f"{name} runs at its most", partial(runs, api, name, MOST), within_s=120)
        _ends(api, exporter)
        for name in WORKLOADS:
            assert (histories[name].seen[0], max(histories[name].seen), histories[name].seen[-1]) == (0, MOST, 0)
            assert exporter.finished(name) == len(requests), "every request was answered"

        assert events(api) >= {ACTIVATED, RESCALED, DEACTIVATED}
        first = {place: set(holders) for place, holders in watchman.held.items()}
        for name in WORKLOADS:
            exporter.add("agents", name, Load(requests, slots=SLOTS, speed=speed_for(requests, concurrency=10)))
        exporter.begin(*WORKLOADS)
        for name in WORKLOADS:
            wait_for(f"{name} runs at its most again", partial(runs, api, name, MOST), within_s=120)
        watchman.look()  # all may be bound within one of its steps
    reused = {place for place, holders in watchman.held.items() if holders - first.get(place, set()) and place in first}
    assert watchman.looks > 20
    assert list(watchman.faults) == []
    assert {node for node, _, _ in watchman.held} == {"mig-1", "mps-1"}
    assert {node for node, _, _ in reused} == {"mig-1", "mps-1"}, (watchman.looks, dict(watchman.held), first)


def _at_rest(api: Api) -> None:
    for name in WORKLOADS:
        wait_for(f"KEDA has taken on {name}", partial(watched, api, name), within_s=60)
        assert at_zero(api, name)


def _ends(api: Api, exporter: Exporter) -> None:
    for name in WORKLOADS:
        wait_for(f"the load of {name} is served", partial(exporter.over, name), within_s=180)
        wait_for(f"{name} is at zero again", partial(at_zero, api, name), within_s=180)
