"""A session finds its node again, and batch agents leave the room that is kept for interactive ones."""

import json
from functools import partial
from typing import Final

import pytest

from tests.e2e.parts.client import Api, Json
from tests.e2e.parts.controlplane import ControlPlane
from tests.e2e.parts.installation import Installation, installation, mig
from tests.e2e.parts.kustomize import overlaid
from tests.e2e.parts.process import LOOPBACK
from tests.e2e.parts.waiting import repeatedly, wait_for
from tests.e2e.parts.workloads import NAMESPACE, deployment, pods, remove, running, runs
from tests.e2e.placements import Watchman

pytestmark = pytest.mark.e2e
NOBODY: Final = f"http://{LOOPBACK}:9"
VISITS: Final = 5
SESSION: Final = {"slicewise.dev/session": "notebook-7", "slicewise.dev/session-seconds": "30"}


def planner(replicas: int, *, priority: str = "", **annotations: str) -> Json:
    spec = {"priorityClassName": priority} if priority else {}
    template = {"metadata": {"annotations": annotations}, "spec": spec}
    return overlaid(deployment("planner", replicas=replicas), {"spec": {"template": template}})


def interactive_coder() -> Json:
    """On three sevenths of a GPU, for somebody who waits."""
    gone = dict.fromkeys(("slicewise.dev/mode", "slicewise.dev/memory", "slicewise.dev/compute"))
    template = {
        "metadata": {"annotations": {**gone, "slicewise.dev/profile": "3g.40gb"}},
        "spec": {"priorityClassName": "slicewise-interactive"},
    }
    return overlaid(deployment("coder", replicas=1), {"spec": {"template": template}})


def bound(running_now: Installation) -> list[Json]:
    """What the extender logged of its bindings."""
    lines = running_now.extender.log.read_text().splitlines()
    said: list[Json] = [json.loads(line) for line in lines if '"extender.bound"' in line]
    return said


def why_pending(api: Api) -> str:
    """What kube-scheduler says of pods that wait."""
    events = api.items(f"/api/v1/namespaces/{NAMESPACE}/events")
    return "\n".join(e.get("message") or e.get("note") or "" for e in events if e["reason"] == "FailedScheduling")


def test_a_session_comes_back_to_its_node(plane: ControlPlane, base: None) -> None:
    """Both nodes are alike and empty each time, so that nothing else draws it there."""
    api, nodes = plane.api, list[str]()
    with installation(plane, prometheus_url=NOBODY, gpus={"alike-1": mig(), "alike-2": mig()}) as parts:
        try:
            for _ in range(VISITS):
                api.apply(planner(1, **SESSION))
                wait_for("the session runs", partial(runs, api, "planner", 1), within_s=60)
                nodes += [pod["spec"]["nodeName"] for pod in running(api, "planner")]
                api.apply(planner(0, **SESSION))
                wait_for("it is gone", lambda: not pods(api, "planner"), within_s=60)
            warm = [event.get("warm_s") for event in bound(parts)]
        finally:
            remove(api, ["planner"])
    assert len(set(nodes)) == 1, nodes
    assert warm == [{}] + [{"session": 30.0}] * (VISITS - 1), "the first one found nothing"


def test_batch_agents_leave_the_room_that_is_kept_for_interactive_ones(plane: ControlPlane, base: None) -> None:
    """Seven 1g slices fit on the GPU; four of them leave the other half whole."""
    api, watchman = plane.api, Watchman(plane.api)
    kept = {"RESERVE": "priority>=10000: 1 x 3g.40gb"}
    with installation(plane, prometheus_url=NOBODY, gpus={"half-1": mig()}, settings=kept):
        try:
            with repeatedly(watchman.look, every_s=0.2):
                api.apply(planner(7, priority="slicewise-batch"))
                wait_for("batch agents run", partial(runs, api, "planner", 4), within_s=60)
                reason = "headroom: 1 x 3g.40gb are kept for priority 10000 and above"
                wait_for("the others are told why they wait", lambda: reason in why_pending(api), within_s=60)
                api.apply(interactive_coder())
                wait_for("the interactive agent runs", partial(runs, api, "coder", 1), within_s=60)
            assert len(running(api, "planner")) == 4, "nobody was evicted for it, and nobody took its room"
            assert list(watchman.faults) == []
        finally:
            remove(api, ["planner", "coder"])
