"""What the manifests do not use but others will: pushed activation, and whole nodes instead of their names."""

from contextlib import ExitStack
from functools import partial

import pytest

from tests.e2e.engines import Load, Request, Speed
from tests.e2e.exporter import Exporter
from tests.e2e.parts.controlplane import ControlPlane
from tests.e2e.parts.installation import installation, mig, mps
from tests.e2e.parts.prometheus import Prometheus
from tests.e2e.parts.waiting import repeatedly, wait_for
from tests.e2e.parts.workloads import at_zero, deployment, remove, runs_at_least, scaled_object, watched
from tests.e2e.placements import Watchman

pytestmark = pytest.mark.e2e


def test_a_push_trigger_and_a_scheduler_that_sends_whole_nodes(plane: ControlPlane, base: None) -> None:
    api, watchman = plane.api, Watchman(plane.api)
    with ExitStack() as stack:
        exporter = stack.enter_context(Exporter(api).serving())
        prometheus = Prometheus(plane.tools, plane.folder, discovery_url=f"http://{exporter.address}/targets")
        stack.callback(prometheus.stop)
        prometheus.up()
        gpus = {"forms-1": mig(), "forms-2": mig(), "forms-3": mps()}
        slicewise = stack.enter_context(installation(plane, prometheus_url=prometheus.url, gpus=gpus, names_only=False))
        stack.callback(remove, api, ["planner"])
        stack.enter_context(repeatedly(watchman.look, every_s=0.5))
        eight_for_a_while = [Request(i / 8, 0, 1) for i in range(8 * 30)]
        speed = Speed(prompt_tokens_per_s=1.0, generated_tokens_per_s=1.0)
        exporter.add("agents", "planner", Load(eight_for_a_while, slots=4, speed=speed))
        api.apply(deployment("planner"))
        asked = scaled_object("planner", scaler=slicewise.scaler_address, most=4, trigger_type="external-push")
        api.apply(asked)
        wait_for("KEDA has taken it on", partial(watched, api, "planner"), within_s=60)
        exporter.begin("planner")
        wait_for("replicas", partial(runs_at_least, api, "planner", 2), within_s=120)
        wait_for("the load is served", partial(exporter.over, "planner"), within_s=120)
        wait_for("at zero again", partial(at_zero, api, "planner"), within_s=120)
    assert list(watchman.faults) == []
    assert {node for node, _, _ in watchman.held} <= {"forms-1", "forms-2"}
