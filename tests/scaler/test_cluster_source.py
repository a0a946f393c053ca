"""What the Kubernetes API says about a workload, and what is made of what it does not say."""

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any

import pytest

from scaler.signals.reading import Missing, ReadingName, Sample
from scaler.sources.base import Found, Subject
from scaler.sources.cluster import ClusterSource, Pod
from slicewise.process.watch import Patience
from tests.fakes.clock import ManualClock, until
from tests.fakes.cluster import FakeCluster, scaled_object, workload
from tests.fakes.source import read_one

BOTH = frozenset({ReadingName.REPLICAS, ReadingName.READY})
DEPLOYMENTS, STATEFUL_SETS = "/apis/apps/v1/deployments", "/apis/apps/v1/statefulsets"
SCALED_OBJECTS, PODS = "/apis/keda.sh/v1alpha1/scaledobjects", "/api/v1/pods"
HURRIED = Patience(first_pause_s=0.001, longest_pause_s=0.02)


def subject(workload: str | None = None, scaled_object: str = "chat-so") -> Subject:
    return Subject(
        namespace="agents",
        scaled_object=scaled_object,
        workload=workload,
        backend="default",
        preset="vllm",
        window_s=120.0,
        max_age_s=60.0,
    )


@asynccontextmanager
async def watching(cluster: FakeCluster, *, pods: bool = False) -> AsyncIterator[ClusterSource]:
    stop, clock = asyncio.Event(), ManualClock(1000.0)
    source = ClusterSource(cluster, clock=clock, watches_pods=pods, first_answer_s=0.05, patience=HURRIED)
    running = asyncio.create_task(source.run(stop))
    try:
        yield source
    finally:
        stop.set()
        await running
        await source.close()


async def read(cluster: FakeCluster, workload: str | None = None, names: frozenset[str] = BOTH) -> Found:
    async with watching(cluster) as source:
        return await read_one(source, names, subject(workload), 2000.0)


def of(reference: object = None, status: object = None) -> FakeCluster:
    cluster = FakeCluster()
    cluster.objects[SCALED_OBJECTS] = [scaled_object("chat-so", reference or {"name": "chat"}, status)]
    return cluster


def counted(spec: object, status: object, path: str = DEPLOYMENTS) -> FakeCluster:
    cluster = of({"name": "chat", "kind": "Deployment" if path == DEPLOYMENTS else "StatefulSet"})
    cluster.objects[DEPLOYMENTS] = []
    cluster.objects[path] = [workload("chat", spec, status)]
    return cluster


async def test_counts_of_a_deployment_come_from_its_spec_and_its_status() -> None:
    cluster = counted({"replicas": 5}, {"replicas": 6, "readyReplicas": 4, "terminatingReplicas": 2})
    found = await read(cluster, names=frozenset({*BOTH, ReadingName.PENDING, ReadingName.TERMINATING}))
    assert found.readings == {
        ReadingName.REPLICAS: Sample(5.0, 2000.0),
        ReadingName.READY: Sample(4.0, 2000.0),
        ReadingName.PENDING: Sample(1.0, 2000.0),
        ReadingName.TERMINATING: Sample(2.0, 2000.0),
    }
    assert found.workload == "chat"
    assert found.asked[ReadingName.READY] == "GET /apis/apps/v1/namespaces/agents/deployments/chat"


async def test_only_what_is_wanted_is_answered() -> None:
    assert (await read(of(), names=frozenset({ReadingName.READY}))).readings.keys() == {ReadingName.READY}


async def test_zeros_are_left_out_by_kubernetes_and_replicas_are_one_by_default() -> None:
    found = await read(counted({}, {}))
    assert found.readings == {ReadingName.REPLICAS: Sample(1.0, 2000.0), ReadingName.READY: Sample(0.0, 2000.0)}


async def test_pods_that_are_going_are_not_known_where_kubernetes_does_not_count_them() -> None:
    found = await read(counted({}, {}), names=frozenset({ReadingName.TERMINATING}))
    reading = found.readings[ReadingName.TERMINATING]
    assert isinstance(reading, Missing)
    assert "terminatingReplicas" in reading.why


