"""What the programs rely on, asked of the stand-in API server and of the real kube-apiserver alike."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, ExitStack
from itertools import count
from pathlib import Path

import pytest

from slicewise.demo.kube_objects import Json
from slicewise.process.kube import Kube, KubeError
from slicewise.process.lease import epoch_s, lease_path, renew
from slicewise.process.watch import Progress, watch
from tests.e2e.parts.apiserver import ApiServer
from tests.e2e.parts.certificates import Certificates
from tests.e2e.parts.etcd import Etcd
from tests.e2e.parts.tools import tools_or_skip
from tests.fakes.kube_api import cluster, eventually
from tests.process.test_watch import Mirror

NUMBERS = count()
MAIN = {"name": "main", "image": "none"}


@pytest.fixture(scope="session")
def real_kubeconfig(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    tools, folder = tools_or_skip("etcd", "kube-apiserver"), tmp_path_factory.mktemp("apiserver")
    (folder / "logs").mkdir()
    with ExitStack() as stack:
        etcd = Etcd(tools, folder)
        stack.callback(etcd.stop)
        etcd.up()
        server = ApiServer(tools, folder, Certificates(folder / "certificates"), etcd.url)
        stack.callback(server.stop)
        server.up()
        yield server.access("admin", user="admin", group="system:masters").write(folder / "kubeconfig")


@pytest.fixture(params=["stand-in", pytest.param("real", marks=[pytest.mark.integration, pytest.mark.timeout(300)])])
async def kube(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Kube]:
    async with AsyncExitStack() as stack:
        if request.param == "real":
            kubeconfig: Path = request.getfixturevalue("real_kubeconfig")
        else:
            kubeconfig = (await stack.enter_async_context(cluster(tmp_path))).kubeconfig
        yield await stack.enter_async_context(Kube.connect(kubeconfig))


@pytest.fixture
async def space(kube: Kube) -> str:
    """A namespace of its own for each test."""
    name = f"space-{next(NUMBERS)}"
    await kube.create("/api/v1/namespaces", {"metadata": {"name": name}})
    try:
        account = {"metadata": {"name": "default"}}
        await kube.create(f"/api/v1/namespaces/{name}/serviceaccounts", account)
    except KubeError as e:  # the stand-in admits pods without one
        assert e.status == 404  # noqa: PT017  # anything else is a failure of the test's own making
    return name


def pods(space: str, name: str = "", sub: str = "") -> str:
    return "/".join(part for part in (f"/api/v1/namespaces/{space}/pods", name, sub) if part)


async def a_pod(kube: Kube, space: str, name: str = "a", **spec: object) -> Json:
    metadata = {"name": name, "annotations": {"mine": "1"}, "labels": {"app": name}}
    body = {"metadata": metadata, "spec": {"containers": [MAIN], "automountServiceAccountToken": False, **spec}}
    return await kube.create(pods(space), body)


def binding(of: Json, node: str, uid: str = "") -> Json:
    meta = of["metadata"]
    metadata = {"name": meta["name"], "namespace": meta["namespace"], "uid": uid or meta["uid"]}
    metadata["annotations"] = {"slicewise.dev/allocation": "{}", "mine": "2"}
    target = {"apiVersion": "v1", "kind": "Node", "name": node}
    return {"apiVersion": "v1", "kind": "Binding", "metadata": metadata, "target": target}


async def refusal(asked: "asyncio.Future[Json]") -> tuple[int, str]:
    with pytest.raises(KubeError) as e:
        await asked
    return e.value.status, e.value.reason


def ask(kube: Kube, verb: str, *arguments: object) -> "asyncio.Future[Json]":
    asked: asyncio.Future[Json] = asyncio.ensure_future(getattr(kube, verb)(*arguments))
    return asked


async def test_a_binding_sets_the_node_and_merges_annotations_in_one_write(kube: Kube, space: str) -> None:
    before = await a_pod(kube, space)
    answer = await kube.create(pods(space, "a", "binding"), binding(before, "node-a"))
    assert (answer["kind"], answer["status"]) == ("Status", "Success")
    after = await kube.get(pods(space, "a"))
    assert after["spec"]["nodeName"] == "node-a"
    assert after["metadata"]["annotations"] == {"slicewise.dev/allocation": "{}", "mine": "2"}
    conditions = {c["type"]: c["status"] for c in after["status"]["conditions"]}
    assert conditions["PodScheduled"] == "True"
    assert after["metadata"]["uid"] == before["metadata"]["uid"]


async def test_a_binding_that_comes_too_late_is_a_conflict_and_changes_nothing(kube: Kube, space: str) -> None:
    one = await a_pod(kube, space)
    path = pods(space, "a", "binding")
    assert await refusal(ask(kube, "create", path, binding(one, "node-a", uid="another"))) == (409, "Conflict")
    await kube.create(path, binding(one, "node-a"))
    before = await kube.get(pods(space, "a"))
    for node in ("node-a", "node-b"):
        assert await refusal(ask(kube, "create", path, binding(one, node))) == (409, "Conflict")
    assert await kube.get(pods(space, "a")) == before
    nobody = {"metadata": {**one["metadata"], "name": "nobody"}}
    found = await refusal(ask(kube, "create", pods(space, "nobody", "binding"), binding(nobody, "node-a")))
    assert found == (404, "NotFound")


async def test_a_pod_with_scheduling_gates_is_not_bound(kube: Kube, space: str) -> None:
    one = await a_pod(kube, space, schedulingGates=[{"name": "example.com/wait"}])
    found = await refusal(ask(kube, "create", pods(space, "a", "binding"), binding(one, "node-a")))
    assert found == (409, "Conflict")


async def test_refusals_have_their_status_and_reason(kube: Kube, space: str) -> None:
    one = await a_pod(kube, space)
    assert await refusal(ask(kube, "create", pods(space), {**one, "metadata": {"name": "a"}})) == (409, "AlreadyExists")
    assert await refusal(ask(kube, "get", pods(space, "none"))) == (404, "NotFound")
    assert await refusal(ask(kube, "merge_patch", pods(space, "none"), {"metadata": {}})) == (404, "NotFound")
    assert await refusal(ask(kube, "delete", pods(space, "none"))) == (404, "NotFound")
    await kube.merge_patch(pods(space, "a"), {"metadata": {"labels": {"x": "y"}}})
    assert await refusal(ask(kube, "replace", pods(space, "a"), one)) == (409, "Conflict")


async def test_a_merge_patch_changes_what_it_names_and_nothing_else(kube: Kube, space: str) -> None:
    one = await a_pod(kube, space)
    patched = await kube.merge_patch(pods(space, "a"), {"metadata": {"annotations": {"mine": None, "new": "1"}}})
    assert patched["metadata"]["annotations"] == {"new": "1"}
    assert patched["metadata"]["resourceVersion"] != one["metadata"]["resourceVersion"]
    again = await kube.merge_patch(pods(space, "a"), {"metadata": {"annotations": {"new": "1"}}})
    assert again["metadata"]["resourceVersion"] == patched["metadata"]["resourceVersion"]


async def test_lists_come_in_pages_and_by_selectors(kube: Kube, space: str) -> None:
    for i in range(5):
        await a_pod(kube, space, f"p{i}")
    names, more = [], ""
    for _ in range(3):
        page = await kube.get(pods(space), limit=2, **({"continue": more} if more else {}))
        names += [p["metadata"]["name"] for p in page["items"]]
        more = page["metadata"].get("continue", "")
    assert (names, more) == ([f"p{i}" for i in range(5)], "")
    await kube.create(pods(space, "p1", "binding"), binding(await kube.get(pods(space, "p1")), "node-a"))
    for selectors, want in (
        ({"labelSelector": "app=p3"}, ["p3"]),
        ({"labelSelector": "app,app!=p3,app!=p1"}, ["p0", "p2", "p4"]),
        ({"fieldSelector": "spec.nodeName=node-a"}, ["p1"]),
        ({"fieldSelector": "status.phase!=Failed,metadata.name=p2"}, ["p2"]),
    ):
        found = await kube.get(pods(space), **selectors)
        assert [p["metadata"]["name"] for p in found["items"]] == want


async def test_a_watch_follows_changes_and_what_leaves_its_selector(kube: Kube, space: str) -> None:
    await a_pod(kube, space, "before")
    mirror, progress, stop = Mirror(), Progress(), asyncio.Event()
    selectors = {"fieldSelector": "status.phase!=Succeeded,status.phase!=Failed"}
    task = asyncio.create_task(watch(kube, pods(space), mirror, stop=stop, progress=progress, selectors=selectors))
    await progress.synced.wait()
    assert set(mirror.objects) == {"before"}
    one = await a_pod(kube, space, "after")
    await kube.create(pods(space, "after", "binding"), binding(one, "node-a"))
    await eventually(lambda: mirror.objects.get("after", one)["spec"].get("nodeName") == "node-a")
    assert mirror.objects["after"] == await kube.get(pods(space, "after"))
    await kube.merge_patch(pods(space, "after", "status"), {"status": {"phase": "Succeeded"}})
    await kube.delete(pods(space, "before"))
    await eventually(lambda: not mirror.objects)
    stop.set()
    await task
    assert (mirror.replaced, progress.failures) == (1, 0)


async def test_a_bound_pod_is_deleted_by_its_node_only(kube: Kube, space: str) -> None:
    await kube.create(pods(space, "a", "binding"), binding(await a_pod(kube, space), "node-a"))
    await kube.delete(pods(space, "a"), {"gracePeriodSeconds": 30})
    leaving = await kube.get(pods(space, "a"))
    assert leaving["metadata"]["deletionTimestamp"]
    assert leaving["metadata"]["deletionGracePeriodSeconds"] == 30
    await kube.delete(pods(space, "a"), {"gracePeriodSeconds": 0})
    assert await refusal(ask(kube, "get", pods(space, "a"))) == (404, "NotFound")


async def test_a_lease_is_made_then_renewed(kube: Kube, space: str) -> None:
    for now_s in (100.25, 110.5):
        await renew(kube, space, "node-a", holder="agent", now_s=now_s, lasts_s=40)
        found = await kube.get(lease_path(space, "node-a"))
        assert (epoch_s(found["spec"]["renewTime"]), found["spec"]["holderIdentity"]) == (now_s, "agent")


async def test_a_workload_is_scaled_through_its_scale(kube: Kube, space: str) -> None:
    labels = {"app": "x"}
    template = {"metadata": {"labels": labels}, "spec": {"containers": [MAIN]}}
    spec = {"replicas": 2, "selector": {"matchLabels": labels}, "template": template}
    path = f"/apis/apps/v1/namespaces/{space}/deployments"
    await kube.create(path, {"metadata": {"name": "x"}, "spec": spec})
    assert (await kube.get(f"{path}/x/scale"))["spec"] == {"replicas": 2}
    scaled = await kube.merge_patch(f"{path}/x/scale", {"spec": {"replicas": 5}})
    assert (scaled["kind"], scaled["spec"]) == ("Scale", {"replicas": 5})
    assert (await kube.get(f"{path}/x"))["spec"]["replicas"] == 5
