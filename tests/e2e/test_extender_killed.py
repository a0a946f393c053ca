"""The extender dies in the middle of a burst of binds, again and again: nothing is placed twice, nothing is lost."""

from functools import partial
from typing import Final

import pytest

from tests.e2e.parts.client import Api
from tests.e2e.parts.controlplane import ControlPlane
from tests.e2e.parts.installation import installation, mig, mps
from tests.e2e.parts.process import LOOPBACK, Process
from tests.e2e.parts.waiting import repeatedly, wait_for
from tests.e2e.parts.workloads import deployment, pods, remove, runs
from tests.e2e.placements import Watchman, held_by

pytestmark = pytest.mark.e2e
GPUS: Final = {"burst-1": mig(4), "burst-2": mig(4), "burst-3": mps(4)}
# Every slice of every GPU will be held at the end: had one been lost or given twice, the pods would not fit.
PLANNERS: Final = 8 * 7
CODERS: Final = 4 * 5
ALL: Final = PLANNERS + CODERS
KILLS: Final = 3


def bound(api: Api) -> int:
    return sum("nodeName" in pod["spec"] for name in ("planner", "coder") for pod in pods(api, name))


def binds(extender: Process) -> int:
    """How many it has told of, by its log: in the middle of a burst the API server is too slow to be asked."""
    return extender.log.read_bytes().count(b'"event": "extender.bound"')


def has_bound(extender: Process, count: int) -> bool:
    return binds(extender) >= count


def test_a_burst_of_binds_survives_kills_of_the_extender(plane: ControlPlane, base: None) -> None:
    api, watchman = plane.api, Watchman(plane.api)
    nobody = f"http://{LOOPBACK}:9"
    with installation(plane, prometheus_url=nobody, gpus=GPUS) as slicewise:
        try:
            with repeatedly(watchman.look, every_s=0.1):
                api.apply(deployment("planner", replicas=PLANNERS))
                api.apply(deployment("coder", replicas=CODERS))
                at_kills = []
                for kill in range(1, KILLS + 1):
                    some = partial(has_bound, slicewise.extender, binds(slicewise.extender) + 5)
                    wait_for(f"binds under way, kill {kill}", some, within_s=60, every_s=0.002)
                    slicewise.extender.kill()
                    at_kills.append(bound(api))
                    slicewise.start_extender()
                assert max(at_kills) < ALL, "the last kill came too late to be in the middle of the burst"
                wait_for("all planners run", partial(runs, api, "planner", PLANNERS), within_s=120)
                wait_for("all coders run", partial(runs, api, "coder", CODERS), within_s=120)
            watchman.look()
            assert list(watchman.faults) == []
            held = held_by([*pods(api, "planner"), *pods(api, "coder")])
            assert len({entry.pod for entry in held}) == len(held) == ALL
        finally:
            remove(api, ["planner", "coder"])
