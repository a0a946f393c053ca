"""What pods ask for in CPU and memory, and what nodes have for them."""

from typing import Any

import pytest

from extender.placement.load import MOST, NO_LOAD, NOT_TOLD, Allocatable, Load, comes_with_its_node

Json = dict[str, Any]


def container(cpu: object = None, memory: object = None, **more: object) -> Json:
    requests = {k: v for k, v in (("cpu", cpu), ("memory", memory)) if v is not None}
    return {"resources": {"requests": requests}, **more}


def pod(*containers: object, init: tuple[Json, ...] = (), **spec: object) -> Json:
    return {"spec": {"containers": list(containers), "initContainers": list(init), **spec}}


@pytest.mark.parametrize(
    ("asked", "load"),
    [
        pytest.param(pod(container("500m", "1Gi"), container("2", "512Mi")), Load(2500, 1536), id="containers add up"),
        pytest.param(pod(container()), NO_LOAD, id="a container without requests asks for nothing"),
        pytest.param({}, NO_LOAD, id="a pod without a spec asks for nothing"),
        pytest.param(pod("no container"), NO_LOAD, id="what is no container is passed over"),
        pytest.param({"spec": {"containers": "none"}}, NO_LOAD, id="what is no list is passed over"),
        pytest.param(pod(container("0.0001", 1)), Load(1, 1), id="parts are rounded up"),
        pytest.param(pod(container("many", "-1")), NO_LOAD, id="what is no amount counts nothing"),
        pytest.param(pod(container("1"), init=(container("3"),)), Load(3000), id="an init container runs alone"),
        pytest.param(
            pod(container("1"), init=(container("1", restartPolicy="Always"), container("3"))),
            Load(4000),
            id="an init container runs beside the sidecars that started before it",
        ),
        pytest.param(
            pod(container("1", "1Gi"), overhead={"cpu": "250m", "memory": "120Mi"}),
            Load(1250, 1144),
            id="overhead is added",
        ),
        pytest.param(
            pod(container("1", "1Gi"), resources={"requests": {"cpu": "4"}}),
            Load(4000, 1024),
            id="what the pod asks for as a whole goes before, resource by resource",
        ),
        pytest.param(pod(container("9E", "9E")), Load(MOST, MOST), id="absurd amounts are bounded"),
    ],
)
def test_a_load_is_what_kube_scheduler_reserves(asked: Json, load: Load) -> None:
    assert Load.of(asked) == load


@pytest.mark.parametrize(
    ("node", "room"),
    [
        pytest.param(
            {"status": {"allocatable": {"cpu": "95500m", "memory": "1025Ki"}}}, Allocatable(95500, 1), id="rounded down"
        ),
        pytest.param({"status": {"allocatable": {"cpu": "4"}}}, Allocatable(4000, None), id="one of two is told"),
        pytest.param({"status": {}}, NOT_TOLD, id="nothing is told"),
        pytest.param({"status": {"allocatable": {"cpu": "9E", "memory": "-1"}}}, Allocatable(MOST, 0), id="bounded"),
    ],
)
def test_a_node_has_what_it_tells(node: Json, room: Allocatable) -> None:
    assert Allocatable.of(node) == room


@pytest.mark.parametrize(
    ("owners", "comes"),
    [
        pytest.param([{"kind": "DaemonSet", "controller": True}], True, id="of a DaemonSet"),
        pytest.param([{"kind": "Node", "controller": True}], True, id="a static pod"),
        pytest.param([{"kind": "ReplicaSet", "controller": True}], False, id="of a ReplicaSet"),
        pytest.param([{"kind": "DaemonSet"}], False, id="owned by a DaemonSet that does not control it"),
        pytest.param(None, False, id="of nobody"),
    ],
)
def test_pods_that_come_with_their_node_are_known_by_their_controller(owners: object, comes: bool) -> None:
    assert comes_with_its_node({"metadata": {"ownerReferences": owners}}) is comes
