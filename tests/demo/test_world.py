import json
from typing import Any

import pytest

from slicewise.demo.cluster import GPU_NODES, GUESTS, WORKLOAD, admit, heartbeat, populate, publish_instances
from slicewise.demo.controllers import PODS
from slicewise.demo.kube_scheduler import NODES
from slicewise.demo.kube_store import Store
from slicewise.demo.promises import ALLOCATION, IN_FLIGHT, INVENTORY, NO_KILL, ONE_OWNER, Breach
from slicewise.demo.run import read_scaled_object
from slicewise.demo.serving import Serving, load_of
from slicewise.demo.story import CHAPTERS, ROUND_S, chapter
from slicewise.demo.world import Auditor, World

Json = dict[str, Any]


@pytest.fixture
def cluster(store: Store) -> Store:
    populate(store, read_scaled_object(), 1_700_000_000.0)
    return store


def place(store: Store, name: str, node: str, gpu: Json) -> None:
    allocation = json.dumps({"version": 1, "containers": [{"name": "main", "gpus": [gpu]}]})
    store.bind(PODS, name, {"metadata": {"annotations": {ALLOCATION: allocation}}, "target": {"name": node}})


def slice_of(start: int) -> Json:
    return {"uuid": "GPU-gpu-a-0", "mode": "mig", "profile": "2g.20gb", "start": start, "size": 2}


def world(store: Store) -> World:
    return World(store, Serving(load_of(300.0, 7)), 7)


def test_guests_come_in_their_time_and_again_in_the_next_round(cluster: Store) -> None:
    lived = world(cluster)
    lived.advance(100.0)
    early = {guest.name for guest in GUESTS if guest.at_s <= 100.0}
    assert early <= {pod["metadata"]["name"] for pod in cluster.objects(PODS)}
    lived.advance(ROUND_S + 100.0)
    names = {pod["metadata"]["name"] for pod in cluster.objects(PODS)}
    assert "eval-a-1" in names
    assert "notebook-1-1" not in names, "those who stay come once"


def test_a_replica_serves_once_its_pod_is_ready(cluster: Store) -> None:
    lived = world(cluster)
    lived.advance(1.0)
    first = next(pod for pod in cluster.objects(PODS) if pod["metadata"]["name"].startswith(WORKLOAD))
    place(cluster, first["metadata"]["name"], "gpu-a", slice_of(0))
    for now_s in range(2, 120):
        lived.advance(float(now_s))
    assert lived.pods() == (1, 2)
    assert len(lived.scrapes.by_pod) == 1
    assert lived.serving.held == 0


def test_instances_follow_the_allocations(cluster: Store) -> None:
    admit(cluster, GUESTS[0], "guest-1")
    place(cluster, "guest-1", "gpu-a", slice_of(4))
    publish_instances(cluster)
    (node,) = (node for node in cluster.objects(NODES) if node["metadata"]["name"] == "gpu-a")
    gpus = json.loads(node["metadata"]["annotations"][INVENTORY])["gpus"]
    uuid = "MIG-GPU-gpu-a-0-4"
    assert gpus[0]["instances"] == [{"profile": "2g.20gb", "start": 4, "size": 2, "uuid": uuid, "managed": True}]
    assert all(gpu["instances"] == [] for gpu in gpus[1:])


def test_every_node_has_a_heartbeat(cluster: Store) -> None:
    version = cluster.version
    heartbeat(cluster, 1_700_000_005.0)
    assert cluster.version == version + len(GPU_NODES)


def test_the_auditor_sees_a_state_that_lasted_only_between_two_looks(cluster: Store) -> None:
    found: list[Breach] = []
    auditor = Auditor(cluster, found.append)
    for name in ("x-1", "y-1"):
        admit(cluster, GUESTS[0], name)
        place(cluster, name, "gpu-a", slice_of(0))
    cluster.delete(PODS, "y-1")
    auditor.audit()
    assert {breach.promise for breach in found} == {ONE_OWNER}
    assert auditor.states > 0


def test_the_auditor_sees_a_pod_that_went_with_requests(cluster: Store) -> None:
    found: list[Breach] = []
    auditor = Auditor(cluster, found.append)
    admit(cluster, GUESTS[0], "x-1")
    cluster.merge_patch(PODS, "x-1", {"metadata": {"annotations": {IN_FLIGHT: "2"}}})
    cluster.delete(PODS, "x-1")
    auditor.audit()
    auditor.audit()
    assert [breach.promise for breach in found] == [NO_KILL]


def test_the_story_goes_round() -> None:
    assert chapter(ROUND_S + 500) is chapter(500)
    assert CHAPTERS[0].sessions_per_s == CHAPTERS[-1].sessions_per_s
    assert [found.at_s for found in CHAPTERS] == sorted(found.at_s for found in CHAPTERS)
