"""The scaler dies under load: until it knows again what the load needs, nobody scales down."""

import time
from contextlib import ExitStack
from functools import partial
from typing import Final

import pytest

from tests.e2e.engines import Load, Request, Speed
from tests.e2e.exporter import Exporter
from tests.e2e.parts.apiserver import HPA_PERIOD_S
from tests.e2e.parts.controlplane import ControlPlane
from tests.e2e.parts.installation import installation, mig
from tests.e2e.parts.prometheus import Prometheus
from tests.e2e.parts.waiting import repeatedly, wait_for
from tests.e2e.parts.workloads import POLLING_S, ReplicaHistory, deployment, remove, runs, runs_at_least, scaled_object

pytestmark = pytest.mark.e2e
SLOTS: Final = 4
PER_S: Final = 10.0  # arrivals
SERVICE_S: Final = 1.0
NEEDED: Final = 3  # ceil(10 requests in service / 4 slots)
LASTS_S: Final = 400


def steady_load() -> Load:
    """Ten requests in service at any time, as long as there are slots for them."""
    requests = [Request(i / PER_S, 0, 1) for i in range(int(LASTS_S * PER_S))]
    speed = Speed(prompt_tokens_per_s=1.0, generated_tokens_per_s=1 / SERVICE_S)
    return Load(requests, slots=SLOTS, speed=speed)


def test_a_killed_scaler_scales_nothing_down(plane: ControlPlane, base: None) -> None:
    api = plane.api
    history = ReplicaHistory(api, "planner")
    with ExitStack() as stack:
        exporter = stack.enter_context(Exporter(api).serving())
        prometheus = Prometheus(plane.tools, plane.folder, discovery_url=f"http://{exporter.address}/targets")
        stack.callback(prometheus.stop)
        prometheus.up()
        slicewise = stack.enter_context(installation(plane, prometheus_url=prometheus.url, gpus={"steady-1": mig()}))
        stack.callback(remove, api, ["planner"])
        exporter.add("agents", "planner", steady_load())
        api.apply(deployment("planner"))
        api.apply(scaled_object("planner", scaler=slicewise.scaler_address, most=7))
        exporter.begin("planner")
        # First more than that, for the queue that grew while nothing ran; then exactly what the load needs.
        wait_for("more replicas", partial(runs_at_least, api, "planner", NEEDED + 1), within_s=120)
        wait_for("as many replicas as needed", partial(runs, api, "planner", NEEDED), within_s=180)

        with repeatedly(history.look, every_s=0.1):
            slicewise.scaler.kill()
            # Long enough for several polls and HPA periods to fail, and for KEDA's fallback to act.
            time.sleep(6 * max(POLLING_S, HPA_PERIOD_S))
            slicewise.start_scaler()
            # Long enough for the new process to be asked many times, and for its windows to fill.
            time.sleep(6 * max(POLLING_S, HPA_PERIOD_S))
        assert min(history.seen) >= NEEDED, history.changes
        assert runs_at_least(api, "planner", NEEDED)