async def test_a_stateful_set_is_watched_too() -> None:
    found = await read(counted({"replicas": 2}, {"readyReplicas": 2}, STATEFUL_SETS))
    assert found.readings[ReadingName.READY] == Sample(2.0, 2000.0)


@pytest.mark.parametrize(
    ("reference", "status", "path"),
    [
        pytest.param(
            {"name": "llm", "kind": "LeaderWorkerSet", "apiVersion": "leaderworkerset.x-k8s.io/v1"},
            {"scaleTargetGVKR": {"kind": "LeaderWorkerSet", "resource": "leaderworkersets"}},
            "/apis/leaderworkerset.x-k8s.io/v1/namespaces/agents/leaderworkersets/llm",
            id="any kind that KEDA has looked up",
        ),
        pytest.param(
            {"name": "rc", "kind": "ReplicationController", "apiVersion": "v1"},
            {"scaleTargetGVKR": {"kind": "ReplicationController", "resource": "replicationcontrollers"}},
            "/api/v1/namespaces/agents/replicationcontrollers/rc",
            id="the core group",
        ),
    ],
)
async def test_other_kinds_are_asked_for_by_their_scale(reference: object, status: object, path: str) -> None:
    cluster = of(reference, status)
    cluster.others = {f"{path}/scale": {"spec": {"replicas": 4}}, path: {"status": {"readyReplicas": 3}}}
    found = await read(cluster)
    assert cluster.asked == [f"{path}/scale", path]
    assert found.workload == path.rpartition("/")[2]
    assert found.readings == {ReadingName.REPLICAS: Sample(4.0, 2000.0), ReadingName.READY: Sample(3.0, 2000.0)}
    cluster.others = {}
    assert (await read(cluster)).readings[ReadingName.READY] == Missing(f"Kubernetes API: NotFound for {path}")


@pytest.mark.parametrize(
    ("reference", "status", "why"),
    [
        pytest.param("chat", None, "the ScaledObject has no scaleTargetRef", id="no reference"),
        pytest.param({"kind": "Deployment"}, None, "no path to Deployment None", id="no name"),
        pytest.param(
            {"name": "x", "kind": "Odd"}, {}, "does not say yet what a Odd is called", id="a kind unknown yet"
        ),
        pytest.param(
            {"name": "x", "kind": "Odd"},
            {"scaleTargetGVKR": {"kind": "Deployment", "resource": "deployments"}},
            "does not say yet what a Odd is called",
            id="a status of the target before",
        ),
        pytest.param({"name": "../secrets/x"}, None, "no path to Deployment '../secrets/x'", id="a name that climbs"),
        pytest.param({"name": "x", "apiVersion": "../v1"}, None, "no path to", id="a version that climbs"),
        pytest.param(
            {"name": "other"}, None, "no /apis/apps/v1/namespaces/agents/deployments/other", id="nothing there"
        ),
    ],
)
async def test_a_target_that_cannot_be_found(reference: object, status: object, why: str) -> None:
    cluster = of(reference, status)
    found = await read(cluster)
    assert all(isinstance(reading, Missing) and why in reading.why for reading in found.readings.values())
    assert cluster.asked == []


async def test_without_a_scaled_object_the_trigger_may_name_a_deployment() -> None:
    cluster = FakeCluster(replicas=5)
    cluster.objects[SCALED_OBJECTS] = []
    assert (await read(cluster, workload="chat")).readings[ReadingName.REPLICAS] == Sample(5.0, 2000.0)
    nothing = await read(cluster)
    why = "Kubernetes API: there is no ScaledObject agents/chat-so"
    assert nothing.readings[ReadingName.REPLICAS] == Missing(why)


async def test_before_the_first_lists_nothing_is_known() -> None:
    cluster = FakeCluster()
    cluster.down = True
    found = await read(cluster)
    assert found.readings[ReadingName.READY] == Missing(
        f"Kubernetes API: {SCALED_OBJECTS} is not listed yet (Unreachable)"
    )
    found = await read(cluster, workload="chat")
    assert found.readings[ReadingName.READY] == Missing(
        f"Kubernetes API: {DEPLOYMENTS} is not listed yet (Unreachable)"
    )


