"""On a full node, interactive agents take the place of batch agents: evicted is whom the extender names."""

from functools import partial
from typing import Final

import pytest

from tests.e2e.parts.client import Json
from tests.e2e.parts.controlplane import ControlPlane
from tests.e2e.parts.installation import installation, mig
from tests.e2e.parts.kustomize import overlaid
from tests.e2e.parts.process import LOOPBACK
from tests.e2e.parts.waiting import repeatedly, wait_for
from tests.e2e.parts.workloads import deployment, remove, running, runs
from tests.e2e.placements import Watchman

pytestmark = pytest.mark.e2e
# Each agent wants one CPU. The node runs out of CPUs before it runs out of slices: kube-scheduler's own dry run, which
# knows nothing of slices, can then name victims, and asks the extender what it thinks of them.
CPUS: Final = 4


def batch_planner() -> Json:
    """The planner as somebody would run it overnight."""
    batch = {"spec": {"template": {"spec": {"priorityClassName": "slicewise-batch"}}}}
    return overlaid(deployment("planner", replicas=CPUS), batch)


def interactive_coder(replicas: int) -> Json:
    """The coder, on a MIG slice, for somebody who waits."""
    annotations = {"slicewise.dev/mode": "mig", "slicewise.dev/memory": "8Gi", "slicewise.dev/compute": None}
    template = {"metadata": {"annotations": annotations}, "spec": {"priorityClassName": "slicewise-interactive"}}
    return overlaid(deployment("coder", replicas=replicas), {"spec": {"template": template}})


@pytest.mark.parametrize("names_only", [pytest.param(True, id="by name"), pytest.param(False, id="as whole pods")])
def test_interactive_agents_take_the_place_of_batch_agents(
    plane: ControlPlane, base: None, *, names_only: bool
) -> None:
    api, watchman = plane.api, Watchman(plane.api)
    nobody = f"http://{LOOPBACK}:9"
    with installation(plane, prometheus_url=nobody, gpus={"full-1": mig()}, cpus=CPUS, names_only=names_only):
        try:
            with repeatedly(watchman.look, every_s=0.2):
                api.apply(batch_planner())
                wait_for("the node is full", partial(runs, api, "planner", CPUS), within_s=60)
                # One after the other: of two preemptors at once, kube-scheduler 1.36 may leave one waiting, for
                # minutes, for a pod that the other has evicted already.
                for count in (1, 2):
                    api.apply(interactive_coder(count))
                    wait_for(f"{count} interactive", partial(runs, api, "coder", count), within_s=120)
            assert len(running(api, "planner")) == CPUS - 2
            assert list(watchman.faults) == []
        finally:
            remove(api, ["planner", "coder"])
