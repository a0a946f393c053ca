"""What the Kubernetes API says about a workload, and what is made of what it does not say."""

from dataclasses import replace
from typing import Any

import pytest

from scaler.signals.reading import Missing, ReadingName, Sample
from scaler.sources.base import Found, Subject
from scaler.sources.cluster import ClusterSource
from slicewise.process.kube import KubeError
from tests.fakes.source import read_one

BOTH = frozenset({ReadingName.REPLICAS, ReadingName.READY})
OBJECT = "/apis/keda.sh/v1alpha1/namespaces/agents/scaledobjects/chat-so"
CHAT = "/apis/apps/v1/namespaces/agents/deployments/chat"


class FakeKube:
    """Objects by path; 404 for the rest, or `error` for all."""

    def __init__(self, objects: dict[str, Any]) -> None:
        self.objects = objects
        self.asked: list[str] = []
        self.error: KubeError | None = None

    async def get(self, path: str, **query: str | int) -> dict[str, Any]:
        self.asked.append(path)
        if self.error is not None:
            raise self.error
        if path not in self.objects:
            raise KubeError(404, "NotFound", f"{path} not found")
        found: dict[str, Any] = self.objects[path]
        return found


def scaled_object(reference: object, status: object = None) -> dict[str, Any]:
    return {"spec": {"scaleTargetRef": reference}, "status": status}


def kube(reference: object = None, status: object = None, **paths: object) -> FakeKube:
    objects = {
        OBJECT: scaled_object(reference or {"name": "chat"}, status),
        f"{CHAT}/scale": {"spec": {"replicas": 5}, "status": {"replicas": 6}},
        CHAT: {"spec": {"replicas": 5}, "status": {"readyReplicas": 4}},
    }
    return FakeKube(objects | paths)


def subject(workload: str | None = None) -> Subject:
    return Subject(
        namespace="agents",
        scaled_object="chat-so",
        workload=workload,
        backend="default",
        preset="vllm",
        window_s=120.0,
        max_age_s=60.0,
    )


async def read(api: FakeKube, workload: str | None = None, at_s: float = 30.0) -> Found:
    source = ClusterSource(api)
    found = await read_one(source, BOTH, subject(workload), at_s)
    await source.close()
    return found


async def test_replicas_come_from_the_scale_subresource_and_ready_from_the_status() -> None:
    found = await read(kube())
    assert found == Found(
        readings={ReadingName.REPLICAS: Sample(5.0, 30.0), ReadingName.READY: Sample(4.0, 30.0)}, workload="chat"
    )


async def test_only_what_is_wanted_is_asked() -> None:
    api = kube()
    await read_one(ClusterSource(api), frozenset({ReadingName.REPLICAS}), subject(), 30.0)
    assert api.asked == [OBJECT, f"{CHAT}/scale"]


async def test_zeros_are_left_out_by_kubernetes() -> None:
    found = await read(kube(**{CHAT: {"status": {}}, f"{CHAT}/scale": {"spec": {}}}))
    assert set(found.readings.values()) == {Sample(0.0, 30.0)}


@pytest.mark.parametrize(
    ("reference", "status", "path"),
    [
        pytest.param(
            {"name": "db", "kind": "StatefulSet"},
            None,
            "/apis/apps/v1/namespaces/agents/statefulsets/db",
            id="a StatefulSet, before KEDA wrote a status",
        ),
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
async def test_path_of_the_target(reference: object, status: object, path: str) -> None:
    api = kube(reference, status)
    found = await read(api)
    assert api.asked[1:] == [f"{path}/scale", path]
    assert found.workload == path.rpartition("/")[2]


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
    ],
)
async def test_a_target_that_cannot_be_found(reference: object, status: object, why: str) -> None:
    api = kube(reference, status)
    found = await read(api)
    assert found.workload is None
    assert all(isinstance(reading, Missing) and why in reading.why for reading in found.readings.values())
    assert api.asked == [OBJECT]


async def test_without_a_scaled_object_the_trigger_may_name_a_deployment() -> None:
    api = kube()
    del api.objects[OBJECT]
    assert (await read(api, workload="chat")).readings[ReadingName.REPLICAS] == Sample(5.0, 30.0)
    nothing = await read(api)
    assert nothing.readings[ReadingName.REPLICAS] == Missing(f"Kubernetes API: NotFound for {OBJECT}")


async def test_silence_is_missing() -> None:
    api = kube()
    api.error = KubeError(0, "Timeout", "nothing heard for 10 s")
    found = await read(api, workload="chat")
    assert found.readings[ReadingName.READY] == Missing(f"Kubernetes API: Timeout for {CHAT}")


async def test_a_silent_api_is_not_asked_all_questions_of_a_tick() -> None:
    api = kube()
    api.error = KubeError(0, "Timeout", "nothing heard for 10 s")
    source = ClusterSource(api)
    found = [await read_one(source, BOTH, replace(subject(), scaled_object=f"so-{n}"), 30.0) for n in range(20)]
    assert len(api.asked) == 8
    why = "Kubernetes API: left 8 other questions of this instant unanswered, so it was not asked"
    assert set(found[-1].readings.values()) == {Missing(why)}
    await read_one(source, BOTH, subject(), 45.0)
    assert len(api.asked) == 9


@pytest.mark.parametrize("scale", [{"spec": {"replicas": "5"}}, {"spec": [5]}, {"spec": {"replicas": -1}}])
async def test_what_is_no_count_is_missing(scale: object) -> None:
    found = await read(kube(**{f"{CHAT}/scale": scale}))
    assert isinstance(found.readings[ReadingName.REPLICAS], Missing)


async def test_triggers_of_one_object_ask_once_a_tick() -> None:
    api = kube()
    source = ClusterSource(api)
    for at_s in (30.0, 30.0, 45.0):
        await read_one(source, BOTH, subject(), at_s)
    assert len(api.asked) == 6
