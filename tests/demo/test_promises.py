import json
from typing import Any

import pytest

from slicewise.demo.promises import ALLOCATION, IN_FLIGHT, INVENTORY, NO_KILL, ONE_OWNER, RIGHT_NODE, breaches, killed

Json = dict[str, Any]


def mig(start: int, size: int, uuid: str = "GPU-0") -> Json:
    return {"uuid": uuid, "mode": "mig", "profile": f"{size}g", "start": start, "size": size}


def mps(memory_mib: int, compute_pct: int) -> Json:
    return {"uuid": "GPU-0", "mode": "mps", "memory_mib": memory_mib, "compute_pct": compute_pct}


WHOLE = {"uuid": "GPU-0", "mode": "exclusive"}


def pod(name: str, *gpus: Json, node: str = "a", phase: str = "Running", **annotations: str) -> Json:
    allocation = json.dumps({"version": 1, "containers": [{"name": "main", "gpus": list(gpus)}]})
    metadata = {"name": name, "annotations": {ALLOCATION: allocation, **annotations}}
    return {"metadata": metadata, "spec": {"nodeName": node}, "status": {"phase": phase}}


def node(name: str, uuid: str) -> Json:
    inventory = json.dumps({"version": 1, "gpus": [{"uuid": uuid, "memory_mib": 81920}]})
    return {"metadata": {"name": name, "annotations": {INVENTORY: inventory}}}


NODES = [node("a", "GPU-0"), node("b", "GPU-1"), {"metadata": {"name": "no-gpu"}}]


@pytest.mark.parametrize(
    "pods",
    [
        pytest.param([], id="no pods"),
        pytest.param([pod("x", mig(0, 2)), pod("y", mig(2, 2))], id="slices side by side"),
        pytest.param([pod("x", mps(40960, 50)), pod("y", mps(40960, 50))], id="shares that fill a GPU"),
        pytest.param([pod("x", WHOLE)], id="a whole GPU"),
        pytest.param([pod("x", WHOLE, phase="Succeeded"), pod("y", WHOLE)], id="a pod at its end holds nothing"),
        pytest.param([{"metadata": {"name": "x"}, "spec": {}}], id="a pod without allocation"),
    ],
)
def test_kept(pods: list[Json]) -> None:
    assert breaches(pods, NODES) == []


@pytest.mark.parametrize(
    ("pods", "promise", "what"),
    [
        pytest.param(
            [pod("x", mig(0, 4)), pod("y", mig(2, 2))], ONE_OWNER, "x at 0+4 and y at 2+2 overlap", id="overlap"
        ),
        pytest.param([pod("x", mps(81920, 50)), pod("y", mps(1, 1))], ONE_OWNER, "81921 MiB of 81920 MiB", id="memory"),
        pytest.param([pod("x", mps(1, 60)), pod("y", mps(1, 60))], ONE_OWNER, "120 % of its compute", id="compute"),
        pytest.param([pod("x", WHOLE), pod("y", WHOLE)], ONE_OWNER, "x, y hold the whole of it", id="two owners"),
        pytest.param([pod("x", WHOLE), pod("y", mig(0, 1))], ONE_OWNER, "exclusive and mig", id="two modes"),
        pytest.param([pod("x", mig(0, 1, "GPU-1"))], RIGHT_NODE, "GPU-1 is on b", id="a GPU of another node"),
        pytest.param([pod("x", mig(0, 1, "GPU-9"))], RIGHT_NODE, "GPU-9 is on no node", id="a GPU of no node"),
    ],
)
def test_broken(pods: list[Json], promise: str, what: str) -> None:
    (found,) = breaches(pods, NODES)
    assert found.promise == promise
    assert what in found.what


def test_a_pod_that_goes_with_requests_in_flight_kills_sessions() -> None:
    (found,) = killed(pod("x", **{IN_FLIGHT: "2"}))
    assert (found.promise, found.what) == (NO_KILL, "x went with 2 requests of sessions in flight")


@pytest.mark.parametrize("annotations", [{}, {IN_FLIGHT: "0"}], ids=["never marked", "drained"])
def test_a_pod_that_goes_empty_kills_nothing(annotations: dict[str, str]) -> None:
    assert killed(pod("x", **annotations)) == []
