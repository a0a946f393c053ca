import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from slicewise.process.kube import Kube, KubeError
from slicewise.process.lease import epoch_s, lease_path, micro_time, renew
from tests.fakes.kube_api import (
    LEASES,
    PODS,
    Cluster,
    Fault,
    cluster,
    drops_the_answer,
    drops_the_request,
    pod,
    refuses,
    says,
    waits_for,
)

PODS_PATH = "/api/v1/namespaces/default/pods"


@pytest.fixture
async def there(tmp_path: Path) -> AsyncIterator[Cluster]:
    async with cluster(tmp_path) as running:
        yield running


async def test_objects_are_made_read_patched_replaced_and_deleted(there: Cluster) -> None:
    async with Kube.connect(there.kubeconfig) as kube:
        made = await kube.create(PODS_PATH, pod("a"))
        assert made["metadata"]["uid"]
        await kube.merge_patch(f"{PODS_PATH}/a", {"metadata": {"annotations": {"x": "1", "y": "2"}}})
        patched = await kube.merge_patch(f"{PODS_PATH}/a", {"metadata": {"annotations": {"x": None}}})
        assert patched["metadata"]["annotations"] == {"y": "2"}
        patched["metadata"]["labels"] = {"app": "b"}
        await kube.replace(f"{PODS_PATH}/a", patched)
        assert (await kube.get(PODS_PATH, labelSelector="app=b"))["items"][0]["metadata"]["name"] == "a"
        await kube.delete(f"{PODS_PATH}/a")
        with pytest.raises(KubeError, match='404 NotFound: pods "a" not found') as e:
            await kube.get(f"{PODS_PATH}/a")
    assert (e.value.status, e.value.unanswered) == (404, False)


@pytest.mark.parametrize(
    ("fault", "status", "reason", "message"),
    [
        pytest.param(refuses(409, "taken"), 409, "Scripted", "taken", id="a Status keeps its reason and message"),
        pytest.param(says("<h1>Bad\n gateway</h1>", 502), 502, "Unknown", "<h1>Bad gateway</h1>", id="a proxy's page"),
        pytest.param(says("hello"), 0, "NotJson", "answered by", id="200 without JSON is no answer"),
        pytest.param(says("[]"), 0, "NotJson", "not by a JSON object", id="200 with a list is no answer"),
        pytest.param(drops_the_request, 0, "Unreachable", "POST /api/v1", id="broken before it happened: unknown"),
        pytest.param(drops_the_answer, 0, "Unreachable", "POST /api/v1", id="broken after it happened: unknown"),
        pytest.param(waits_for(asyncio.Event()), 0, "Timeout", "nothing heard for 0.2 s", id="too slow: unknown"),
    ],
)
async def test_every_failure_is_one_error_with_its_reason(
    there: Cluster, fault: Fault, status: int, reason: str, message: str
) -> None:
    there.faults.add("POST", "pods", fault)
    async with Kube.connect(there.kubeconfig, timeout_s=0.2) as kube:
        with pytest.raises(KubeError) as e:
            await kube.create(PODS_PATH, pod("a"))
    assert (e.value.status, e.value.reason, e.value.unanswered) == (status, reason, status == 0)
    assert message in e.value.message


async def test_a_server_that_is_not_there_is_unanswered(tmp_path: Path) -> None:
    async with cluster(tmp_path) as gone:
        pass
    async with Kube.connect(gone.kubeconfig) as kube:
        with pytest.raises(KubeError, match="NotConnected") as e:
            await kube.get(PODS_PATH)
    assert e.value.unanswered


async def test_without_a_kubeconfig_the_error_says_how_to_name_one(tmp_path: Path) -> None:
    with pytest.raises(KubeError, match=r"no kubeconfig at .*/absent: name one with --kubeconfig or \$KUBECONFIG"):
        async with Kube.connect(tmp_path / "absent"):
            raise AssertionError


async def test_a_broken_kubeconfig_is_told_as_such(tmp_path: Path) -> None:
    (tmp_path / "kubeconfig").write_text("{}")
    with pytest.raises(KubeError, match="NoCredentials"):
        async with Kube.connect(tmp_path / "kubeconfig"):
            raise AssertionError


