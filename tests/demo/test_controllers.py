import pytest

from slicewise.demo.cluster import FIRST_REPLICAS, WORKLOAD, deployment
from slicewise.demo.controllers import (
    COLD_START_S,
    COLD_START_SPREAD_S,
    DEPLOYMENTS,
    GRACE_S,
    PODS,
    RUNS_FOR,
    Kubelet,
    ReplicaSet,
    deletion_rank,
    is_leaving,
    is_ready,
    owned,
)
from slicewise.demo.kube_store import Store
from slicewise.demo.promises import IN_FLIGHT, Json

WARM_S = COLD_START_S + COLD_START_SPREAD_S


class Cluster:
    """A store with the Deployment, its ReplicaSet and a kubelet whose pods have as many requests as `busy` says."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self.busy: dict[str, int] = {}
        self.started: list[str] = []
        self.gone: list[Json] = []
        store.create(DEPLOYMENTS, deployment())
        self.replicas = ReplicaSet(store, WORKLOAD, 1)
        self.kubelet = Kubelet(
            store,
            lambda name: self.busy.get(name, 0),
            lambda pod: self.started.append(pod["metadata"]["name"]),
            self.gone.append,
            2,
        )

    def scale(self, replicas: int) -> None:
        self.store.merge_patch(DEPLOYMENTS, WORKLOAD, {"spec": {"replicas": replicas}})
        self.replicas.step()

    def bind_all(self) -> None:
        for pod in owned(self.store, WORKLOAD):
            if "nodeName" not in pod["spec"]:
                self.store.bind(PODS, pod["metadata"]["name"], {"target": {"name": "gpu-a"}})

    def warm(self) -> None:
        self.bind_all()
        self.kubelet.step(0.0)
        self.kubelet.step(WARM_S)


@pytest.fixture
def cluster(store: Store) -> Cluster:
    return Cluster(store)


def test_the_replica_set_makes_what_is_wanted_and_no_more(cluster: Cluster) -> None:
    cluster.replicas.step()
    cluster.replicas.step()
    assert len(owned(cluster.store, WORKLOAD)) == FIRST_REPLICAS
    assert cluster.store.get(DEPLOYMENTS, WORKLOAD)["status"] == {"replicas": FIRST_REPLICAS, "readyReplicas": 0}


def test_a_pod_is_ready_after_its_cold_start_and_not_before(cluster: Cluster) -> None:
    cluster.replicas.step()
    cluster.bind_all()
    cluster.kubelet.step(0.0)
    cluster.kubelet.step(COLD_START_S - 1.0)
    assert not any(map(is_ready, owned(cluster.store, WORKLOAD)))
    cluster.kubelet.step(WARM_S)
    assert all(map(is_ready, owned(cluster.store, WORKLOAD)))
    assert len(cluster.started) == FIRST_REPLICAS


def test_a_pod_without_a_node_does_not_start(cluster: Cluster) -> None:
    cluster.replicas.step()
    cluster.kubelet.step(1000.0)
    assert cluster.started == []


def test_a_leaving_pod_stays_until_its_requests_are_answered(cluster: Cluster) -> None:
    cluster.scale(1)
    cluster.warm()
    (name,) = cluster.started
    cluster.busy[name] = 3
    cluster.scale(0)
    cluster.kubelet.step(WARM_S + 1)
    assert is_leaving(cluster.store.get(PODS, name))
    assert cluster.gone == []
    cluster.busy[name] = 0
    cluster.kubelet.step(WARM_S + 2)
    assert [pod["metadata"]["annotations"][IN_FLIGHT] for pod in cluster.gone] == ["0"]


def test_the_end_of_its_grace_ends_a_pod_whatever_it_does_and_the_pod_says_so(cluster: Cluster) -> None:
    cluster.scale(1)
    cluster.warm()
    cluster.busy[cluster.started[0]] = 3
    cluster.scale(0)
    cluster.kubelet.step(WARM_S + 1)
    cluster.kubelet.step(WARM_S + 1 + GRACE_S)
    assert [pod["metadata"]["annotations"][IN_FLIGHT] for pod in cluster.gone] == ["3"]


def test_a_guest_ends_by_itself(cluster: Cluster) -> None:
    pod = {"metadata": {"name": "eval-1", "annotations": {RUNS_FOR: "60"}}, "spec": {"nodeName": "gpu-a"}}
    cluster.store.create(PODS, pod)
    for now_s in (0.0, WARM_S, WARM_S + 61):
        cluster.kubelet.step(now_s)
    assert [pod["metadata"]["name"] for pod in cluster.gone] == ["eval-1"]


def test_what_costs_least_goes_first() -> None:
    def pod(number: int, *, node: str = "", ready: bool = False, cost: str = "0") -> Json:
        conditions = [{"type": "Ready", "status": "True" if ready else "False"}]
        annotations = {"controller.kubernetes.io/pod-deletion-cost": cost}
        metadata = {"name": str(number), "uid": f"{number:08x}-0000", "annotations": annotations}
        status = {"phase": "Running" if node else "Pending", "conditions": conditions}
        return {"metadata": metadata, "spec": {"nodeName": node} if node else {}, "status": status}

    pods = [
        pod(1, node="a", ready=True),
        pod(2, node="a", ready=True),
        pod(3, node="a", ready=True, cost="-5"),
        pod(4, node="a"),
        pod(5),
    ]
    assert [found["metadata"]["name"] for found in sorted(pods, key=deletion_rank)] == ["5", "4", "3", "2", "1"]