@pytest.mark.parametrize(
    ("spec", "status"),
    [({"replicas": "5"}, {}), ({"replicas": -1}, {}), ({}, {"readyReplicas": 0.5}), ({}, {"terminatingReplicas": "2"})],
)
async def test_what_is_no_count_is_missing(spec: object, status: object) -> None:
    found = await read(counted(spec, status))
    assert isinstance(found.readings[ReadingName.REPLICAS], Missing)


async def ready_of(source: ClusterSource, want: Callable[[object], bool]) -> None:
    found: list[object] = []

    async def ask() -> None:
        while not found or not want(found[-1]):
            found.append((await read_one(source, BOTH, subject(), 2000.0)).readings[ReadingName.READY])
            await asyncio.sleep(0.001)

    async with asyncio.timeout(5.0):
        await ask()


async def test_changes_are_heard() -> None:
    cluster = FakeCluster(replicas=3)
    async with watching(cluster) as source:
        await ready_of(source, lambda reading: reading == Sample(3.0, 2000.0))
        cluster.scale(7)
        await ready_of(source, lambda reading: reading == Sample(7.0, 2000.0))
        cluster.tell(DEPLOYMENTS, "DELETED", cluster.objects[DEPLOYMENTS][0])
        await ready_of(source, lambda reading: isinstance(reading, Missing))


async def test_what_a_silent_api_last_said_is_as_old_as_its_silence() -> None:
    cluster = FakeCluster(replicas=3)
    async with watching(cluster) as source:
        await ready_of(source, lambda reading: reading == Sample(3.0, 2000.0))
        cluster.down = True
        cluster.lose(DEPLOYMENTS)
        await ready_of(source, lambda reading: reading == Sample(3.0, 1000.0))


def pod(name: str, kind: str, owner: str, **status: object) -> dict[str, Any]:
    owners = [{"kind": "Other", "name": "x"}, {"kind": kind, "name": owner, "controller": True}]
    return {"metadata": {"namespace": "agents", "name": name, "ownerReferences": owners}, "status": status}


READY = {
    "podIP": "10.0.0.1",
    "conditions": [{"type": "Scheduled", "status": "True"}, {"type": "Ready", "status": "True"}],
}


def pods(source: ClusterSource, workload: str) -> Sequence[Pod]:
    found = source.pods("agents", workload)
    assert not isinstance(found, Missing)
    return found


async def test_pods_belong_to_the_workload_behind_their_controller() -> None:
    cluster = FakeCluster()
    cluster.objects[PODS] = [
        pod("chat-7d9f8b6c4d-aaaaa", "ReplicaSet", "chat-7d9f8b6c4d", **READY),
        pod("chat-b-7d9f8b6c4d-aaaaa", "ReplicaSet", "chat-b-7d9f8b6c4d", **READY),
        pod("db-0", "StatefulSet", "db", podIP=None),
        {"metadata": {"namespace": "agents", "name": "alone"}},
    ]
    async with watching(cluster, pods=True) as source:
        await until(lambda: source.pods("agents", "chat") != [] and not isinstance(source.pods("agents", "x"), Missing))
        (chat,) = pods(source, "chat")
        assert (chat.name, chat.ip, chat.ready, chat.terminating) == ("chat-7d9f8b6c4d-aaaaa", "10.0.0.1", True, False)
        (db,) = pods(source, "db")
        assert (db.name, db.ip, db.ready, db.terminating) == ("db-0", None, False, False)
        assert source.pods("other", "chat") == []


async def test_pods_are_not_known_before_they_are_listed_nor_where_they_are_not_watched() -> None:
    cluster = FakeCluster()
    cluster.down = True
    async with watching(cluster, pods=True) as source:
        found = source.pods("agents", "chat")
        assert isinstance(found, Missing)
        assert found.why.startswith(f"Kubernetes API: {PODS} is not listed yet")
    async with watching(cluster) as source:
        assert isinstance(source.pods("agents", "chat"), Missing)