async def test_the_environment_names_the_kubeconfig(there: Cluster) -> None:
    async with Kube.connect(None, environ={"KUBECONFIG": str(there.kubeconfig)}) as kube:
        assert (await kube.get(PODS_PATH))["items"] == []


async def test_in_a_pod_the_service_account_is_used(tmp_path: Path) -> None:
    environ = {"KUBERNETES_SERVICE_HOST": "127.0.0.1", "KUBERNETES_SERVICE_PORT": "1"}
    with pytest.raises(KubeError, match="Service token file does not exist"):
        async with Kube.connect(None, environ=environ, service_account=tmp_path):
            raise AssertionError


class _Bearer:
    """A server's view of the tokens: only one is good."""

    def __init__(self, good: str) -> None:
        self.good = good

    def fault(self) -> Fault:
        async def check(request: object, handle: object) -> object:
            if request.headers.get("Authorization") != f"Bearer {self.good}":  # type: ignore[attr-defined]
                return await refuses(401, "who are you")(request, handle)  # type: ignore[arg-type]
            return await handle(request)  # type: ignore[operator]

        return check  # type: ignore[return-value]


def _with_token_file(there: Cluster, token: Path) -> Path:
    config = json.loads(there.kubeconfig.read_text())
    config["users"][0]["user"] = {"tokenFile": str(token)}
    path = there.kubeconfig.with_name("with-token")
    path.write_text(json.dumps(config))
    return path


async def test_a_rotated_token_is_read_again_after_401(there: Cluster, tmp_path: Path) -> None:
    token = tmp_path / "token"
    token.write_text("old")
    server = _Bearer("old")
    there.faults.add("GET", "", server.fault(), times=100)
    async with Kube.connect(_with_token_file(there, token)) as kube:
        await kube.get(PODS_PATH)
        server.good = "new"
        token.write_text("new")
        assert (await kube.get(PODS_PATH))["items"] == []
        server.good = "newer"
        with pytest.raises(KubeError, match="401"):
            await kube.get(PODS_PATH)


async def test_a_rotated_token_is_read_again_each_minute(there: Cluster, tmp_path: Path) -> None:
    token = tmp_path / "token"
    token.write_text("old")
    now_s = [0.0]
    async with Kube.connect(_with_token_file(there, token), clock=lambda: now_s[0]) as kube:
        token.write_text("new")
        there.faults.add("GET", "", _Bearer("new").fault(), times=1)
        now_s[0] = 61.0
        await kube.get(PODS_PATH)
        assert there.faults.seen == [f"GET {PODS_PATH}"]


async def test_a_kubeconfig_that_moves_to_another_server_is_followed(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    now_s = [0.0]
    async with cluster(tmp_path / "a") as first, cluster(tmp_path / "b") as second:
        second.store.create(PODS, pod("there"))
        async with Kube.connect(first.kubeconfig, clock=lambda: now_s[0]) as kube:
            assert (await kube.get(PODS_PATH))["items"] == []
            first.kubeconfig.write_text(second.kubeconfig.read_text())
            now_s[0] = 61.0
            assert len((await kube.get(PODS_PATH))["items"]) == 1
            first.kubeconfig.write_text("{ broken")
            now_s[0] = 130.0
            assert len((await kube.get(PODS_PATH))["items"]) == 1


async def test_a_lease_is_made_then_renewed(there: Cluster) -> None:
    async with Kube.connect(there.kubeconfig) as kube:
        for now_s in (100.25, 110.5):
            await renew(kube, "slicewise", "node-a", holder="agent", now_s=now_s, lasts_s=40)
            spec = there.store.get(LEASES, "node-a")["spec"]
            assert (epoch_s(spec["renewTime"]), spec["holderIdentity"]) == (now_s, "agent")
        there.faults.add("PATCH", "leases", refuses(403, "no"))
        with pytest.raises(KubeError, match="403"):
            await renew(kube, "slicewise", "node-a", holder="agent", now_s=120.0, lasts_s=40)
    assert lease_path("slicewise") == "/apis/coordination.k8s.io/v1/namespaces/slicewise/leases"


def test_times_have_a_zone() -> None:
    assert micro_time(1_800_000_000.000001) == "2027-01-15T08:00:00.000001Z"
    assert epoch_s("2027-01-15T09:00:00+01:00") == 1_800_000_000
    with pytest.raises(ValueError, match="has no zone"):
        epoch_s("2027-01-15T08:00:00")
